"""Getting the data sets: where they are, downloads that can be resumed, unpacking, and what a folder has of CelebA."""
