"""What PRCL's global prototypes show."""

from __future__ import annotations

import torch

from s4kit.methods import PseudoLabels, create
from s4kit.methods.contrastive.prcl_global import GlobalPrototypes, Virtual
from s4kit.methods.contrastive.reco import Forward
from s4kit.methods.parts.contrast import OtherClasses, members


def gaussians(*shape: int) -> torch.Tensor:
    return torch.cat([torch.randn(*shape), torch.rand(*shape) + 0.2], -1)


def test_prototypes_are_averages_of_precisions_and_of_the_means_they_weigh() -> None:
    torch.manual_seed(0)
    made, batches = GlobalPrototypes(3, 4), [gaussians(3, 4) for _ in range(3)]
    assert torch.equal(made.gaussians(), torch.tensor([0.0] * 4 + [1.0] * 4).expand(3, -1))
    present = torch.tensor([True, True, False])
    for batch in batches:
        made.follow(batch, present, 0.9)
    weights = (0.81, 0.09, 0.1)
    precision = sum(w / b[:2, 4:] for w, b in zip(weights, batches))
    mean = sum(w * b[:2, :4] / b[:2, 4:] for w, b in zip(weights, batches)) / precision
    torch.testing.assert_close(made.gaussians()[:2], torch.cat([mean, 1 / precision], 1))
    assert made.seen.tolist() == present.tolist()


def test_the_wanted_share_of_each_anchors_negatives_is_virtual_and_of_the_same_classes() -> None:
    torch.manual_seed(0)
    label = torch.tensor([0] * 10 + [1] * 5 + [2] * 20 + [255] * 4)[torch.randperm(39)]
    far = torch.cat([100.0 * torch.arange(4)[:, None].expand(-1, 3), torch.ones(4, 3)], 1)
    pixels = torch.cat([far[label.clamp(max=3)][:, :3], torch.ones(39, 3)], 1)
    others = OtherClasses(pixels, members(label, 4), torch.zeros(4, 4))
    made = Virtual(others, far, share=0.25, each=8, narrow=0.01)
    assert torch.equal(made.ready, others.ready)
    index = made.draw(0, 4000)
    virtual = (index >= 39).view(-1, 8)
    assert (virtual.sum(1) == 2).all()
    drawn = made.take(0, index)
    of = (drawn[:, 0] / 100).round()
    assert set(of.tolist()) == {1.0, 2.0}, "neither its own class nor one that is not there"
    assert abs((of[virtual.flatten()] == 1).float().mean() - 0.5) < 0.06
    spread = (drawn[:, 0] - 100 * of)[virtual.flatten()]
    assert abs(spread.std() - 0.1) < 0.03 and (drawn[virtual.flatten(), 3:] == 0.01).all()


def test_without_memory_and_virtual_negatives_it_is_prcl(task) -> None:
    torch.manual_seed(0)
    own = Forward(3 * torch.randn(2, 4, 6, 7), torch.cat([torch.randn(2, 5, 6, 7), torch.rand(2, 5, 6, 7) + 0.1], 1))
    label, nothing = torch.randint(0, 4, (2, 6, 7)), torch.zeros(0, 6, 7)
    target = PseudoLabels(nothing.long(), nothing, nothing, nothing)
    found = []
    for name, options in (("prcl", {}), ("prcl_global", {"momentum": 0.0, "virtual": 0.0})):
        method = create(name, task, net="tiny", queries=16, negatives=8, **options)
        if name == "prcl_global":
            method.prototypes = GlobalPrototypes(4, 5)
        torch.manual_seed(1)
        found.append(method.contrast([own], label, target))
    torch.testing.assert_close(found[0], found[1])


def test_a_rare_class_keeps_its_centre(task) -> None:
    torch.manual_seed(0)
    method = create("prcl_global", task, net="tiny", queries=8, negatives=8, momentum=0.9)
    method.prototypes = GlobalPrototypes(4, 5)
    nothing = torch.zeros(0, 6, 7)
    target = PseudoLabels(nothing.long(), nothing, nothing, nothing)
    z = torch.cat([torch.randn(2, 5, 6, 7), torch.rand(2, 5, 6, 7) + 0.1], 1).requires_grad_()
    label = torch.randint(0, 4, (2, 6, 7))
    method.contrast([Forward(torch.randn(2, 4, 6, 7), z)], label, target)
    before = method.prototypes.gaussians().clone()
    loss = method.contrast([Forward(torch.randn(2, 4, 6, 7), 2 * z)], label.where(label != 3, 0), target)
    after = method.prototypes.gaussians()
    assert torch.equal(after[3], before[3]) and not torch.equal(after[:3], before[:3])
    assert loss.isfinite() and torch.autograd.grad(loss, z)[0].abs().sum() > 0
