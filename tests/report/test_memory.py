"""Peak memory by PyTorch's own book-keeping."""

import torch
from toy import toy_task

from s4kit.methods import create
from s4kit.methods.base import Optim
from s4kit.report.planning.memory import step_peak, tracked


def test_the_peak_is_the_largest_sum_of_live_tensors():
    with tracked() as peak:
        a = torch.ones(1000, 1000)
        b = a + 1
        del a
        c = b * 2
    assert 8e6 <= peak.bytes < 8.2e6
    del b, c


def test_two_networks_need_more_than_one():
    task, recipe = toy_task(), Optim([], lr=1e-3, kind="adamw")
    one, two = (
        step_peak(lambda n=name: create(n, task, net="tiny"), task, 2, recipe) for name in ("supervised", "cps")
    )
    assert 1e5 < one < two
