"""The recipe: from a photo and its landmarks to an aligned face, its score, hash and rank."""

RECIPE_VERSION = 3
"""Raised whenever faces, scores or hashes change for the same settings, so that stored ones are not used again."""
