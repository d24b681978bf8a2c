"""Photos, faces and the CelebA-HQ pyramid file; a library that knows neither Luigi nor training."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("celebahq")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
