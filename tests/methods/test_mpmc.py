"""What a correct MPMC shows (parity with the release: tests/golden)."""

from __future__ import annotations

from dataclasses import replace

import torch

from s4kit.methods import Clock
from s4kit.methods.parts.patches import inside, occupancy, present

MIDDLE = Clock(50, 100)


def test_a_patch_has_a_class_if_a_pixel_of_its_field_has_and_nothing_but_void_has_none() -> None:
    label = torch.full((1, 61, 50), 255)
    label[0, 30, 21] = 2
    multi, share = present(label, 3), occupancy(label, 3)
    assert multi.shape == share.shape == (1, 3, 16, 13)
    for i in range(16):
        for j in range(13):
            holds = abs(4 * i - 30) <= 19 and abs(4 * j - 21) <= 19
            assert multi[0, :, i, j].tolist() == [0, 0, float(holds)]
            assert (share[0, 2, i, j] > 0) == holds
    chosen = torch.zeros(1, 1, 16, 13, dtype=torch.bool)
    chosen[0, 0, 3, 2] = True
    seen = inside(chosen, (61, 50))[0, 0].nonzero()
    assert seen.amin(0).tolist() == [0, 0] and seen.amax(0).tolist() == [31, 27]


def test_a_share_of_nothing_is_unimatch(build, draw) -> None:
    method = build("mpmc", share=0.0, tau=0.0, drop=0.0).eval()
    other = build("unimatch", tau=0.0, drop=0.0).eval()
    own = {k: v for k, v in method.student.state_dict().items() if not k.startswith("heads.")}
    other.student.load_state_dict(own)
    batch = draw(method)
    one, two = method.losses(batch, MIDDLE), other.losses(batch, MIDDLE)
    for name in ("x", "s1", "s2", "fp"):
        torch.testing.assert_close(one[name][0], two[name][0])


def test_only_pixels_of_the_doubted_class_in_the_patch_are_left_out(build, draw) -> None:
    method = build("mpmc", share=0.005, tau=0.0)
    u = draw(method, crop=64).u
    u.valid.fill_(1)
    logits, _ = method.teach(u)
    label = logits.argmax(1)
    patches = torch.randn(2, 4, 16, 16)
    target = method.pseudo_labels((logits, patches), u, MIDDLE)
    _, doubted = method.doubts(replace(target, weight=torch.ones_like(target.weight)), patches)
    wanted = torch.ones_like(target.weight)
    for b, c, i, j in doubted.nonzero().tolist():
        field = (b, slice(max(0, 4 * i - 19), 4 * i + 20), slice(max(0, 4 * j - 19), 4 * j + 20))
        wanted[field] = wanted[field] * (label[field] != c)
    assert torch.equal(target.weight, wanted)
    assert 0 < wanted.mean() < 1


def test_patch_losses_reach_the_first_level_alone(build, draw) -> None:
    method = build("mpmc").train()
    losses = method.losses(draw(method), MIDDLE)
    (losses["patch"][0] + losses["x_patch"][0]).backward()
    net = method.student
    reached = [name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert any(name.startswith("backbone") for name in reached)
    assert not any(name.startswith(("decoder", "aux")) for name in reached)
    deepest = [name for name in reached if name.startswith("backbone")]
    untouched = [n for n, p in net.named_parameters() if n.startswith("backbone") and n not in deepest]
    assert untouched, "the later stages"


def test_the_warm_up_knows_labels_alone(build, draw) -> None:
    method = build("mpmc", warmup=0.5).train()
    early, late = (method.losses(draw(method), Clock(t, 100)) for t in (10, 60))
    assert early["s1"][0] == early["patch"][0] == 0 and early["x"][1] == early["x_patch"][1] == 0.5
    assert late["patch"][0] > 0 and abs(sum(w for name, (_, w) in late.items() if name != "patch") - 3 / 3.3) < 1e-9
