"""ELN: who learns from what, contrast against a loop, and the student's reset (parity: tests/golden)."""

from __future__ import annotations

import torch

from s4kit.methods import Clock
from s4kit.methods.parts.localise import held_back, pair_contrast, wrongness_loss

CLOCK = Clock(0, 10, stage=2)


def test_wrong_pixels_weigh_as_much_as_right_ones() -> None:
    torch.manual_seed(0)
    logit, right = torch.zeros(1, 4, 5), torch.zeros(1, 4, 5, dtype=torch.bool)
    right[0, 0, :4] = True  # 4 of 20
    logit.requires_grad_()
    wrongness_loss(logit, ~right).backward()
    assert torch.allclose(logit.grad[right].sum(), -logit.grad[~right].sum(), atol=1e-6)
    assert wrongness_loss(torch.full((1, 2, 2), 30.0), torch.ones(1, 2, 2, dtype=torch.bool)) < 1e-6
    one, ten = torch.tensor(1.0), torch.tensor(10.0)
    assert held_back(ten, one, 5.0) == 10 and held_back(ten, one, 20.0) == 0


def test_contrast_against_a_loop() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4, requires_grad=True)
    label, valid = torch.randint(0, 3, (2, 3, 4)), torch.rand(2, 3, 4) < 0.7
    found = pair_contrast(query, key, label, valid, 6)
    q, k = (f.movedim(1, -1).reshape(-1, 5) for f in (query, key))
    y, v, terms = label.flatten(), valid.flatten(), []
    for c in y[v].unique().tolist():
        same = other = 0.0
        for i in (i for i in range(24) if v[i] and y[i] == c):
            for j in (j for j in range(24) if v[j]):
                e = (torch.cosine_similarity(q[i], k[j], dim=0) / 0.5).exp()
                same, other = (same + e, other) if y[j] == c else (same, other + e)
        terms.append(-(same / (same + other)).log() / int((v & (y == c)).sum()))
    torch.testing.assert_close(found, torch.stack(terms).mean())
    assert pair_contrast(query, key, label, torch.zeros_like(valid), 6) == 0


def moved(net) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_each_network_learns_from_its_own_terms(build, draw) -> None:
    for terms, learns in (
        (("localiser",), {"localiser"}),
        (("held",), {"held"}),
        (("u", "contrast"), {"student"}),
        (("x",), {"student"}),
    ):
        method = build("eln", multiples=(0.0, 0.0)).train()
        losses = method.losses(draw(method), CLOCK)
        sum(losses[name][0] for name in terms).backward()
        assert {name for name, net in method.named_children() if moved(net)} == learns, terms


def test_the_localiser_decides_what_is_trained_on(build, draw) -> None:
    method = build("eln", multiples=(0.0, 0.0)).train()
    batch = draw(method)
    last = method.localiser.decoder.classifier
    for bias, share in ((50.0, 1.0), (-50.0, 0.0)):
        with torch.no_grad():
            last.bias.fill_(bias)
        losses = method.losses(batch, CLOCK)
        assert float(losses.seen["plain view/target"].weight.mean()) == share
    assert losses["u"][0] == 0 == losses["contrast"][0]


def test_the_localiser_sees_what_is_added_as_it_is(build, draw, monkeypatch) -> None:
    method = build("eln")
    seen = []
    monkeypatch.setattr(method.localiser.backbone, "forward", lambda x, **_: seen.append(x) or (x, x, x, x))
    monkeypatch.setattr(method.localiser, "decode", lambda f, *_: type("D", (), {"logits": f.low}))
    image, z = torch.rand(2, 3, 16, 16), torch.randn(2, 4, 16, 16)
    method.locate(image, z)
    torch.testing.assert_close(seen[0][:, 4:], z)
    torch.testing.assert_close(seen[0][:, :3], method.student.normalise(image))


def test_the_student_is_reset_after_a_pass(build) -> None:
    method = build("eln", decay=0.9)
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    get = lambda net: next(net.parameters()).detach().clone()  # noqa: E731
    s, t = get(method.student), get(method.teacher)
    method.after_step(Clock(3, 20, epoch_steps=5, stage=2))
    assert torch.equal(get(method.student), s)
    torch.testing.assert_close(get(method.teacher), 0.9 * t + 0.1 * s)
    method.after_step(Clock(4, 20, epoch_steps=5, stage=2))
    assert torch.equal(get(method.student), get(method.teacher))
    before = get(method.teacher)
    method.after_step(Clock(4, 20, epoch_steps=5, stage=1))
    assert torch.equal(get(method.teacher), before)
