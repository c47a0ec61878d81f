from pathlib import Path

import pytest
from explored import train_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of FixMatch and CPS (two pseudo-labels) on the same task."""
    return train_runs(tmp_path_factory.mktemp("explored"), "fixmatch", "cps")
