"""Fixtures that several rooms' tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it skip, saying so, where it is not."""
    folder = os.environ.get("WINNOW_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("WINNOW_REAL_DATA names no folder with real data")
    return Path(folder).resolve()
