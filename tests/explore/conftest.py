from pathlib import Path

import pytest
from explored import train_runs

import s4kit as s4


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of FixMatch and CPS (two pseudo-labels) on the same task."""
    return train_runs(tmp_path_factory.mktemp("explored"), "fixmatch", "cps")


@pytest.fixture
def widget(runs):
    """An explorer over both runs: FixMatch's one pseudo-label and CPS' two."""
    pytest.importorskip("anywidget", reason="anywidget is not installed: no widget to test")
    return s4.explore([str(runs["fixmatch"]), s4.open_run(runs["cps"])])
