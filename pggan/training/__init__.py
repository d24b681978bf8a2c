"""A training run: the loop, its steps, and what it keeps on disk."""
