"""What a correct baseline shows."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.parts.losses import ce, entropy

MIDDLE = Clock(50, 100)


def train(method, draw, steps: int = 3) -> None:
    """A few plain SGD steps; the labelled batches are the same for every method."""
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    for i in range(steps):
        optimiser.zero_grad()
        method.train().losses(draw(method, micro=i), Clock(i, steps)).total.backward()
        optimiser.step()
        method.after_step(Clock(i, steps))


@pytest.mark.parametrize("name", ["pseudo_label", "entropy_min", "mean_teacher"])
def test_without_weight_the_student_is_the_supervised_one_bit_for_bit(name, build, draw):
    supervised, other = build("supervised"), build(name, weight=0.0)
    train(supervised, draw)
    train(other, draw)
    ours = dict(supervised.student.named_parameters())
    assert all(torch.equal(p, ours[key]) for key, p in other.student.named_parameters())


def test_supervised_is_the_cross_entropy_of_the_weak_or_the_strong_view(build, draw):
    for name, view in (("supervised", lambda x: x.weak), ("supervised_strong", lambda x: x.strong[0])):
        method = build(name).eval()
        batch = draw(method)
        expected = ce(method.student(view(batch.x)), batch.x.label)
        assert torch.equal(method.losses(batch, MIDDLE).total, expected)


def test_strong_views_show_the_same_pixels_in_other_colours(build, draw):
    x = draw(build("supervised_strong"), batch=4).x
    assert x.strong[0].shape == x.weak.shape and not torch.equal(x.strong[0], x.weak)


def test_pseudo_label_keeps_nothing_above_one_and_all_at_zero(build, draw):
    method = build("pseudo_label", tau=1.0)
    assert method.losses(draw(method), MIDDLE)["u"][0] == 0
    method = build("pseudo_label", tau=0.0)
    target = method.losses(draw(method), MIDDLE).seen["target"]
    assert (target.weight == 1).all()


def test_pseudo_label_only_sharpens_what_is_believed(build, draw):
    """With one view, eval-mode BN and no threshold, a step along the gradient makes every prediction more certain."""
    method = build("pseudo_label", tau=0.0).eval()
    batch = draw(method)
    z = method.student(batch.u.weak).detach().requires_grad_()
    ce(z, z.argmax(1)).backward()
    assert torch.equal((z - 10 * z.grad).argmax(1), z.argmax(1))
    assert ((z - 10 * z.grad).softmax(1).amax(1) >= z.softmax(1).amax(1)).all()


def test_pseudo_label_is_a_mean_over_all_valid_pixels(build, draw):
    method = build("pseudo_label").eval()
    batch = draw(method)
    batch.u.valid[:, :7] = 0
    z = method.student(batch.u.weak).detach().double()
    confidence, label = z.softmax(1).max(1)
    method.tau = confidence.median().item()
    total = 0.0
    for b, y, x in torch.nonzero(batch.u.valid):
        kept = confidence[b, y, x] > method.tau
        total += float(kept * -z[b, :, y, x].log_softmax(0)[label[b, y, x]])
    expected = total / float(batch.u.valid.sum())
    loss = method.losses(batch, MIDDLE)["u"][0].item()
    assert expected > 0 and loss == pytest.approx(expected, rel=3e-3)  # a pixel at tau may fall either way


def test_entropy_has_no_gradient_at_uniform_and_at_one_hot(build):
    for z in (torch.zeros(1, 4, 1, 1), torch.tensor([300.0, 0, 0, 0]).view(1, 4, 1, 1)):
        z.requires_grad_()
        entropy(z).sum().backward()
        assert z.grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", ["pseudo_label", "entropy_min", "mean_teacher"])
def test_padding_does_not_count(name, build, draw):
    """Rubbish in padded pixels of the prediction changes nothing."""
    method = build(name).eval()
    batch = draw(method)
    batch.u.valid[:, :, 16:] = 0
    whole = method.losses(batch, MIDDLE)["u"][0]
    forward = method.student.forward

    def rubbish(image):
        z = forward(image)
        return torch.where(batch.u.valid[:, None] > 0, z, 9 * torch.rand_like(z)) if image is batch.u.weak else z

    method.student.forward = rubbish
    assert method.losses(batch, MIDDLE)["u"][0].item() == pytest.approx(whole.item(), rel=1e-6)


def test_the_mean_teacher_starts_as_the_student_and_lags(build, draw):
    method = build("mean_teacher", decay=0.5)
    train(method, draw, steps=1)  # the first average copies
    pairs = list(zip(method.teacher.state_dict().values(), method.student.state_dict().values()))
    assert all(torch.equal(t, s) for t, s in pairs)
    before = [t.clone() for t, _ in pairs]
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1)
    method.after_step(Clock(5, 100))
    assert all(torch.allclose(t, (b + s) / 2) for b, (t, s) in zip(before, pairs) if t.is_floating_point())


def test_a_decay_of_one_freezes_the_teacher(build, draw):
    method = build("mean_teacher", decay=1.0)
    before = {k: v.clone() for k, v in method.teacher.state_dict().items()}
    method.student.requires_grad_(False)
    for p in method.student.parameters():
        p.add_(1)
    method.after_step(Clock(10**9, 10**9))
    assert all(torch.allclose(v, before[k]) for k, v in method.teacher.state_dict().items())


def test_mean_teacher_agrees_with_itself(build, draw):
    method = build("mean_teacher").eval()
    assert method.losses(draw(method), MIDDLE)["u"][0] == 0


def test_mean_teacher_is_a_squared_error_that_ramps_up(build, draw):
    method = build("mean_teacher", ramp_up=0.5, weight=2.0).eval()
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    batch = draw(method)
    p, q = method.student(batch.u.weak).softmax(1), method.teacher(batch.u.weak).softmax(1)
    terms = [method.losses(batch, Clock(step, 100))["u"] for step in (0, 25, 50, 75)]
    assert terms[0][0].item() == pytest.approx(((p - q) ** 2).mean().item(), rel=1e-5)
    assert [weight for _, weight in terms] == pytest.approx([2 * 2.718281828**e for e in (-5, -1.25, 0, 0)], rel=1e-5)


@pytest.mark.parametrize("name", ["pseudo_label", "mean_teacher"])
def test_strong_views_are_a_flag(name, build, draw):
    assert build(name).views["u"].strong == ()
    method = build(name, strong=True)
    batch = draw(method)
    assert torch.equal(method.losses(batch, MIDDLE).seen["mixed"], batch.u.strong[0])
