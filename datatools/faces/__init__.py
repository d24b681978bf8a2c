"""The recipe: from a photo and its landmarks to an aligned face, its score, hash and rank."""
