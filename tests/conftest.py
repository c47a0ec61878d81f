"""Shared fixtures: two threads or processes, a clean environment, and where real sample data may be found."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads sleep: several test runs may share the cores
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # said, so that no training times its steps and chooses others

import pytest
import torch

WORKERS = 2  # processes of a whole run

torch.set_num_threads(THREADS)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A whole run is shared by two processes with a thread each; named files, folders or tests run in this one."""
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS and not config.getoption("collectonly")
    return WORKERS if whole and (os.cpu_count() or 1) > 1 else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, or one process would wait for the other's last. Tests of the marker `gpu` are
    skipped, saying so, where PyTorch sees no CUDA device."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)
    if not torch.cuda.is_available():
        reason = pytest.mark.skip(reason="no CUDA device: what only a GPU can show was not looked at")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(reason)


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """No test cuts the power: a file that is whole once it is closed will do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def nursery() -> Iterator[Any]:
    """Where kernels come from that have imported the kit: `with nursery.used(): ...`."""
    from kernels import Nursery

    found = Nursery()
    yield found
    found.close()


@pytest.fixture
def real_data() -> Path:
    """The folder of real samples named by S4KIT_TEST_DATA; skips, saying so, where it is unset."""
    folder = os.environ.get("S4KIT_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("S4KIT_TEST_DATA names no folder: this check on real files did not run")
    return Path(folder)
