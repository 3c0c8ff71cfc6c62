"""What all tests share: real data beside the project, English texts, one thread, no time limit for single examples."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

os.environ["AFINA_LANG"] = "en"
os.environ["OMP_NUM_THREADS"] = "1"  # the models are tiny: a second thread only waits
hypothesis.settings.register_profile("afina", deadline=None)
hypothesis.settings.load_profile("afina")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test material beside the repository; the test skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real test material is not there: {SHARED_DATA}")
    return SHARED_DATA
