"""USRN: clusters of equal size, the gate, what the branches share (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.kept import Kept
from s4kit.data.task import VOID
from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.parts.balanced import costs, equal_clusters
from s4kit.methods.selftraining.usrn import CLASSES, split_of

CLOCK = Clock(0, 10, stage=1)


def test_clusters_are_of_nearly_equal_size_where_k_means_is_not() -> None:
    torch.manual_seed(0)
    crowd, few = torch.randn(900, 8) * 0.3, torch.randn(100, 8) * 0.3 + 6.0
    points, generator = torch.cat([crowd, few]), torch.Generator().manual_seed(0)
    centres, price = equal_clusters(points, 5, generator)
    sizes = (costs(points, centres) + price).argmin(1).bincount(minlength=5)
    assert int(sizes.min()) >= 140 and int(sizes.max()) <= 260, sizes
    alone, free = equal_clusters(few, 1, generator)
    torch.testing.assert_close(alone[0], few.mean(0))
    assert free.tolist() == [0.0]
    assert equal_clusters(few[:2], 4, generator)[0].isfinite().all(), "fewer points than clusters"


def test_the_split_follows_the_shares() -> None:
    assert split_of(torch.tensor([700, 200, 99, 1]), 20) == [14, 4, 2, 1]
    with pytest.raises(S4Error, match="one number from 1 on per class"):
        methods.create("usrn", toy_task(), net="tiny", split=(1, 2, 3))
    with pytest.raises(S4Error, match="255 in all"):
        methods.create("usrn", toy_task(), net="tiny", split=(250, 2, 3, 4))


def made(build, **options):
    return build("usrn", split=(3, 2, 1, 1), **options)


def test_the_gate(build) -> None:
    method = made(build)
    c = torch.tensor([[4.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]).mT[None, :, :, None]
    s = torch.zeros(1, 7, 3, 1)
    s[0, 0, 0], s[0, 0, 1], s[0, 0, 2] = 1.0, 9.0, 9.0  # subclass 0, whose class is 0: hardly, surely, surely
    y = method.judged(c, s)
    p = c.softmax(1)
    assert y.label.flatten().tolist() == [0, 0, 0] and y.sub.flatten().tolist() == [0, 0, 0]
    torch.testing.assert_close(y.confidence.flatten(), p[0, 0, :, 0]), "not normalised again"
    assert y.kept.flatten().tolist() == [True, False, False] and y.sub_kept.flatten().tolist() == [False, True, True]
    free = method.judged(c, torch.zeros_like(s))
    assert torch.equal(free.label, p.argmax(1)), "where the subclasses are less sure the gate is open"


def test_subclass_losses_reach_the_first_level_alone_of_the_class_branch(build, draw) -> None:
    method = made(build).train()
    losses = method.losses(draw(method), CLOCK)
    (losses["x_sub"][0] + losses["u_sub"][0]).backward()
    net = method.student
    assert any(p.grad is not None and p.grad.any() for p in net.backbone.stages[0].parameters())
    rest = [*net.backbone.stages[1:].parameters(), *net.decoder.parameters()]
    assert all(p.grad is None or not p.grad.any() for p in rest)
    assert not list(method.subclass.backbone.stages[0].parameters())


def test_nothing_is_kept_at_the_highest_threshold(build, draw) -> None:
    method = made(build, tau=1.0).train()
    losses = method.losses(draw(method), CLOCK)
    assert losses["u"][0] == 0 == losses["u_sub"][0]
    assert losses.seen[f"{CLASSES}/target"].label.shape == (2, 32, 32)


def test_labelled_images_get_subclasses_of_their_classes(tmp_path) -> None:
    task = toy_task(n_labelled=4, n_unlabelled=4)
    torch.manual_seed(0)
    method = methods.create("usrn", task, net="tiny", total=12)
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=1, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=4, out=tmp_path / "run", **settings)
    seen = set()
    for row in task.labelled:
        label = task.train.read(row).label.long()
        name = torch.from_numpy(Kept(str(run.path / "store"), 1).read("subclass", row)).long()
        known = name != VOID
        assert float(known.float().mean()) > 0.5 and bool((label[known] != VOID).all())
        assert torch.equal(method.parent[name[known]], label[known])
        seen |= set(name[known].tolist())
    assert len(seen) > sum(method.split) // 2
