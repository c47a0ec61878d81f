"""The parts of pixel contrast, and percentiles, against slow numpy versions."""

import math
from weakref import WeakSet

import numpy as np
import pytest
import torch
from torch import Tensor

from s4kit.methods.parts.banks import Queues
from s4kit.methods.parts.contrast import (
    Draws,
    OtherClasses,
    class_contrast,
    draw,
    info_nce,
    likeness,
    members,
    nth,
    ranks,
    rows,
    shrink,
)
from s4kit.methods.parts.derived import derived
from s4kit.methods.parts.prototypes import centres
from s4kit.methods.parts.quantile import percentiles


@pytest.mark.parametrize("share", [0, 20, 33.3, 80, 80.25, 97.5, 100])
def test_percentiles_are_numpys(share: float) -> None:
    rng = np.random.default_rng(int(share))
    for n in (1, 2, 6, 101, 4000):
        values, where = rng.normal(size=(2, n)).astype(np.float32), rng.random((2, n)) < 0.7
        where[0, 0], values[0, 0] = True, -0.0
        (found,) = percentiles(torch.from_numpy(values), [share], torch.from_numpy(where))
        np.testing.assert_allclose(found, np.percentile(values[where], share), rtol=1e-5, atol=1e-7)
    order, _ = torch.from_numpy(values.astype(float)).flatten().sort()
    everywhere = torch.ones(order.shape, dtype=torch.bool)
    assert percentiles(order.flip(0), [100 * 11 / (len(order) - 1)], everywhere)[0] == pytest.approx(order[11])


def test_percentile_of_nothing_is_infinite_and_half_precision_is_widened() -> None:
    values = torch.rand(4, dtype=torch.float16)
    low, high = percentiles(values, [10, 90], torch.zeros(4, dtype=torch.bool))
    assert low == high == math.inf
    (top,) = percentiles(values, [100], torch.ones(4, dtype=torch.bool))
    assert top.dtype == torch.float32 and top == values.max()


def test_nth_counts_the_trues() -> None:
    torch.manual_seed(0)
    mask = torch.rand(5, 40) < 0.3
    mask[2] = False
    for k, row in enumerate(mask):
        places = row.nonzero()[:, 0]
        rank = torch.arange(len(places))
        assert torch.equal(nth(mask, rank.expand(5, -1))[k], places)
    assert (nth(mask, torch.zeros(5, 3, dtype=torch.long)) < 40).all(), "an empty row still gives an index"


def test_draws_are_uniform_with_replacement() -> None:
    torch.manual_seed(0)
    drawn = draw(torch.tensor([0, 1, 5, 100_000_000]), 20_000)
    assert (drawn[:2] == 0).all() and drawn[3].max() < 100_000_000
    share = torch.stack([(drawn[2] == i).float().mean() for i in range(5)])
    assert (share - 0.2).abs().max() < 0.015 and (drawn[2] < 5).all()


def test_ranks_members_rows_shrink() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    assert ranks(p).tolist() == [[2, 0], [0, 2], [1, 1]]
    assert members(torch.tensor([0, 255, 2]), 3).long().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    map = torch.arange(24).view(1, 2, 3, 4)
    assert rows(map).tolist() == [[i, 12 + i] for i in range(12)]
    label = torch.tensor([[[0, 255, 7, 1], [3, 4, 5, 6]]])
    assert shrink(label, (1, 2)).tolist() == [[[0, 7]]] and shrink(label == 0, (1, 2)).dtype == torch.bool


def test_centres_of_an_empty_class_are_zero() -> None:
    features, mask = torch.randn(6, 4), torch.tensor([[1, 1, 0, 0, 1, 0], [0] * 6]).bool()
    found = centres(features, mask)
    torch.testing.assert_close(found[0], features[[0, 1, 4]].mean(0))
    assert (found[1] == 0).all()


def slow_info_nce(anchor: np.ndarray, positive: np.ndarray, negative: np.ndarray, t: float) -> float:
    def cos(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    terms = []
    for a, others in zip(anchor, negative):
        scores = np.exp(np.array([cos(a, positive)] + [cos(a, n) for n in others]) / t)
        terms.append(-np.log(scores[0] / scores.sum()))
    return float(np.mean(terms))


def test_info_nce_and_its_floor() -> None:
    torch.manual_seed(0)
    anchor, positive, negative = torch.randn(6, 5), torch.randn(5), torch.randn(6, 4, 5)
    expected = slow_info_nce(anchor.numpy(), positive.numpy(), negative.numpy(), 0.3)
    assert float(info_nce(anchor, positive, negative, 0.3)) == pytest.approx(expected, rel=1e-5)
    best = info_nce(positive.expand(6, -1), positive, -positive.expand(6, 50, -1), 0.5)
    assert float(best) == pytest.approx(math.log(1 + 50 * math.exp(-4)), rel=1e-5)
    assert float(best) == pytest.approx(0.65, abs=0.01)


def setting() -> tuple[Tensor, Tensor, Tensor, Queues, Tensor]:
    """Four classes: 0 is whole, 1 has no candidates, 2 has an empty queue, 3 is not present."""
    torch.manual_seed(1)
    features, candidates, centre = torch.randn(30, 5, requires_grad=True), torch.rand(4, 30) < 0.4, torch.randn(4, 5)
    candidates[1] = False
    queues = Queues((8, 8, 8, 8), 5)
    offered = torch.rand(4, 30) < 0.5
    offered[2] = False
    queues.write(torch.randn(30, 5), offered)
    return features, candidates, centre, queues, torch.tensor([True, True, True, False])


def test_class_contrast_is_the_slow_one_and_reaches_only_the_anchors() -> None:
    features, candidates, centre, queues, present = setting()
    draws = Draws(draw(candidates.sum(1), 3), draw(queues.count, 3 * 2))
    loss = class_contrast(features, candidates, centre, queues, present, 3, 2, 0.5, draws)
    loss.backward()
    anchors = candidates[0].nonzero()[:, 0][draws.anchors[0]]
    negative = queues.take(0, draws.negatives[0]).view(3, 2, 5).numpy()
    expected = slow_info_nce(features.detach()[anchors].numpy(), centre[0].numpy(), negative, 0.5) / 3
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert set(features.grad.abs().sum(1).nonzero()[:, 0].tolist()) == set(anchors.tolist())


def test_fewer_than_two_classes_are_no_contrast() -> None:
    features, candidates, centre, queues, _ = setting()
    for present in (torch.tensor([True, False, False, False]), torch.zeros(4, dtype=torch.bool)):
        features.grad = None
        loss = class_contrast(features, candidates, centre, queues, present, 3, 2, 0.5)
        loss.backward()
        assert loss == 0 and (features.grad == 0).all()


def test_half_precision_features_are_widened() -> None:
    features, candidates, centre, queues, present = setting()
    loss = class_contrast(features.half(), candidates, centre.half(), queues, present, 3, 2, 0.5)
    assert loss.dtype == torch.float32 and loss.isfinite()


def test_a_gradient_taken_at_once_is_the_same() -> None:
    x = torch.randn(5, 3, requires_grad=True)
    weight = torch.randn(5)

    def scalar(t: Tensor) -> Tensor:
        return t.exp().log_softmax(1).square().sum()

    def rowwise(t: Tensor) -> Tensor:
        return t.exp().log_softmax(1).square().sum(1)

    for fn, factor in ((scalar, torch.tensor(3.0)), (rowwise, weight)):
        value = derived(fn, x)
        assert torch.equal(value, fn(x))
        found, expected = (torch.autograd.grad((factor * y).sum(), x)[0] for y in (value, fn(x)))
        torch.testing.assert_close(found, expected)
    assert not derived(scalar, x.detach()).requires_grad


def batch_negatives() -> tuple[Tensor, Tensor, OtherClasses]:
    """Five classes of which 3 has no pixel."""
    torch.manual_seed(2)
    label = torch.tensor([0, 0, 1, 2, 4, 255] * 20)[torch.randperm(120)]
    features, alike = torch.randn(120, 6), torch.randn(5, 5)
    return label, alike, OtherClasses(features, members(label, 5), alike)


def test_other_classes_are_drawn_as_often_as_they_are_alike() -> None:
    label, alike, others = batch_negatives()
    assert others.ready.tolist() == [True, True, True, True, True], "an absent class has others, too"
    for k in (0, 2, 4):
        wanted = torch.tensor([j != k and j != 3 for j in range(5)])
        expected = torch.where(wanted, alike[k].exp(), 0) / alike[k].exp()[wanted].sum()
        torch.testing.assert_close(others.share[k], expected)
        drawn = others.draw(k, 40_000)
        seen = label[drawn]
        found = torch.stack([(seen == j).float().mean() for j in range(5)])
        assert (found - expected).abs().max() < 0.01 and (seen != 255).all()
        for j in wanted.nonzero()[:, 0].tolist():  # uniform within a class
            counts = torch.bincount(drawn[seen == j], minlength=120)[label == j].float()
            assert ((counts - counts.mean()).square() / counts.mean()).sum() < 50, (
                "chi squared of 19 degrees of freedom"
            )
    assert torch.equal(others.take(0, torch.tensor([7, 3])), others.features[[7, 3]])


def test_a_class_that_is_alone_has_no_negatives_and_equal_prototypes_draw_uniformly() -> None:
    alone = OtherClasses(torch.randn(9, 4), members(torch.ones(9).long(), 3), torch.zeros(3, 3))
    assert alone.ready.tolist() == [True, False, True] and alone.share[1].sum() == 0
    assert alone.draw(1, 5).max() < 9 and alone.take(1, alone.draw(1, 5)).isfinite().all()
    equal = OtherClasses(torch.randn(9, 4), members(torch.arange(9) % 3, 3), likeness(torch.ones(3, 4), 0.5))
    torch.testing.assert_close(equal.share, (1 - torch.eye(3)) / 2)


def test_likeness_is_a_table_of_cosines() -> None:
    p = torch.randn(4, 7)
    expected = torch.nn.functional.cosine_similarity(p[:, None], p[None], dim=2) / 0.3
    torch.testing.assert_close(likeness(p, 0.3), expected)


def test_no_negatives_are_kept_for_the_backward_pass() -> None:
    """What is kept does not grow with the number of negatives."""

    class Kept:
        def __init__(self, t: Tensor) -> None:
            self.t = t

    kept = {}
    for negatives in (2, 200):
        features, candidates, centre, queues, present = setting()
        alive = WeakSet()
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=alive: s.add(k := Kept(t)) or k, lambda k: k.t):
            loss = class_contrast(features, candidates, centre, queues, present, 3, negatives, 0.5)
        assert loss.requires_grad
        kept[negatives] = sum(k.t.numel() for k in alive)
    assert kept[2] == kept[200] > 0
