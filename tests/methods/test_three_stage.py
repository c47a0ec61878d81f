"""Three-Stage: which branch learns from what, and that labels move with the pixels (parity: tests/golden)."""

from __future__ import annotations

import math

import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.kept import Kept
from s4kit.methods import Clock
from s4kit.methods.selftraining import three_stage
from s4kit.methods.selftraining.three_stage import KEPT, TEACHER, moved
from s4kit.views import draw_affine, warp

CLOCK = Clock(0, 10, stage=2)


def test_labels_move_with_the_pixels() -> None:
    torch.manual_seed(0)
    theta = draw_affine(torch.zeros(6, 32, 32), p=1.0, shift=0.1)
    half = torch.zeros(6, 32, 32)
    half[:, :, 16:] = 1.0
    image, label = warp(half, theta), moved(half.long() + 1, theta)
    inside = label > 0
    assert 0.5 < float(inside.float().mean()) < 1.0
    assert float(((image > 0.5) == (label == 2))[inside].float().mean()) > 0.99
    still = draw_affine(torch.zeros(6, 32, 32), p=0.0)
    assert torch.equal(still, torch.eye(2, 3).expand(6, -1, -1))
    assert torch.equal(moved(half.long() + 1, still), half.long() + 1)


def test_a_rotation_keeps_distances_in_pixels() -> None:
    torch.manual_seed(1)
    theta = draw_affine(torch.zeros(200, 20, 60), p=1.0, shear=0.0, shift=0.0)
    half = torch.tensor([60.0, 20.0]) / 2  # from coordinates of -1 to 1 to pixels, x first
    in_pixels = half[:, None] * theta[:, :, :2] / half[None, :]
    torch.testing.assert_close(in_pixels @ in_pixels.mT, torch.eye(2).expand(200, -1, -1), atol=1e-5, rtol=0)
    angles = torch.atan2(in_pixels[:, 1, 0], in_pixels[:, 0, 0]) * 180 / math.pi
    assert 25 < float(angles.abs().max()) <= 30


def test_kept_labels_do_not_teach_the_main_classifier(build, draw) -> None:
    method = build("three_stage").train()
    batch = draw(method)
    losses = method.losses(batch, CLOCK)
    losses["kept"][0].backward()
    net = method.student
    assert all(p.grad is None or not p.grad.any() for p in net.decoder.classifier.parameters())
    assert any(p.grad is not None and p.grad.any() for p in net.backbone.parameters()), "the trunk is shared"
    assert any(p.grad is not None and p.grad.any() for p in net.heads["classifier"].parameters())
    assert all(p.grad is None for p in net.heads["decoder"].parameters())
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_judges_labelled_images_as_well(build, draw, monkeypatch) -> None:
    method = build("three_stage", weight=1.0).eval()
    method.requires_grad_(False)
    monkeypatch.setattr(three_stage, "draw_affine", lambda image: torch.eye(2, 3).expand(len(image), -1, -1))
    batch = draw(method)
    losses = method.losses(batch, CLOCK)
    z = method.student.joint(batch.x.weak, losses.seen["mixed"])
    target = torch.cat([method.teacher(batch.x.weak), method.teacher(batch.u.weak)]).argmax(1)
    valid = torch.cat([batch.x.valid, batch.u.valid]) > 0
    expected = torch.nn.functional.cross_entropy(
        torch.cat([part.logits for part in z]), target.where(valid, 255), ignore_index=255
    )
    torch.testing.assert_close(losses["teacher"][0], expected)
    assert torch.equal(losses.seen[f"{KEPT}/target"].weight > 0, batch.u.maps["label"] != 255)
    assert torch.equal(losses.seen[f"{TEACHER}/target"].label, method.teacher(batch.u.weak).argmax(1))


def test_the_memory_grows() -> None:
    """One step behind a student that is 1 everywhere, a teacher that was 0 has 1 - a."""
    for given, expected in (
        ({}, (0.99, 0.99, 0.995, 0.9975, 0.999)),
        ({"decays": (0.5, 0.6, 0.7, 0.8)}, (0.5, 0.5, 0.6, 0.7, 0.8)),
    ):
        method, grown = methods.create("three_stage", toy_task(), net="tiny", **given), []
        for p in method.student.parameters():
            p.data.fill_(1.0)
        for step in (0, 32, 34, 70, 90):
            for p in method.teacher.parameters():
                p.data.zero_()
            method.after_step(Clock(step, 100))
            grown.append(1 - next(method.teacher.parameters()).flatten()[0].item())
        torch.testing.assert_close(torch.tensor(grown), torch.tensor(expected), atol=1e-6, rtol=0)


def test_all_images_are_labelled_twice(tmp_path) -> None:
    task = toy_task(n_unlabelled=3)
    torch.manual_seed(0)
    method = methods.create("three_stage", task, net="tiny", many=2)
    settings = dict(batch=1, lr=1e-2, optimiser="sgd", probes=1, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=6, out=tmp_path / "run", **settings)
    for stage in (1, 2):
        kept = Kept(str(run.path / "store"), stage)
        assert all(kept.path("label", row).is_file() for row in task.rows("all"))
    assert [stage["name"] for stage in run.rounds] == ["labels alone", "second decoder", "second classifier"]
