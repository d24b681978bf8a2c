"""Latents, grids of pictures and films."""
