"""What a correct IPixMatch shows, by the properties that its abstract states (no recording exists)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.parts.interpixel import RELATIONS, class_correlation, spatial_kl

MIDDLE = Clock(50, 100)
BOTH = pytest.mark.parametrize("relation", [spatial_kl, class_correlation])


def maps(seed: int = 0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(3, 4, 5, 6, generator=g, dtype=dtype) for _ in range(2))
    mask = torch.rand(3, 5, 6, generator=g) < 0.4
    return student, teacher, mask


def slow_kl(student, teacher, mask, t):
    total = []
    for b in range(len(mask)):
        places = [(y, x) for y, x in np.ndindex(*mask.shape[1:]) if mask[b, y, x]]
        if len(places) < 2:
            continue
        value = 0.0
        for k in range(student.shape[1]):
            p, q = ([float(z[b, k, y, x] / t) for y, x in places] for z in (teacher, student))
            p, q = (np.exp(s) / np.exp(s).sum() for s in (p, q))
            value += sum(a * np.log(a / c) for a, c in zip(p, q))
        total.append(value * t**2 / student.shape[1])
    return np.mean(total)


def test_the_divergence_by_loops():
    student, teacher, mask = maps()
    mask[1] = False
    mask[1, 0, 0] = True  # one pixel has no relation
    assert spatial_kl(student, teacher, mask, 0.5).item() == pytest.approx(slow_kl(student, teacher, mask, 0.5))


def test_the_correlation_is_numpys():
    student, teacher, mask = maps()
    expected = []
    for b in range(3):
        a, c = (z[b].softmax(0)[:, mask[b]].numpy() for z in (teacher, student))
        expected.append(np.mean([1 - np.corrcoef(a[k], c[k])[0, 1] for k in range(4)]))
    assert class_correlation(student, teacher, mask).item() == pytest.approx(np.mean(expected))


@BOTH
def test_equal_maps_cost_nothing_and_others_do(relation):
    student, teacher, mask = maps()
    assert abs(relation(teacher, teacher, mask).item()) < 1e-9 < relation(student, teacher, mask).item()


@BOTH
def test_the_places_of_the_pixels_do_not_matter(relation):
    student, teacher, mask = maps()
    order = torch.randperm(30)
    shuffled = [t.flatten(-2)[..., order].unflatten(-1, (5, 6)) for t in (student, teacher, mask)]
    assert torch.allclose(relation(*shuffled), relation(student, teacher, mask))


def test_a_constant_on_a_class_matters_to_cross_entropy_but_not_here():
    student, teacher, mask = maps()
    moved = student + torch.tensor([3.0, -1.0, 0.0, 2.0]).view(1, 4, 1, 1)
    assert torch.allclose(spatial_kl(moved, teacher, mask), spatial_kl(student, teacher, mask))


@BOTH
def test_gradients_stay_inside_the_mask_and_off_the_teacher(relation):
    student, teacher, mask = maps()
    student.requires_grad_(), teacher.requires_grad_()
    relation(student, teacher, mask).backward()
    assert teacher.grad is None and student.grad.isfinite().all()
    assert (student.grad.abs().sum(1) > 0)[mask].all() and student.grad.abs().sum(1)[~mask].max() == 0


@BOTH
@pytest.mark.parametrize("case", ["nothing", "one pixel", "constant teacher", "constant student"])
def test_degenerate_images_are_finite(relation, case):
    student, teacher, mask = maps(dtype=torch.float32)
    mask[:] = case.startswith("constant")
    mask[:, 0, 0] |= case == "one pixel"
    {"constant teacher": teacher, "constant student": student}.get(case, torch.zeros(1)).zero_()
    student.requires_grad_()
    value = relation(student, teacher, mask)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all()
    if not case.startswith("constant"):
        assert value == 0 and student.grad.abs().max() == 0


def test_without_the_term_it_is_fixmatch(build, draw):
    ours, theirs = build("ipixmatch", tau=0.0, weight=0.0).eval(), build("fixmatch", tau=0.0).eval()
    batch = draw(ours)
    assert torch.equal(ours.losses(batch, MIDDLE).total, theirs.losses(batch, MIDDLE).total)


@pytest.mark.parametrize("relation", list(RELATIONS))
def test_the_term_reaches_the_student(relation, build, draw):
    method = build("ipixmatch", sure=0.0, relation=relation).train()
    losses = method.losses(draw(method, crop=64), MIDDLE)
    losses["ip"][0].backward()
    assert losses["ip"][0] > 0 and sum(p.grad.abs().sum() for p in method.student.decoder.parameters()) > 0
    with pytest.raises(S4Error, match="correlation"):
        build("ipixmatch", relation="correlatoin")
