"""CPCL's two roles (parity with the release: tests/golden)."""

from __future__ import annotations

import numpy as np
import torch
from toy import toy_task

from s4kit.methods import Clock, create
from s4kit.methods.cotraining.cpcl import disagreement
from s4kit.views import Batch, draw_step, render

CLOCK = Clock(0, 10)


def made(**options) -> tuple[torch.nn.Module, Batch]:
    torch.manual_seed(0)
    task = toy_task()
    method = create("cpcl", task, net="tiny", **options)
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


def evidence(seed: int = 0, size: tuple[int, int] = (7, 9), classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(2 * torch.randn(2, classes, *size, generator=generator) for _ in range(2))


def roles(method, logits) -> dict:
    view = made()[1].u
    view.valid = torch.ones(len(logits[0]), *logits[0].shape[2:])
    return method.pseudo_labels(logits, view, CLOCK)


def test_labels_and_weights_pixel_by_pixel() -> None:
    method, _ = made()
    logits = evidence()
    found = roles(method, logits)
    p = [z.softmax(1).numpy() for z in logits]
    a, b = (q.argmax(1).ravel() for q in p)
    c_a, c_b = (q.max(1).ravel() for q in p)
    matrix = np.eye(4)
    for i, j in zip(a, b):
        matrix[i, j] += 1
    w = np.array(
        [1 - matrix[k, k] / matrix[:, k].sum() + 1 - matrix[k, k] / matrix[k].sum() for k in range(4)]
    )  # written out: column, then row
    w = w / (w.sum() + 1e-6)
    np.testing.assert_allclose(disagreement(torch.tensor(a), torch.tensor(b), 4).numpy(), w, rtol=1e-5)
    inter, union = (
        {k: getattr(found[n], k).numpy().ravel() for k in ("label", "weight")} for n in ("conservative", "progressive")
    )
    for k, (i, j) in enumerate(zip(a, b)):
        agreed = i == j
        mean = (c_a[k] + c_b[k]) / 2
        assert inter["weight"][k] == (np.float32(mean) if agreed else 0) or np.isclose(inter["weight"][k], mean)
        assert not agreed or inter["label"][k] == i
        wanted = (i, mean) if agreed else (i, c_a[k]) if w[i] > w[j] else (j, c_b[k])
        assert union["label"][k] == wanted[0] and np.isclose(union["weight"][k], wanted[1])


def test_equal_networks_agree_everywhere() -> None:
    method, batch = made()
    method.net2.load_state_dict(method.net1.state_dict())
    losses = method.losses(batch, CLOCK)
    torch.testing.assert_close(losses["intersection"][0], losses["union"][0])
    label = losses.seen["progressive/target"].label
    assert torch.equal(label, losses.seen["conservative/target"].label)
    assert torch.equal(disagreement(label, label, 4), torch.zeros(4))


def test_networks_that_never_agree_leave_the_conservative_one_alone() -> None:
    method, _ = made()
    first = torch.zeros(2, 4, 5, 5)
    first[:, 0] = 3.0
    second = first.roll(1, dims=1)
    found = roles(method, (first, second))
    assert (found["conservative"].weight == 0).all() and (found["progressive"].label == 1).all(), "ties go to network 2"


def test_the_order_of_the_networks_matters_at_ties_alone() -> None:
    a, b = (z.argmax(1) for z in evidence(1))
    w = disagreement(a, b, 4)
    torch.testing.assert_close(w, disagreement(b, a, 4))
    assert 0 < w.sum() <= 1
    method, _ = made()
    one, two = roles(method, evidence(1)), roles(method, evidence(1)[::-1])
    tie = w[a] == w[b]
    assert torch.equal(one["progressive"].label[~tie], two["progressive"].label[~tie])


def test_each_network_learns_its_own_label_over_all_pixels() -> None:
    method, batch = made()
    losses = method.losses(batch, CLOCK)
    for name, net in (("conservative", method.net1), ("progressive", method.net2)):
        target, z = losses.seen[f"{name}/target"], net(losses.seen["mixed"])
        cost = torch.nn.functional.cross_entropy(z, target.label, reduction="none") * target.weight
        term = losses["intersection" if name == "conservative" else "union"][0]
        torch.testing.assert_close(term, cost.mean())
    assert (losses.seen["progressive/target"].valid == 1).all()
