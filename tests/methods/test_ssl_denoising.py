"""Noise suppression: what a pixel weighs, cow masks, which step learns what (parity: tests/golden)."""

from __future__ import annotations

import math
import random

import torch
from scipy import ndimage
from toy import toy_task

from s4kit import fit, methods
from s4kit.engine import checkpoint
from s4kit.methods import Clock
from s4kit.methods.parts.cow import cow_mask, draw_cow_mask, smooth

CE = torch.nn.functional.cross_entropy


def test_cow_masks_are_smooth_and_half() -> None:
    torch.manual_seed(0)
    random.seed(0)
    noise = torch.rand(2, 40, 33)
    for sigma in (0.8, 3.0, 15.0):  # the last reaches over the whole image
        slow = ndimage.gaussian_filter(noise[1].double().numpy(), sigma)
        torch.testing.assert_close(smooth(noise, sigma)[1].double(), torch.from_numpy(slow), atol=1e-6, rtol=1e-5)
    mask = draw_cow_mask(torch.zeros(8, 64, 64), (13, 25))
    assert mask.dtype == torch.bool and 0.35 < float(mask.float().mean()) < 0.65
    assert 0.6 < float(cow_mask(torch.rand(8, 64, 64), 3.0, 0.8).float().mean()) < 0.95
    edges = (mask[:, 1:] != mask[:, :-1]).float().mean()
    assert edges < 0.2, "blots, no noise"


def test_a_label_that_the_student_disbelieves_costs_little(build, draw) -> None:
    method = build("ssl_denoising")
    view = draw(method).u
    z = torch.zeros(2, 4, 32, 32)
    z[:, 1] = 12.0
    other = z.roll(1, 1)
    sure = method.pseudo_labels((z, z), view, Clock(1, 4))
    doubted = method.pseudo_labels((z, other), view, Clock(1, 4))
    random_start = method.pseudo_labels((z, torch.zeros_like(z)), view, Clock(1, 4))
    assert float(sure.weight.min()) > 0.999 and float(doubted.weight.max()) < 1e-4
    assert torch.allclose(random_start.weight, torch.tensor(0.25))
    worst = max(-p * math.log(p) for p in torch.linspace(0.001, 1, 1000).tolist())
    assert worst <= 1 / math.e + 1e-6


def test_one_step_in_four_is_supervised(build, draw) -> None:
    method = build("ssl_denoising").train()
    batch = draw(method)
    kinds = ["".join(method.losses(batch, Clock(k, 8, stage=1))) for k in range(8)]
    assert kinds == ["x", "u", "u", "u", "x", "u", "u", "u"]
    label = batch.x.label
    method.eval()
    total = CE(method.student(batch.x.weak), label, ignore_index=255, reduction="sum") / label.numel()
    torch.testing.assert_close(method.losses(batch, Clock(0, 8)).total, total)


def test_teacher_and_weights_get_no_gradient_and_equal_images_stay(build, draw) -> None:
    method = build("ssl_denoising").train()
    batch = draw(method)
    batch["v"] = batch.u
    losses = method.losses(batch, Clock(1, 8, stage=1))
    losses.total.backward()
    assert all(p.grad is None for net in (method.teacher, method.average) for p in net.parameters())
    assert torch.equal(losses.seen["mixed"], batch.u.weak)
    assert not losses.seen["target"].weight.requires_grad


def test_the_average_is_the_next_teacher_and_the_student_begins_anew(tmp_path) -> None:
    task = toy_task(n_unlabelled=4)
    torch.manual_seed(0)
    method = methods.create("ssl_denoising", task, net="tiny", iterations=2, start=1.0)
    before = {k: v.clone() for k, v in method.student.state_dict().items()}
    seen = []
    losses = method.losses

    def watched(batch, clock):
        if clock.step == 0 and clock.stage:
            now = method.student.state_dict()
            seen.append(all(torch.equal(now[k], v) for k, v in before.items() if "num_batches" not in k))
        return losses(batch, clock)

    method.losses = watched
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=0, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=6, out=tmp_path / "run", checkpoint_every=4, **settings)
    assert seen[0] and seen[-1], "as it was before the training"
    state = checkpoint.load(run.path / "last.pt")["method"]
    key = next(k for k in state if k.startswith("teacher.") and k.endswith("weight"))
    assert not torch.equal(state[key], before[key.removeprefix("teacher.")])
    assert [stage["name"] for stage in run.rounds] == ["labels alone", "iteration 1", "iteration 2"]
