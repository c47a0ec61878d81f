"""U2PL in limiting cases and against a slow version written from the paper (parity with the release: tests/golden)."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import toy_task

from s4kit import nets
from s4kit.methods import Clock, PseudoLabels, create
from s4kit.methods.contrastive.u2pl import U2PL, Forward, unlikely
from s4kit.methods.parts.banks import Queues
from s4kit.methods.parts.contrast import Draws, ranks
from s4kit.methods.parts.losses import entropy, upweighted_ce
from s4kit.views import Batch, draw_step, render

START, LATE = Clock(0, 80), Clock(40, 80)


def made(**options) -> tuple[U2PL, Batch]:
    torch.manual_seed(0)
    task = toy_task()
    method = create("u2pl", task, net="tiny", **{"bank": (40, 30), "fresh": 20, "queries": 8, "negatives": 5} | options)
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


def test_warm_up_is_supervised_and_feeds_the_teachers_statistics() -> None:
    method, batch = made(warmup=0.5)
    before = copy.deepcopy(method.teacher.state_dict())
    losses = method.losses(batch, START)
    losses.total.backward()
    assert losses["u"][0] == 0 and losses["contrast"][0] == 0
    assert method.queues.count.sum() == 0
    changed = {name for name, value in method.teacher.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all("running" in name or "num_batches" in name for name in changed)
    assert method.losses(batch, LATE)["u"][0] > 0


def test_the_teacher_copies_the_student_until_the_warm_up_ends_then_averages() -> None:
    method, _ = made(warmup=0.5, decay=0.9)

    def shift() -> None:
        with torch.no_grad():
            for p in method.student.parameters():
                p.add_(1)

    def distance() -> float:
        pairs = zip(method.teacher.parameters(), method.student.parameters())
        return max(float((a - b).detach().abs().max()) for a, b in pairs)

    for step, left in ((0, 0), (39, 0), (40, 0), (41, 1 / 2), (42, (1 + 1 / 2) * 2 / 3)):
        shift()
        method.after_step(Clock(step, 80))
        assert distance() == pytest.approx(left, abs=1e-5)
    statistics = [b.clone() for b in method.teacher.buffers()]
    method.after_step(Clock(43, 80))
    assert all(torch.equal(a, b) for a, b in zip(statistics, method.teacher.buffers()))


def test_modes_of_the_teacher() -> None:
    method, batch = made(warmup=0.0)
    counters = [b for name, b in method.teacher.named_buffers() if name.endswith("num_batches_tracked")]
    method.losses(batch, START)
    assert {int(c) for c in counters} == {1}, "labels in eval mode, entropies in train mode"
    method.train()
    assert method.teacher.training and all(not p.requires_grad for p in method.teacher.parameters())


def test_no_gradient_reaches_the_teacher_and_the_head_gets_one() -> None:
    method, batch = made(warmup=0.0)
    loss, weight = method.losses(batch, START)["contrast"]
    assert weight == 0.1 and loss > 0
    loss.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    head = [p.grad for p in method.student.heads["projection"].parameters()]
    assert all(g is not None and g.abs().sum() > 0 for g in head if g is not None and g.dim() > 1)


def test_the_percentile_decides_what_is_kept() -> None:
    method, batch = made(drop=50.0)
    logits, h = method.teach(batch.u)
    u = replace(batch.u, valid=torch.ones_like(batch.u.valid))
    kept = {c: float(method.pseudo_labels((logits, h), u, c).weight.mean()) for c in (START, LATE)}
    assert kept[START] == pytest.approx(0.5, abs=0.01) and kept[LATE] == pytest.approx(0.75, abs=0.01)
    z = torch.randn_like(logits)
    target = method.pseudo_labels((logits, h), u, START)
    ce = torch.nn.functional.cross_entropy(z, target.label, reduction="none")
    torch.testing.assert_close(upweighted_ce(z, target), 2 * ce[target.weight > 0].mean(), rtol=0.02, atol=0.0)


def test_the_hundredth_percentile_drops_the_maximum_alone() -> None:
    method, batch = made(drop=100.0)
    logits, _ = method.teach(batch.u)
    h = torch.rand(batch.u.valid.shape)
    u = replace(batch.u, valid=torch.ones_like(batch.u.valid))
    target = method.pseudo_labels((logits, h), u, START)
    assert (target.weight == 0).sum() == 1 and target.weight.flatten()[h.argmax()] == 0


def test_nothing_kept_is_a_loss_of_zero() -> None:
    z = torch.randn(2, 4, 8, 8, requires_grad=True)
    ones = torch.ones(2, 8, 8)
    loss = upweighted_ce(z, PseudoLabels(ones.long(), ones, 0 * ones, ones))
    loss.backward()
    assert loss == 0 and (z.grad == 0).all()


def test_reliability_tightens() -> None:
    method, _ = made()
    torch.manual_seed(1)
    h, label = torch.rand(2, 40, 40), torch.randint(0, 4, (2, 40, 40))
    label[:, :10] = 255
    known = torch.ones(2, 40, 40, dtype=torch.bool)
    for clock, share in ((START, 0.2), (LATE, 0.1), (Clock(79, 80), 20 / 80 / 100)):
        low, high = method.reliability(label, h, known, clock, (40, 40))
        assert torch.equal(low[:2], label != 255) and torch.equal(high[:2], label != 255)
        assert float(low[2:].float().mean()) == pytest.approx(share, abs=2e-3)
        assert float(high[2:].float().mean()) == pytest.approx(share, abs=2e-3)
        assert h[low[2:]].max() < h[high[2:]].min()


def test_unlikely_is_the_papers_rule_pixel_by_pixel() -> None:
    torch.manual_seed(0)
    n, k, low, high = 60, 6, 2, 4
    p, label = torch.rand(n, k).softmax(1), torch.randint(0, k, (n,))
    sure, labelled = torch.rand(n) < 0.7, torch.arange(n) < 25
    belongs = label == torch.arange(k)[:, None]
    found = unlikely(belongs, ranks(p), sure, labelled, low, high)
    for i in range(n):
        order = p[i].argsort(descending=True).tolist()
        for c in range(k):
            place = order.index(c)
            rule = (label[i] != c and place < low) if labelled[i] else low <= place < high
            assert bool(found[c, i]) == bool(sure[i] and rule)


def slow_contrast(m: U2PL, z, z_t, p, label, low, high, n, queues, draws) -> float:
    """L_c from the paper, one pixel and one class at a time; `queues` are lists, written first."""
    queries, negatives, t = m.amounts
    pixels = [(b, y, x) for b in range(len(label)) for y in range(label.shape[1]) for x in range(label.shape[2])]
    total, present = 0.0, 0
    for c in range(m.classes):
        for b, y, x in pixels:
            place = sorted(range(m.classes), key=lambda k: -p[b, k, y, x]).index(c)
            wrong = label[b, y, x] != c and place < m.low
            if high[b, y, x] and (wrong if b < n else m.low <= place < m.high):
                queues[c].append(z_t[b, :, y, x])
        own = [i for i in pixels if low[i] and label[i] == c]
        anchors = [i for i in own if p[i[0], c, i[1], i[2]] > m.threshold]
        present += bool(own)
        if not (own and anchors and queues[c]):
            continue
        centre = np.mean([z_t[b, :, y, x] for b, y, x in own], 0)
        for q in range(queries):
            b, y, x = anchors[draws.anchors[c, q]]
            chosen = [queues[c][j] for j in draws.negatives[c].view(queries, negatives)[q]]
            a = z[b, :, y, x]
            cos = [a @ o / np.linalg.norm(a) / np.linalg.norm(o) for o in (centre, *chosen)]
            e = np.exp(np.array(cos) / t)
            total -= np.log(e[0] / e.sum()) / queries
    return total / present if present > 1 else 0.0


@pytest.mark.parametrize("seed", range(3))
def test_contrast_is_the_slow_one(seed: int) -> None:
    method, _ = made(low=1, high=3, queries=3, negatives=4)
    method.queues, k, d = Queues([500] * 4, 5), 4, 5
    torch.manual_seed(seed)
    z, z_t, logits = torch.randn(4, d, 6, 6), torch.randn(4, d, 6, 6), 2 * torch.randn(4, k, 6, 6)
    label, low, high = (
        torch.randint(0, k - (seed == 1), (4, 6, 6)),
        torch.rand(4, 6, 6) < 0.6,
        torch.rand(4, 6, 6) < 0.6,
    )
    label[0, 0], low[0, 0], high[0, 0] = 255, False, False
    draws = Draws(torch.randint(0, 4, (k, 3)), torch.randint(0, 20, (k, 12)))
    loss = method.contrast(Forward(logits, z, None), Forward(logits, z_t, None), label, low, high, 2, draws)
    arrays = [t.numpy() for t in (z, z_t, logits.softmax(1), label, low, high)]
    assert float(loss) == pytest.approx(slow_contrast(method, *arrays, 2, [[] for _ in range(k)], draws), rel=1e-4)


def test_a_labelled_pixel_is_never_a_negative_of_its_own_class() -> None:
    method, _ = made(low=4, high=4)
    method.queues = Queues([1000] * 4, 4)
    torch.manual_seed(0)
    label = torch.randint(0, 4, (2, 9, 9))
    z_t = torch.nn.functional.one_hot(label, 4).permute(0, 3, 1, 2).float()  # a feature that says the truth
    every = torch.ones(2, 9, 9, dtype=torch.bool)
    maps = Forward(torch.randn(2, 4, 9, 9), z_t, None)
    method.contrast(maps, maps, label, every, every, 2)
    for c in range(4):
        stored = method.queues.take(c, torch.arange(int(method.queues.count[c])))
        assert len(stored) == (label != c).sum() and (stored[:, c] == 0).all()


def test_queues_stay_within_their_capacity() -> None:
    method, batch = made(warmup=0.0)
    for step in range(4):
        method.losses(batch, Clock(step, 10))
        assert (method.queues.count <= torch.tensor([40, 30, 30, 30])).all()
    assert method.queues.count.sum() > 60


def test_half_of_the_steps_are_mixed() -> None:
    method, batch = made(warmup=0.0, contrast=0.0)
    mixed = 0
    for seed in range(40):
        torch.manual_seed(seed)
        seen = method.losses(batch, START).seen
        assert seen["target"].label.shape == batch.u.label.shape
        same = torch.equal(seen["mixed"], batch.u.weak)
        swapped = torch.where(batch.u.masks[0][:, None], batch.u.weak.roll(-1, 0), batch.u.weak)
        assert same or torch.equal(seen["mixed"], swapped)
        mixed += not same
    assert 10 < mixed < 30


def test_without_contrast_there_is_no_head_and_no_queue() -> None:
    method, batch = made(contrast=0.0, warmup=0.0)
    assert not hasattr(method, "queues") and not len(method.student.heads)
    assert method.losses(batch, START).total.isfinite()


def test_the_auxiliary_head_is_trained_on_labelled_images() -> None:
    torch.manual_seed(0)
    task = toy_task()
    method = create("u2pl", task, net="tiny(aux=True)", bank=(20, 20), warmup=0.0).train()
    batch = render(draw_step(task, method.views, 2, 0, 0, 0), method.views)
    for clock in (START, LATE):
        assert method.losses(batch, clock)["x_aux"][1] == 0.4


def test_a_step_of_void_labels_is_finite() -> None:
    method, batch = made(warmup=0.0)
    x = replace(batch.x, label=torch.full_like(batch.x.label, 255))
    losses = method.losses(Batch(x=x, u=batch.u), START)
    losses.total.backward()
    assert losses["x"][0] == 0 and losses.total.isfinite()


def test_the_predictors_lead_with_the_teacher() -> None:
    method, batch = made()
    assert list(method.predictors()) == ["teacher", "student"]
    logits, h = method.teach(batch.u)
    torch.testing.assert_close(h, entropy(logits))
    assert float(h.max()) <= math.log(4) + 1e-5 and isinstance(method.teacher, nets.SegNet)
