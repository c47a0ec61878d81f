"""Real batches of the toy task, and methods on the tiny network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from toy import ToyKept, toy_task

from s4kit import methods
from s4kit.methods import Method
from s4kit.views import Batch, draw_step, render


@pytest.fixture(scope="session")
def task() -> Any:
    task = toy_task()
    return replace(task, kept=ToyKept(task.train))


@pytest.fixture
def build(task: Any) -> Callable[..., Method]:
    """`build("fixmatch", tau=0.3)`: the same weights every time."""

    def make(name: str, **options: Any) -> Method:
        torch.manual_seed(0)
        return methods.create(name, task, **{"net": "tiny", **options})

    return make


@pytest.fixture
def draw(task: Any) -> Callable[..., Batch]:
    """`draw(method, batch=2, crop=32, micro=0)`: a batch of the method's views (or those of `plan`) of the toy task."""

    def batch_of(method: Method, batch: int = 2, crop: int = 32, micro: int = 0, plan: Any = None) -> Batch:
        plan = plan or method.views
        return render(draw_step(task.with_(crop=crop), plan, batch, 0, 0, micro), plan)

    return batch_of
