"""Public name of `pggan.training.models.load_model`."""

from pggan.training.models import load_model

__all__ = ["load_model"]
