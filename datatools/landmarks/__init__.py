"""Find faces and their five points in photos: from annotations, or by a detector.

Importing this does not load torch; using a detector does.
"""

from datatools.landmarks.base import Face, LandmarkSource, Photo, nearest_face, select_faces

__all__ = ["Face", "LandmarkSource", "Photo", "nearest_face", "select_faces"]
