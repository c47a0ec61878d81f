"""Queues against lists."""

from collections import deque

import numpy as np
import pytest
import torch

from s4kit.methods.parts import banks
from s4kit.methods.parts.banks import Queues


def held(queues: Queues, k: int) -> np.ndarray:
    return queues.take(k, torch.arange(int(queues.count[k]))).numpy()


@pytest.mark.parametrize("capacity", [(1, 4, 7), (30, 5, 12)])
def test_queues_are_deques(capacity: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    queues, lists = Queues(capacity, 3), [deque(maxlen=c) for c in capacity]
    for n in (5, 1, 17, 8, 2, 40):
        features, offered = torch.randn(n, 3), torch.rand(len(capacity), n) < 0.4
        queues.write(features, offered)
        for rows, chosen in zip(lists, offered):
            rows.extend(features[chosen].numpy())
        assert queues.count.tolist() == [len(rows) for rows in lists]
        for k, rows in enumerate(lists):
            np.testing.assert_array_equal(held(queues, k), np.array(rows).reshape(-1, 3))


def test_nothing_offered_changes_nothing() -> None:
    queues = Queues((4, 4), 2)
    queues.write(torch.ones(6, 2), torch.tensor([[True] * 6, [False] * 6]))
    before = {k: v.clone() for k, v in queues.state_dict().items()}
    queues.write(torch.zeros(6, 2), torch.zeros(2, 6, dtype=torch.bool))
    assert all(torch.equal(v, before[k]) for k, v in queues.state_dict().items())
    assert queues.count.tolist() == [4, 0]
    assert queues.take(1, torch.zeros(3, dtype=torch.long)).isfinite().all(), "an empty queue gives finite rows"


@pytest.mark.parametrize("found", [5, 10, 11, 64, 999])
def test_fresh_rows_are_spread_evenly_and_keep_their_order(found: int) -> None:
    torch.manual_seed(found)
    queues = Queues((100,), 1, fresh=10)
    queues.write(torch.arange(1000.0)[:, None], torch.arange(1000)[None] < found)
    rows = held(queues, 0)[:, 0]
    assert len(rows) == min(found, 10) and rows[-1] < found
    gaps = np.diff(rows)
    assert gaps.min() >= max(1, found // 10) and gaps.max() <= -(-found // 10)


def test_every_offered_row_has_the_same_chance() -> None:
    torch.manual_seed(0)
    counts = np.zeros(25)
    for _ in range(500):
        queues = Queues((10,), 1, fresh=10)
        queues.write(torch.arange(25.0)[:, None], torch.ones(1, 25, dtype=torch.bool))
        counts[held(queues, 0)[:, 0].astype(int)] += 1
    assert abs(counts / 500 - 0.4).max() < 0.1


def test_two_ranks_store_what_one_process_stores_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    parts = [(torch.randn(9, 2), torch.rand(3, 9) < 0.5) for _ in range(4)]
    alone, together = Queues((4, 6, 20), 2), Queues((4, 6, 20), 2)
    for part in parts:
        alone.write(*part)
    for first, second in (parts[:2], parts[2:]):
        offers = [together._choose(*part) for part in (first, second)]
        monkeypatch.setattr(banks, "_all_ranks", lambda *_, offers=offers: offers)
        together.write(*first)
    assert all(torch.equal(a, b) for a, b in zip(alone.state_dict().values(), together.state_dict().values()))


def test_half_precision_and_a_reload() -> None:
    queues = Queues((8,), 4, dtype=torch.float16)
    features = torch.randn(5, 4)
    queues.write(features, torch.ones(1, 5, dtype=torch.bool))
    again = Queues((8,), 4, dtype=torch.float16)
    again.load_state_dict(queues.state_dict())
    np.testing.assert_allclose(held(again, 0), features.numpy(), rtol=1e-3)
    assert again.take(0, torch.tensor([0])).dtype == torch.float32
