"""What `s4kit verify` looks at, as tests: `pytest -m gpu`, on a machine with a CUDA device and nothing else on it."""

from __future__ import annotations

import pytest
import torch

from s4kit import methods
from s4kit.report.verify.checks import FAILED, Bench, Time
from s4kit.report.verify.run import PARTS, _half

pytestmark = pytest.mark.gpu
SECONDS = 600.0  # that a part may take
PART = {part.name: part for part in PARTS}


@pytest.fixture(scope="module")
def bench() -> Bench:
    """Shared, so that what one part has measured is there for the next."""
    device = torch.device("cuda", 0)
    return Bench(device, False, (), _half(device))


def holds(part: str, bench: Bench) -> None:
    wrong: list[str] = []

    def say(name: str, level: str, found: str, send: str = "") -> None:
        if level == FAILED:
            wrong.append(f"{name}: {found}")

    PART[part].run(bench, say, Time(SECONDS))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", methods.names())
def test_steps_of_a_method(name, bench):
    bench.methods = (name,)
    holds("steps", bench)


@pytest.mark.parametrize("part", [name for name in PART if name != "steps"])
def test_part(part, bench, monkeypatch, tmp_path):
    monkeypatch.setenv("S4KIT_CACHE", str(tmp_path))  # what tests measure is nothing to plan by
    bench.methods = tuple(methods.names())
    holds(part, bench)
