"""GCT's exchange, detector and gradients (parity with the release: tests/golden)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import toy_task

from s4kit.methods import Clock, Optim, create
from s4kit.methods.cotraining.gct import NAMES, exchange
from s4kit.methods.parts.flaws import blur, flaw_target, gaussian, handled, odd
from s4kit.nets import FlawDetector
from s4kit.views import Batch, draw_step, render

CLOCK = Clock(5, 10)


def made(**options) -> tuple[torch.nn.Module, Batch]:
    torch.manual_seed(0)
    task = toy_task()
    method = create("gct", task, net="tiny", width=4, **options)
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


def test_the_smaller_flaw_teaches_and_equal_ones_leave_both_alone() -> None:
    p1, p2 = (torch.rand(1, 2, 1, 5, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    flaw1 = torch.tensor([0.1, 0.5, 0.3, 0.7, 0.9]).view(1, 1, 1, 5)
    flaw2 = torch.tensor([0.2, 0.2, 0.3, 0.8, 0.1]).view(1, 1, 1, 5)
    found = exchange(p1, p2, flaw1, flaw2, 0.6)
    assert found.by2.flatten().tolist() == [False, True, False, False, True], "two above 0.6 are equally wrong"
    assert found.by1.flatten().tolist() == [True, False, False, False, False]
    assert found.both.flatten().tolist() == [False, False, False, True, False]
    assert torch.equal(found.p1, torch.where(found.by2, p2, p1)) and torch.equal(
        found.p2, torch.where(found.by1, p1, p2)
    )
    back = exchange(p2, p1, flaw2, flaw1, 0.6)
    assert torch.equal(back.p1, found.p2) and torch.equal(back.by1, found.by2)


def test_equal_networks_have_nothing_to_teach() -> None:
    method, batch = made()
    method.net2.load_state_dict(method.net1.state_dict())
    method.detector.eval()  # its batch norm would see the second map after the first
    method.detector.own_mode = True
    assert method.losses(batch, CLOCK)["dc"][0] < 1e-12


def test_who_learns_from_what() -> None:
    method, batch = made()
    torch.nn.init.normal_(method.detector.classifier.weight)  # as it is made it sees hardly a flaw anywhere
    losses = method.losses(batch, CLOCK)
    nets = [*method.net1.parameters(), *method.net2.parameters()]
    detector = list(method.detector.parameters())

    def reached(name: str, parameters: list) -> bool:
        grads = torch.autograd.grad(losses[name][0], parameters, retain_graph=True, allow_unused=True)
        return any(g is not None and g.abs().sum() > 0 for g in grads)

    assert reached("detector", detector) and not reached("detector", nets)
    assert not reached("fc", detector) and not reached("dc", detector)
    assert reached("dc", nets)


def test_targets_of_right_and_wrong_predictions() -> None:
    label = torch.randint(0, 3, (2, 32, 32), generator=torch.Generator().manual_seed(0))
    right = torch.nn.functional.one_hot(label, 3).permute(0, 3, 1, 2).float()
    assert flaw_target(right, label, 32).abs().max() == 0
    half = right.clone()
    half[:, :, :, 16:] = right[:, [1, 2, 0], :, 16:]  # all wrong on the right side
    found = flaw_target(half, label, 32)
    assert found.min() == 0 and (found.max() - 1).abs() < 1e-6 and found[..., :8].max() < found[..., 24:].min()
    void = flaw_target(right, torch.where(torch.arange(32) < 16, label, 255), 32)
    assert void[..., 24:].min() > void[..., :8].max(), "void pixels are wrong by what the network says"


def test_the_kernel_is_a_folded_gaussian_and_the_blur_its_convolution() -> None:
    for size in (1, 3, 5, 9, 33):
        kernel = np.array(gaussian(size))
        assert len(kernel) == size and np.isclose(kernel.sum(), 1) and np.allclose(kernel, kernel[::-1])
    map = torch.rand(2, 1, 12, 15)
    kernel = torch.tensor(np.outer(gaussian(5), gaussian(5)), dtype=torch.float32)[None, None]
    wanted = torch.nn.functional.conv2d(torch.nn.functional.pad(map, (2, 2, 2, 2), mode="reflect"), kernel)
    torch.testing.assert_close(blur(map, 5), wanted)
    assert [odd(s) for s in (0.5, 2, 3, 20.06, 32.1)] == [1, 3, 3, 21, 33]
    assert blur(torch.rand(1, 1, 3, 40), 9).shape == (1, 1, 3, 40), "a border cannot be reflected beyond the map"


def test_an_image_without_flaws_is_constant() -> None:
    flaws = torch.stack([torch.rand(1, 16, 16), 0.05 * torch.rand(1, 16, 16), -torch.ones(1, 16, 16)])
    found = handled(flaws, 32)
    assert found[0].min() == 0 and (found[0].max() - 1).abs() < 1e-5
    assert found[1].min() == found[1].max() <= 0 and (found[2] == 0).all()


@pytest.mark.parametrize("size", [(33, 40), (16, 120), (96, 96), (97, 131)])
def test_the_detector_answers_at_the_size_of_the_image(size: tuple[int, int]) -> None:
    net = FlawDetector(4, width=4)
    assert net(torch.rand(2, 3, *size), torch.rand(2, 4, *size).softmax(1)).shape == (2, 1, *size)


def test_the_ramp_and_three_optimisers() -> None:
    method, batch = made(ramp=0.5)
    first, late = (method.losses(batch, Clock(t, 100))["dc"][1] for t in (0, 60))
    assert np.isclose(first, 100 * np.exp(-5)) and late == 100
    specs = method.optimisers(Optim([], 1e-2))
    assert list(specs) == ["net1", "net2", "detector"] and specs["detector"].kind == "adam"
    assert set(method.pseudo_labels(method.teach(batch.u), batch.u, CLOCK)) == set(NAMES)
