"""Minibatches of reals: a pure function of the seed and the images seen."""
