"""Trains progressive GANs (Karras et al., ICLR 2018) from a pyramid file, level by level."""
