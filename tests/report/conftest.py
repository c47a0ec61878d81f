"""One data set on disk and one finished run for all tests of the reports."""

from pathlib import Path

import pytest
from toy_folder import flags, write_folder

from s4kit.cli import main


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="session")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "fixmatch"
    assert main(["train", "fixmatch", *flags(squares, 6), "--out", str(out)]) == 0
    return out
