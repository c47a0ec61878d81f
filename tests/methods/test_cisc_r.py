"""What a correct CISC-R shows (parity with the release: tests/golden)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from s4kit.methods import Clock
from s4kit.methods.contrastive.cisc_r import class_vectors, consistency, rectified, similarity
from s4kit.methods.parts.losses import ce_map

MIDDLE = Clock(50, 100)


def test_perfect_features_give_the_map_and_weights_of_one() -> None:
    label, other = torch.randint(0, 3, (2, 6, 6)), torch.randint(0, 3, (2, 6, 6))
    features, theirs = (F.one_hot(t, 3).permute(0, 3, 1, 2).float() for t in (label, other))
    maps = [(t == 1).float() for t in (label, other)]
    s = similarity(features, class_vectors(theirs, maps[1]), (6, 6))
    torch.testing.assert_close(s, maps[0])
    z = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(rectified(z, label, maps[0], s), ce_map(z, label))
    assert consistency(features, theirs, *maps, label, other) < 1e-4


def test_without_a_shared_class_it_is_the_plain_cross_entropy_over_all_pixels() -> None:
    z, label, nothing = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6)), torch.zeros(2, 6, 6)
    label[0, 0] = 255
    s = similarity(torch.rand(2, 5, 3, 3), class_vectors(torch.rand(2, 5, 3, 3), nothing), (6, 6))
    assert (s == 0).all()
    each = rectified(z, label, nothing, s)
    torch.testing.assert_close(each, ce_map(z, label))
    assert (each[0, 0] == 0).all() and consistency(*[torch.rand(2, 5, 3, 3)] * 2, nothing, nothing, label, label) == 0


def test_exchanged_roles_exchange_the_terms() -> None:
    torch.manual_seed(0)
    one, two = torch.rand(2, 5, 3, 3), torch.rand(2, 5, 3, 3)
    maps, labels = torch.randint(0, 2, (2, 2, 6, 6)).float(), torch.randint(0, 3, (2, 2, 6, 6))
    there, back = (
        consistency(*f, *m, *y) for f, m, y in (((one, two), maps, labels), ((two, one), maps.flip(0), labels.flip(0)))
    )
    torch.testing.assert_close(there, back)


def test_the_query_finds_an_image_with_the_class_and_never_a_small_or_an_excluded_one(build) -> None:
    method = build("cisc_r", area=0.1, first=1)
    label = torch.zeros(4, 10, 10).long()
    label[0, :3], label[1, :2], label[2, :5], label[3, 0, :5] = 1, 2, 1, 3
    for seed in range(5):
        torch.manual_seed(seed)
        q = method.query(label, label, itself=False)
        assert q.partner[0] == 2 and q.partner[2] == 0
        assert torch.equal(q.own[0], (label[0] == 1).float()) and torch.equal(q.theirs[0], (label[2] == 1).float())
        assert (q.own[1] == 0).all() and (q.own[3] == 0).all() and (q.theirs[[1, 3]] == 0).all()
    assert torch.equal(method.query(label, label).own[1], (label[1] == 2).float()), "of itself"
    label[1].fill_(255)
    assert (method.query(label, label).own[1] == 0).all()


def test_first_the_teacher_learns_labels_then_it_is_frozen(build, draw) -> None:
    method = build("cisc_r", area=0.0).train()
    first, second = method.stages()
    batch = draw(method, batch=3)
    losses = first.losses(batch, MIDDLE)
    (grad,) = torch.autograd.grad(losses["x_cisc"][0], method.teacher.decoder.convs[0][0].weight)
    assert grad.abs().sum() > 0
    found = method.losses(batch, MIDDLE)
    found.total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert second.train == (method.student,) and found.seen["loss"].min() >= 0
    assert (found.seen["loss"] <= ce_map(method.student(batch.u.strong[0]), found.seen["target"].label) + 1).all()
