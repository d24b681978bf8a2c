"""Random transforms of everything that the discriminator sees, for training with few pictures."""
