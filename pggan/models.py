"""Public name of `pggan.model.files.load_model`."""

from pggan.model.files import load_model

__all__ = ["load_model"]
