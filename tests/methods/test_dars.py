"""DARS's quotas against a plain sort, and its rounds (parity with the release: tests/golden)."""

from __future__ import annotations

import numpy as np
import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.kept import Kept
from s4kit.data.task import VOID
from s4kit.engine import checkpoint
from s4kit.methods import Clock
from s4kit.methods.parts.quotas import BINS, quotas, tally, thinned, thresholds
from s4kit.methods.parts.rounds import KEPT, NOW

CE = torch.nn.functional.cross_entropy


def test_half_precision_has_so_many_numbers_in_the_unit_interval() -> None:
    every = torch.arange(BINS, dtype=torch.int16).view(torch.float16)
    assert every[0] == 0 and every[-1] == 1 and bool((every[1:] > every[:-1]).all())


def test_thresholds_against_a_plain_sort() -> None:
    rng = np.random.default_rng(0)
    label = torch.from_numpy(rng.integers(0, 5, 4000))
    label = label.where(label != 3, 0)  # one class is never predicted
    confidence = torch.from_numpy(rng.beta(6, 1, 4000)).half()
    wanted = torch.tensor([50, 100, 5000, 7, 0])
    level, share = thresholds(tally(label, confidence, 5), wanted)
    for c, n in enumerate(wanted.tolist()):
        own = np.sort(confidence[label == c].float().numpy())[::-1]
        if not len(own):
            assert level[c] == 1
            continue
        t = own[n - 1] if 0 < n <= len(own) else own[-1]
        assert float(level[c]) == t
        assert np.isclose(float(share[c]), min(1, n / (own >= t).sum()))


def test_without_ties_the_quota_is_kept_exactly_and_the_shares_are_the_priors() -> None:
    label = torch.arange(2).repeat_interleave(500)
    confidence = torch.linspace(0.2, 0.98, 1000).half()
    prior = torch.tensor([0.8, 0.2])
    wanted = quotas(0.25, prior, 1000)
    level, share = thresholds(tally(label, confidence, 2), wanted)
    kept = [int((confidence[label == c].float() >= level[c]).sum()) * float(share[c]) for c in range(2)]
    assert wanted.tolist() == [200, 50] and np.allclose(kept, [200, 50])
    everything, _ = thresholds(tally(label, confidence, 2), quotas(1.0, torch.tensor([0.5, 0.5]), 1000))
    assert bool((confidence.float() >= everything[label]).all())


def test_chance_drops_so_many_of_each_class() -> None:
    torch.manual_seed(0)
    label = torch.randint(0, 3, (20, 30))
    label[0] = VOID
    left = thinned(label, torch.tensor([1.0, 0.25, 0.0]).double())
    n = [int((label == c).sum()) for c in range(3)]
    assert [int((left == c).sum()) for c in range(3)] == [n[0], n[1] - int(n[1] - n[1] * 0.25), 0]
    assert bool(((left == label) | (left == VOID)).all())


def test_a_step_is_two_means_each_over_its_own_pixels(build, draw) -> None:
    method = build("dars").eval()
    method.requires_grad_(False)
    batch = draw(method)
    losses = method.losses(batch, Clock(0, 10, stage=2))
    terms = [
        CE(method.student(views.strong[0]), label, ignore_index=VOID)
        for views, label in ((batch.x, batch.x.label), (batch.u, batch.u.maps["label"]))
    ]
    torch.testing.assert_close(losses.total, sum(terms))
    assert set(losses) == {"x", "u"}


def test_the_auxiliary_head_learns_from_both(build, draw) -> None:
    method = build("dars", net="tiny(aux=True)", aux=0.5)
    losses = method.losses(draw(method), Clock(0, 10, stage=1))
    assert {name: weight for name, (_, weight) in losses.items()} == {"x": 1, "x_aux": 0.5, "u": 1, "u_aux": 0.5}
    losses.total.backward()
    assert all(p.grad is not None for p in method.parameters())


def test_rounds_go_on_with_the_network_and_its_momentum(tmp_path) -> None:
    task = toy_task(n_unlabelled=4)
    torch.manual_seed(0)
    method = methods.create("dars", task, net="tiny", shares=(0.2, 0.6))
    rates = [stage.schedule(Clock(0, 10)) for stage in method.stages()[1:]]
    assert np.allclose(rates, [0.5**0.9, (1 / 3) ** 0.9])
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=2, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=9, out=tmp_path / "run", **settings)
    shares = []
    for stage in (1, 2):
        kept = [Kept(str(run.path / "store"), stage).read("label", row) for row in task.unlabelled]
        shares.append(float(np.mean([(k != VOID).mean() for k in kept])))
    assert 0 < shares[0] <= 0.2 and shares[0] < shares[1] <= 0.6
    state = checkpoint.load(run.path / "last.pt")["method"]
    assert not torch.equal(state["threshold"], torch.ones(4))
    assert {row["name"] for row in run.pseudo()} == {NOW, KEPT} and len(run.evaluations()) == 3
