"""The recipe: from a photo and its landmarks to an aligned face, its score, hash and rank."""

RECIPE_VERSION = 3
"""Raise it when the faces, scores or hashes of the same settings change, or what a shard stores of them."""
