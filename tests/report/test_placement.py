"""Which GPU a training gets: a pure function of a list of devices, and what its process then sees."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch

from s4kit import preemption
from s4kit.errors import S4Error
from s4kit.methods import create
from s4kit.report import setup
from s4kit.report.comparing import placement, processes
from s4kit.report.comparing.placement import Card, place, slots
from s4kit.walk import groups

GB = 1e9
FOUR = [Card(str(k), 39 * GB, 40 * GB) for k in range(4)]


def test_each_gpu_once_in_turn():
    assert place(FOUR, 4) == ["0", "1", "2", "3"]
    assert place(FOUR, 2) == ["0", "1"]
    assert place(FOUR, 9) == ["0", "1", "2", "3"]  # nothing is known of what a training needs


def test_several_on_one_as_far_as_their_memory_fits():
    assert place(FOUR[:2], 5, need=10 * GB) == ["0", "1", "0", "1", "0"]
    assert place(FOUR[:2], 9, need=15 * GB) == ["0", "1", "0", "1"]
    mixed = [Card("small", 15 * GB, 16 * GB), Card("large", 75 * GB, 80 * GB)]
    assert place(mixed, 8, need=14 * GB) == ["small", "large", "large", "large", "large", "large"]


def test_a_gpu_in_other_hands_is_left_alone():
    busy = Card("1", 15 * GB, 40 * GB)
    assert place([FOUR[0], busy, FOUR[2]], 3) == ["0", "2"]
    assert place([FOUR[0], Card("1", 21 * GB, 40 * GB)], 2, need=25 * GB) == ["0"]
    assert place([Card("0", 2 * GB, 40 * GB), busy], 2) == ["1"]  # all are: the one with most room


@pytest.fixture
def two(monkeypatch):
    """A machine with two GPUs, as far as placing goes."""
    monkeypatch.setattr("s4kit.engine.device.pick_device", lambda device: torch.device("cuda", 0))
    monkeypatch.setattr(groups, "pick_device", lambda device: torch.device("cuda", 0))
    monkeypatch.setattr(placement, "cards", lambda: FOUR[2:])


def test_slots_by_what_is_asked_for(two, monkeypatch, capsys):
    never = pytest.fail
    assert slots(0, need=never) == slots(2, need=never) == ["2", "3"]  # no planning where nobody shares
    assert slots(1) == [None] and slots(3, "cuda:1") == [None, None, None]  # as the user says
    assert slots(4, need=lambda: 12 * GB) == ["2", "3", "2", "3"]
    assert not capsys.readouterr().err
    assert slots(4, need=lambda: 30 * GB) == ["2", "3"]
    assert "2 trainings at a time instead of 4: no more of 30.0 GB each fit" in capsys.readouterr().err
    assert groups.slots("gpu", "scenes", 0) == groups.slots("cpu", "scenes", 0) == ["2", "3"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert slots(0) == [None]
    with pytest.raises(S4Error, match="jobs=-1"):
        slots(-1)


def test_without_a_gpu_jobs_share_the_cores():
    assert slots(0) == slots(1) == [None] and slots(3) == [None] * 3
    assert groups.slots("gpu", "scenes", 0) == [None] and len(groups.slots("cpu", "scenes", 3)) == 3


@pytest.mark.slow
def test_the_need_is_what_the_planner_says_of_the_largest():
    from s4kit.data import load

    fit = {"steps": 2, "batch": 2}
    task = {"labelled": 4, "n_train": 12, "n_val": 2, "side": 48, "crop": 32}
    setups = [setup.of(name, "scenes", task, {"net": "tiny"}, fit) for name in ("supervised", "cps")]
    loaded = load(**setups[0].task)
    setups = [setup.settle(chosen, loaded) for chosen in setups]
    one, other = (placement.largest([chosen], loaded) for chosen in setups)
    assert one < other == placement.largest(setups, loaded)
    weights = sum(p.numel() * 4 for p in create("cps", loaded, net="tiny").parameters())
    assert other > weights + 0.6e9  # CUDA's own


def test_notebooks_side_by_side_share_the_gpus(tmp_path):
    """As many at a time as there are slots, each slot with one at a time; one that is alone sees all GPUs."""
    together, meet, seen = [], threading.Barrier(2, timeout=30), []

    def one(file, slot):
        together.append(slot)
        if len(together) <= 2:
            meet.wait()
        return {"name": file, "slot": slot}

    rows = groups.side_by_side(one, ["a", "b", "c"], ["2", "3"])
    assert [row["name"] for row in rows] == ["a", "b", "c"] and sorted(together[:2]) == ["2", "3"]
    assert {row["slot"] for row in rows} == {"2", "3"}
    assert groups.side_by_side(lambda file, slot: seen.append(slot), ["a"], ["2", "3"]) and seen == [None]


@pytest.mark.slow
def test_a_process_sees_its_gpu_and_one_that_is_told_to_stop_ends_all():
    """And not what was there before: a process of somebody else runs on."""
    sides = [("7", processes.share("ab")), ("GPU-8", processes.share("ab"))]
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
    other.start()
    with (
        pytest.raises(preemption.Preempted),
        preemption.preemptible(),
        processes.side_by_side(["7", "GPU-8"]) as submit,
    ):
        assert {future.result() for future in [submit(seen, 0.5) for _ in range(4)]} == {*sides}
        waiting = submit(seen, 600.0)
        while not waiting.running():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
    assert waiting.result() in sides  # it was asked to end, and waited for
    assert other.is_alive()
    other.kill()
    other.join()


def seen(seconds: float) -> tuple[str | None, int]:
    """What such a process sees; SIGINT ends its waiting, as it ends a training."""

    def end(*_):
        raise InterruptedError

    before = signal.signal(signal.SIGINT, end)
    try:
        time.sleep(seconds)
    except InterruptedError:
        pass
    finally:
        signal.signal(signal.SIGINT, before)
    return os.environ.get(placement.VISIBLE), torch.get_num_threads()
