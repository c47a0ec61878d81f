"""The pixel losses against loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import PseudoLabels
from s4kit.methods.parts.distances import DISTANCES, distance
from s4kit.methods.parts.losses import OVER, ce, ce_map, criterion, entropy, ohem, pixel_ce, pixel_mean
from s4kit.report.verify import fake


def random_logits(seed: int = 0, b: int = 2, c: int = 3, h: int = 4, w: int = 5) -> torch.Tensor:
    return torch.randn(b, c, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def random_target(seed: int = 1, b: int = 2, c: int = 3, h: int = 4, w: int = 5) -> PseudoLabels:
    g = torch.Generator().manual_seed(seed)
    weight = torch.rand(b, h, w, generator=g) * (torch.rand(b, h, w, generator=g) > 0.4)
    valid = (torch.rand(b, h, w, generator=g) * 1.3).clamp(max=1) * (torch.rand(b, h, w, generator=g) > 0.2)
    label = torch.randint(0, c, (b, h, w), generator=g)
    return PseudoLabels(label, torch.ones(b, h, w), weight.double(), valid.double())


def slow_pixel_ce(logits: np.ndarray, target: PseudoLabels, over: str) -> float:
    total, divisor = 0.0, 0.0
    for place in np.ndindex(*target.label.shape):
        b, y, x = place
        z, weight, valid = logits[b, :, y, x], float(target.weight[place]), float(target.valid[place])
        nll = math.log(np.exp(z).sum()) - z[int(target.label[place])]
        total += weight * valid * nll
        divisor += {"all": 1.0, "valid": valid, "kept": float(weight * valid > 0), "weight": weight * valid}[over]
    return total / divisor


@pytest.mark.parametrize("over", OVER)
def test_pixel_ce_divides_by_what_it_says(over):
    logits, target = random_logits(), random_target()
    assert pixel_ce(logits, target, over=over).item() == pytest.approx(slow_pixel_ce(logits.numpy(), target, over))


@pytest.mark.parametrize("over", OVER)
def test_nothing_to_learn_is_zero_with_a_gradient(over):
    logits, target = random_logits().requires_grad_(), random_target()
    target.valid.zero_()
    loss = pixel_ce(logits, target, over=over)
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_divisor_must_be_named():
    with pytest.raises(ValueError, match="all, valid, kept, weight"):
        pixel_mean(torch.ones(1, 2, 2), torch.ones(1, 2, 2), torch.ones(1, 2, 2), over="mean")
    with pytest.raises(TypeError):
        pixel_ce(random_logits(), random_target())


def test_ce_is_the_mean_over_pixels_that_are_not_void():
    logits, label = random_logits(), random_target().label
    label[0, :2] = 255
    expected = torch.nn.functional.cross_entropy(logits, label, ignore_index=255)
    assert torch.allclose(ce(logits, label), expected)
    for over in ("valid", "kept", "weight"):
        assert torch.allclose(pixel_ce(logits, label, over=over), expected)
    known = (label != 255).double().mean()
    assert torch.allclose(pixel_ce(logits, label, over="all"), expected * known)


@pytest.mark.parametrize("shape", [(2, 5, 4, 6), (40, 5)])
def test_cross_entropy_keeps_only_the_logits_and_has_pytorchs_gradient(shape):
    torch.manual_seed(0)
    logits = (4 * torch.randn(shape)).requires_grad_()
    label = torch.randint(0, 5, (shape[0], *shape[2:]))
    label.flatten()[::7] = 255
    upstream = torch.randn(label.shape)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        found = ce_map(logits, label)
    assert kept == [logits.data_ptr(), label.data_ptr()]
    expected = torch.nn.functional.cross_entropy(logits, label, ignore_index=255, reduction="none")
    assert torch.equal(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, logits, upstream)[0] for y in (found, expected)))


def test_ce_of_void_alone_is_zero_with_a_gradient():
    for rule in (ce, ohem(0.7, 5), ohem(0.7, 0), ohem(0.7, 1000)):
        logits = random_logits().requires_grad_()
        loss = rule(logits, torch.full((2, 4, 5), 255))
        loss.backward()
        assert loss == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def slow_ohem(logits: torch.Tensor, label: torch.Tensor, thresh: float, min_kept: int) -> float:
    """Sort the true-class probabilities of all pixels, void ones as 1; keep those up to the threshold."""
    p, nll = [], []
    for b, y, x in np.ndindex(*label.shape):
        known = int(label[b, y, x]) != 255
        q = float(logits[b, :, y, x].softmax(0)[int(label[b, y, x])]) if known else 1.0
        p.append(q)
        nll.append(-math.log(q) if known else None)
    valid = sum(value is not None for value in nll)
    limit = math.inf
    if 0 < min_kept <= valid:
        limit = max(thresh, sorted(p)[min(len(p), min_kept) - 1])
    kept = [value for q, value in zip(p, nll) if value is not None and q <= limit + 1e-12]
    return sum(kept) / len(kept)


@pytest.mark.parametrize("thresh", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("min_kept", [0, 1, 7, 29, 30, 31, 40, 1000])
def test_ohem_keeps_the_hard_pixels(thresh, min_kept):
    logits, label = random_logits(), random_target().label
    label[1, :2] = 255  # 30 of 40 pixels are valid
    assert ohem(thresh, min_kept)(logits, label).item() == pytest.approx(slow_ohem(logits, label, thresh, min_kept))


def test_criterion_reads_its_text():
    logits, label = random_logits(), random_target().label
    assert criterion("ce") is ce and criterion(ce) is ce
    assert criterion("ohem(thresh=0.5, min_kept=7)")(logits, label) == ohem(0.5, 7)(logits, label)
    assert criterion("ohem(0.5, 7)")(logits, label) == ohem(0.5, 7)(logits, label)
    assert criterion("ohem")(logits, label) == ohem()(logits, label)
    for wrong in ("focal", "ohem(kept=3)", "ohem(x)", "ce(1", "1"):
        with pytest.raises(S4Error, match="supervised="):
            criterion(wrong)


def test_entropy_lies_between_certain_and_uniform():
    assert torch.allclose(entropy(torch.zeros(1, 5, 2, 2)), torch.tensor(math.log(5)))
    certain = torch.tensor([200.0, 0, 0]).view(1, 3, 1, 1)
    assert entropy(certain).item() == 0
    p = random_logits().softmax(1)
    assert torch.allclose(entropy(p.log()), -(p * p.log()).sum(1))


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_is_least_where_student_and_teacher_agree(name):
    student, teacher = random_logits(0).requires_grad_(), random_logits(1)
    assert (distance(name)(student, teacher) >= distance(name)(teacher, teacher) - 1e-9).all()
    agreeing = teacher.clone().requires_grad_()
    distance(name)(agreeing, teacher).sum().backward()
    assert agreeing.grad.abs().max() < 1e-4  # "binary" has its epsilon inside the logarithm
    assert torch.autograd.gradcheck(lambda z: distance(name)(z, teacher), student)


def test_an_unknown_distance_names_the_known_ones():
    with pytest.raises(S4Error, match="squared"):
        distance("square")


def test_losses_are_float32_under_autocast():
    logits, label = random_logits().float(), random_target().label
    with torch.autocast("cpu", torch.bfloat16):
        for value in (ce(logits.bfloat16(), label), entropy(logits.bfloat16()), ohem(0.7, 5)(logits.bfloat16(), label)):
            assert value.dtype == torch.float32
        assert ce(logits, label) == ce(logits.clone(), label)


@pytest.mark.parametrize("rule", ["ce", "ohem(min_kept=3)"])
def test_criteria_never_ask_the_device(rule):
    with fake.no_values():
        logits = fake.on_device(torch.empty(2, 3, 4, 5)).requires_grad_()
        label = fake.on_device(torch.empty(2, 4, 5, dtype=torch.long))
        criterion(rule)(logits, label).backward()
        assert logits.grad.device == fake.DEVICE


def test_ohem_per_image_grows_with_the_batch():
    torch.manual_seed(0)
    logits, label = torch.randn(3, 4, 5, 6), torch.randint(0, 4, (3, 5, 6))
    assert ohem(0.1, per_image=7)(logits, label) == ohem(0.1, 21)(logits, label)
    assert ohem(0.1, per_image=7)(logits[:1], label[:1]) == ohem(0.1, 7)(logits[:1], label[:1])


def test_class_weights_divide_the_mean_of_the_hard_pixels():
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 8, 9), torch.randint(0, 3, (2, 8, 9))
    label[0, 0] = 255
    weight = (0.5, 1.0, 2.0)
    plain = torch.nn.functional.cross_entropy(logits, label, torch.tensor(weight), ignore_index=255)
    torch.testing.assert_close(ohem(min_kept=0, class_weight=weight)(logits, label), plain)
    p = logits.softmax(1).gather(1, label.clamp(max=2)[:, None])[:, 0][label != 255]
    limit = p.sort().values[39].clamp(min=0.1)
    kept = p <= limit
    w = torch.tensor(weight)[label[label != 255]] * kept
    wanted = (w * -p.log()).sum() / w.sum()
    torch.testing.assert_close(ohem(0.1, 40, class_weight=weight)(logits, label), wanted)
    assert criterion(f"ohem(thresh=0.7, per_image=20, class_weight={weight})")(logits, label) > 0
