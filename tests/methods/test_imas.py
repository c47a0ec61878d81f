"""What a correct iMAS shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.consistency import imas
from s4kit.methods.consistency.imas import agreement, draw_window_mask, mirrored, scores
from s4kit.methods.parts.losses import ce

MIDDLE = Clock(50, 100)


def slow_agreement(label: np.ndarray, reference: np.ndarray, classes: int, first: int) -> float:
    total = sum(int((reference == c).sum()) for c in range(first, classes))
    if not total:
        return 0.0
    value = 0.0
    for c in range(first, classes):
        a, b = label == c, reference == c
        if (a | b).any():
            value += (a & b).sum() / (a | b).sum() * b.sum() / total
    return float(value)


@pytest.mark.parametrize("first", [0, 1])
def test_scores_by_loops(first):
    torch.manual_seed(0)
    z_s, z_t = 2 * torch.randn(2, 3, 4, 6, 5)
    z_t[2, 0] = 50.0  # all background
    for i, s in enumerate(scores(z_s, z_t, 0.6, first)):
        a_s, a_t = (z[i].argmax(0).numpy() for z in (z_s, z_t))
        rho_s, rho_t = ((z[i].softmax(0).amax(0) >= 0.6).float().mean().item() for z in (z_s, z_t))
        w_s, w_t = slow_agreement(a_s, a_t, 4, first), slow_agreement(a_t, a_s, 4, first)
        assert s.item() == pytest.approx((rho_t * w_s + rho_s * w_t) / 2, abs=1e-6)


def test_equal_networks_score_the_share_of_sure_pixels():
    z = 2 * torch.randn(3, 4, 8, 8)
    share = (z.softmax(1).amax(1) >= 0.6).float().mean((1, 2))
    assert torch.allclose(scores(z, z, 0.6, 1), share)
    y = torch.zeros(1, 4, 4, dtype=torch.long)
    assert agreement(y, y, 3, 1) == 0 and agreement(y, y, 3, 0) == 1


def test_pairs_are_mirrored():
    partner = mirrored(torch.tensor([0.2, 0.9, 0.7, 0.6, 0.3]))
    assert partner.tolist() == [1, 0, 4, 3, 2] and torch.equal(partner[partner], torch.arange(5))


def test_windows_have_one_side_and_stay_inside():
    own = draw_window_mask(torch.zeros(6, 48, 64), 0.5, 0.5)
    taken = (~own).float()
    assert (taken.amax(2).sum(1) <= 24).all() and (taken.amax(1).sum(1) <= 32).all() and taken.any()


@pytest.mark.parametrize("s", [0.0, 1.0])
def test_the_ends_of_the_score(s, build, draw, monkeypatch):
    """1: the strong view and the plain loss over all sure pixels; 0: the weak view and no loss."""
    method = build("imas", tau=0.0).eval()
    batch = draw(method)
    monkeypatch.setattr(imas, "scores", lambda z, *_: torch.full((len(z),), s))
    losses = method.losses(batch, MIDDLE)
    assert torch.allclose(losses.seen["mixed"], batch.u.strong[0] if s else batch.u.weak)
    z, y = method.student(batch.u.strong[0]), method.teacher(batch.u.weak).argmax(1)
    expected = ce(z, y).item() / 2 if s else 0.0  # with s = 1 a box is drawn for sure: half of the term
    assert losses["s"][0].item() == pytest.approx(expected, rel=1e-5) and (losses["cut"][0] > 0) == bool(s)


def test_without_a_box_the_strong_view_counts_in_full(build, draw, monkeypatch):
    terms = []
    for on in (True, False):
        method = build("imas", tau=0.0, background=False).eval()
        batch = draw(method, batch=4)
        monkeypatch.setattr(imas, "draw_trigger", lambda s, on=on: torch.tensor(on))
        losses = method.losses(batch, MIDDLE)
        terms.append({name: term.item() for name, (term, _) in losses.items()})
        assert on or torch.equal(losses.seen["cut/mixed"], batch.u.weak)
    assert terms[1]["s"] == pytest.approx(2 * terms[0]["s"], rel=1e-5) and terms[1]["cut"] == 0 < terms[0]["cut"]


def test_the_box_keeps_the_weight_of_the_image_it_is_in(build, draw, monkeypatch):
    method = build("imas", tau=0.0)
    batch = draw(method, batch=4)
    s = torch.tensor([0.1, 0.2, 0.3, 0.4])
    monkeypatch.setattr(imas, "scores", lambda *_: s)
    monkeypatch.setattr(imas, "draw_trigger", lambda s: torch.tensor(True))
    seen = method.train().losses(batch, MIDDLE).seen
    assert torch.equal(seen["cut/target"].weight, s[:, None, None].expand(4, 32, 32))


def test_an_auxiliary_head_is_trained(build, draw):
    method = build("imas", net="tiny(aux=True)")
    losses = method.train().losses(draw(method), MIDDLE)
    assert losses["x_aux"][1] == 0.4 and losses["x_aux"][0] > 0


def test_the_auxiliary_heads_norm_sees_the_whole_batch(build, draw):
    method = build("imas", net="tiny(aux=True)").train()
    sizes, batch = [], draw(method)
    method.student.aux[0][1].register_forward_hook(lambda layer, given, out: sizes.append(len(given[0])))
    method.losses(batch, MIDDLE)
    assert sizes == [len(batch.x) + 3 * len(batch.u)]
