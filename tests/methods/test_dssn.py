"""DSSN's selection, siamese term and warm stage (parity with the release: tests/golden)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import toy_task

from s4kit.methods import Clock, create
from s4kit.methods.cotraining.dssn import class_wise, siamese
from s4kit.views import STRONG, Batch, Chain, Intensity, draw_step, render

LATER = Clock(50, 100, epoch_steps=10)


def made(**options) -> tuple[torch.nn.Module, Batch]:
    torch.manual_seed(0)
    task = toy_task()
    method = create("dssn", task, net="tiny", **options)
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


def test_the_selection_pixel_by_pixel() -> None:
    p = (6 * torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(1))).softmax(1)
    found = class_wise(p).numpy()
    for b in range(2):
        wanted = np.zeros((9, 8))
        for c in range(4):
            q = p[b, c].numpy()
            most = q.max()
            wanted += q > (np.float32(0.96) * most if most > 0.92 else most)
        assert np.array_equal(found[b], wanted) and wanted.max() <= 1 and wanted.sum() > 0


def test_an_unsure_image_selects_nothing_and_a_sure_one_nearly_all() -> None:
    assert class_wise(torch.full((1, 4, 5, 5), 0.25)).sum() == 0
    sure = torch.nn.functional.one_hot(torch.arange(25).view(1, 5, 5) % 4, 4).permute(0, 3, 1, 2) * 0.99 + 0.0025
    assert class_wise(sure.float()).mean() == 1


def test_the_siamese_term_is_blind_to_offset_and_scale() -> None:
    a = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    offset, scale = torch.randn(2, 1, 6, 6), torch.rand(2, 1, 6, 6) + 0.5
    assert siamese(a, a * scale + offset) < 1e-9
    z = torch.stack([(x - x.mean()) / x.std() for x in a.permute(0, 2, 3, 1).reshape(-1, 4)])
    w = torch.stack([(x - x.mean()) / x.std() for x in (-a).permute(0, 2, 3, 1).reshape(-1, 4)])
    torch.testing.assert_close(siamese(a, -a), ((z - w) ** 2).mean())
    assert siamese(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)) == 0, "no deviation, no NaN"


def test_both_members_of_a_pair_learn() -> None:
    a, b = (torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(k), requires_grad=True) for k in (0, 1))
    siamese(a, b).backward()
    torch.testing.assert_close(a.grad.abs().sum() > 0, torch.tensor(True))
    assert b.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("warm", "clock", "warming"),
    [(0, Clock(0, 100), True), (0, Clock(1, 100), False), (5, Clock(49, 100, 10), True), (5, LATER, False)],
)
def test_in_the_warm_stage_the_teacher_is_the_student(warm: int, clock: Clock, warming: bool) -> None:
    method, batch = made(warm=warm)
    losses = method.losses(batch, clock)
    assert (losses["s1"][1] == losses["s2"][1] == 0) == warming and losses["fp"][1] == 0.125
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    method.after_step(clock)
    same = all(torch.equal(a, b) for a, b in zip(method.teacher.parameters(), method.student.parameters()))
    assert same == warming


def test_a_mixed_image_is_one_image_to_the_selection() -> None:
    method, batch = made()
    losses = method.losses(batch, LATER)
    target = losses.seen["strong views/target"]
    t_u, t_v = (method.teacher(view.weak) for view in (batch.u, batch.v))
    mixed = torch.where(batch.u.masks[0][:, None], t_v, t_u)
    assert torch.equal(target.weight, class_wise(mixed.softmax(1))) and torch.equal(target.label, mixed.argmax(1))


def test_the_dropped_views_learn_the_students_own_label() -> None:
    method, batch = made(tau=0.0)
    losses = method.losses(batch, LATER)
    own, z = losses.seen["dropped features/target"], losses.seen["dropped features/student"]
    cost = torch.nn.functional.cross_entropy(z, own.label, reduction="none") * own.valid
    torch.testing.assert_close(losses["fp"][0].detach(), cost.sum() / own.valid.sum())
    assert torch.equal(losses.seen["dropped features/mixed"], batch.u.weak)
    assert not torch.equal(z, losses.seen["strong views/student"])


def test_recipes_in_a_chain_apply_in_turn() -> None:
    image, chain = torch.rand(2, 3, 16, 16), Chain(STRONG, Intensity())
    draws = [chain.draw(np.random.default_rng(k)) for k in range(2)]
    params = {key: np.stack([d[key] for d in draws]) for key in draws[0]}
    parts = [{k[2:]: v for k, v in params.items() if k.startswith(f"{n}/")} for n in (0, 1)]
    assert torch.equal(chain.apply(image, params), Intensity().apply(STRONG.apply(image, parts[0]), parts[1]))
    plain, with_intensity = made(intensity=False)[0], made()[0]
    assert plain.views["u"].strong == (STRONG, STRONG) and isinstance(with_intensity.views["u"].strong[0], Chain)
