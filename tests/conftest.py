"""Shared fixtures: two threads, a clean environment, and where real sample data may be found."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads sleep: several test runs may share the cores

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture
def real_data() -> Path:
    """The folder of real samples named by S4KIT_TEST_DATA; skips, saying so, where it is unset."""
    folder = os.environ.get("S4KIT_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("S4KIT_TEST_DATA names no folder: this check on real files did not run")
    return Path(folder)
