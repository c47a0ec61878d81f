"""LPL: labels among the classes that are there, who learns from what, and trust (parity: tests/golden)."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.kept import Kept
from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.base import Optim
from s4kit.methods.parts.present import allowed, class_aware, class_aware_map, within
from s4kit.methods.selftraining.learning_pseudo_label import HYBRID, PSEUDO

CLOCK = Clock(0, 10)


def test_the_class_aware_softmax_is_of_the_classes_that_are_there() -> None:
    torch.manual_seed(0)
    z = (10 + 3 * torch.randn(2, 5, 4, 4)).requires_grad_()  # beside which the 1e-5 is small
    everything = torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(class_aware(z, everything)[1].exp(), z.softmax(1), atol=2e-4, rtol=0)
    there = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 1, 0, 0]]) > 0
    q = class_aware(z, there)[0]
    torch.testing.assert_close(q, within(z, there).softmax(1), atol=1e-3, rtol=0)
    class_aware_map(z, within(z, there).argmax(1), there).sum().backward()
    assert not z.grad[~there].any() and z.grad[0, 0].any()
    shifted = class_aware(z.detach() + 200, there)[0]  # exp of this is no float32
    torch.testing.assert_close(shifted, within(z, there).softmax(1).detach(), atol=1e-4, rtol=0)
    steep = torch.zeros(1, 2, 1, 1)
    steep[0, 1] = 500.0
    assert all(t.isfinite().all() for t in class_aware(steep, torch.tensor([[True, False]])))


def test_what_is_allowed(build, draw) -> None:
    method = build("learning_pseudo_label")
    view = draw(method, plan=method.stages()[0].views).u
    assert torch.equal(allowed(view, 4, False), view.tags > 0)
    view.tags[0] = 0
    assert allowed(view, 4, False)[0].all() and allowed(view, 4)[0].tolist() == [True, False, False, False]
    view.tags = None
    assert allowed(view, 4).all()


def test_who_learns_from_what(build, draw) -> None:
    method = build("learning_pseudo_label")
    plan = method.stages()[0].views
    losses = method.train().together(draw(method, plan=plan), CLOCK)
    reached = {}
    for name in losses:
        method.zero_grad()
        losses[name][0].backward(retain_graph=True)
        nets = {"hybrid": method.hybrid, "pseudo": method.pseudo, "student": method.student}
        reached[name] = {key for key, net in nets.items() if any(p.grad is not None for p in net.parameters())}
    assert reached == {"x": {"hybrid"}, "pseudo": {"pseudo"}, "tags": {"hybrid"}, "pct": {"hybrid"}}
    specs = method.optimisers(Optim([], 0.1))
    assert specs["pseudo"].schedule(Clock(9, 10)) == 1 > specs["hybrid"].schedule(Clock(9, 10))


def test_trust_is_the_worst_class_to_a_power(build) -> None:
    method = build("learning_pseudo_label", background=False)
    label = torch.randint(0, 4, (2, 8, 8))
    for _ in range(2):
        method.count(label, label, torch.ones(2, 8, 8))
    assert (method.iou() > 0.9).all() and (method.iou() <= 1).all()
    before = method.areas.clone()
    method.count(torch.full_like(label, VOID), label, torch.zeros(2, 8, 8))
    torch.testing.assert_close(method.areas, before * 0.99)
    method.areas.copy_(torch.tensor([[10.0, 10, 10, 10], [5, 9, 10, 0], [5, 9, 0, 0]]))  # iou 0.5, 0.9, 0, 0
    there = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]]) > 0
    expected = torch.tensor([0.5, 0.9, 0.9]) ** 8
    torch.testing.assert_close(method.trust(there), expected)


def test_labels_are_of_the_classes_that_are_there_and_human_ones_stay(build, draw) -> None:
    method = build("learning_pseudo_label")
    view = draw(method, batch=4, plan=method.stages()[0].views).u
    view.labelled[0] = True
    view.label[0] = 2
    view.label[0, :3] = VOID
    found = method.pseudo_labels(method.teach(view), view, CLOCK)
    for name in (HYBRID, PSEUDO):
        labels = found[name]
        assert (labels.label[0, 3:] == 2).all() and not labels.weight[0, :3].any() and (labels.weight[0, 3:] > 0).all()
        there = allowed(view, 4)
        assert all(there[k, labels.label[k].unique()].all() for k in range(1, 4))


def test_the_third_network_has_one_mean_over_all_labels(build, draw) -> None:
    method = build("learning_pseudo_label").eval()
    method.requires_grad_(False)
    batch = draw(method, batch=4)
    images = torch.cat([batch.x.weak, batch.u.weak])
    labels = [torch.where(v.labelled[:, None, None], v.label, v.maps["label"]) for v in (batch.x, batch.u)]
    expected = torch.nn.functional.cross_entropy(method.student(images), torch.cat(labels), ignore_index=VOID)
    torch.testing.assert_close(method.losses(batch, Clock(0, 10, stage=1)).total, expected)


@pytest.mark.parametrize("rate", [1.0, 7.0])
def test_two_stages(rate, tmp_path) -> None:
    task = toy_task(n_unlabelled=3)
    torch.manual_seed(0)
    method = methods.create("learning_pseudo_label", task, net="tiny", scales=(1.0,), rate=rate)
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=1, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=4, out=tmp_path / "run", **settings)
    kept = Kept(str(run.path / "store"), 1)
    for row in task.unlabelled:
        assert set(kept.read("label", row).flatten().tolist()) <= {0, *task.train.label(row).flatten().tolist()}
    assert run.weak_labels == "tags"
