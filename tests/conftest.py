"""Shared fixtures. Real photos are read only from the folder that CELEBAHQ_TEST_DATA names."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Folder with `celeba_sample/`, `celebahq_published/` ...; the test is skipped where there is none."""
    folder = os.environ.get("CELEBAHQ_TEST_DATA")
    if not folder:
        pytest.skip("CELEBAHQ_TEST_DATA is not set: no sample photos on this machine")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"CELEBAHQ_TEST_DATA={folder} is not a folder")
    return path
