"""The pyramid file: every face at all resolutions from 1024 x 1024 down to 4 x 4, for any reader of HDF5.

    from datatools.pyramid import Pyramid
    faces = Pyramid("celebahq.h5")
    batch = faces[256][:16]  # (16, 3, 256, 256) uint8

The names below are the public API. docs/pyramid-format.md describes the contents of the file.
"""

from datatools.pyramid.convert import convert
from datatools.pyramid.format import COMPRESSIONS, Provenance
from datatools.pyramid.join import join
from datatools.pyramid.levels import build_levels, level_resolutions
from datatools.pyramid.reader import Level, Pyramid
from datatools.pyramid.verify import verify
from datatools.pyramid.writer import PyramidWriter

RESOLUTIONS = (256, 512, 1024)  # top levels that the build offers; a file may have any power of two from 4 to 1024

__all__ = [
    "COMPRESSIONS",
    "RESOLUTIONS",
    "Level",
    "Provenance",
    "Pyramid",
    "PyramidWriter",
    "build_levels",
    "convert",
    "join",
    "level_resolutions",
    "verify",
]
