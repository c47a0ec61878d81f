"""Real batches of the toy task, and methods on the tiny network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from toy import ToyKept, tiny, toy_for, toy_points, toy_rooms, toy_task

from s4kit import methods
from s4kit.data.objects import MaskEvaluation
from s4kit.methods import Method
from s4kit.views import Batch, draw_step, render


@pytest.fixture(scope="session")
def task() -> Any:
    task = toy_task()
    return replace(task, kept=ToyKept(task.train))


@pytest.fixture(scope="session")
def task_of(task: Any) -> Callable[[str], Any]:
    """`task_of("shape3d")`: the toy task that a method learns from."""
    rooms = toy_rooms()
    rooms = replace(rooms, kept=ToyKept(rooms.train))
    tasks = task, toy_points(), replace(task, name="toy objects", evaluation=MaskEvaluation(4)), rooms
    return lambda name: toy_for(methods.get(name), tasks)


@pytest.fixture
def build(task_of: Callable[[str], Any]) -> Callable[..., Method]:
    """`build("fixmatch", tau=0.3)`: the same weights every time."""

    def make(name: str, **options: Any) -> Method:
        torch.manual_seed(0)
        task = task_of(name)
        return methods.create(name, task, **tiny(name, task) | options)

    return make


@pytest.fixture
def draw(task_of: Callable[[str], Any]) -> Callable[..., Batch]:
    """`draw(method, batch=2, crop=32, micro=0)`: a batch of the method's views (or those of `plan`) of the toy task."""

    def batch_of(method: Method, batch: int = 2, crop: int = 32, micro: int = 0, plan: Any = None) -> Batch:
        plan, task = plan or method.views, task_of(method.name)
        return render(draw_step(task.with_(crop=task.crop and crop), plan, batch, 0, 0, micro), plan)

    return batch_of
