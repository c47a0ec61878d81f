"""The shell under torchrun, two processes on gloo: a broken file in one of them ends all, a restart goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from toy_folder import flags, write_folder

import s4kit as s4
from s4kit.cli import main
from s4kit.data.seeding import generator
from s4kit.engine import checkpoint
from s4kit.views.sampling import pick, stream_size

STEPS, BATCH, SAVED = 6, 2, 2


def torchrun(*argv: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """What came of it, and the seconds it took."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "s4kit"]
    began = time.monotonic()
    env = os.environ | {"OMP_NUM_THREADS": "1"}  # what torchrun sets where nobody has said
    found = subprocess.run([*launch, *argv], capture_output=True, text=True, timeout=900, env=env)
    return found, time.monotonic() - began


def first_drawn(task) -> tuple[int, str]:
    """(step, id) of an image that process 1 reads after the first checkpoint, and nobody before."""
    plan = s4.methods.get("fixmatch").views
    seen = set(generator(0, "probe").permutation(list(task.unlabelled))[:16].tolist())
    for step in range(STEPS):
        rows = []
        for rank in (0, 1):
            micro = 2 * step + rank
            sizes = {name: stream_size(stream, BATCH) for name, stream in plan.items() if stream.source != "labelled"}
            places = [(name, place) for name, n in sizes.items() for place in range(micro * n, (micro + 1) * n)]
            rows.append([pick(task, plan[name], name, 0, 0, place) for name, place in places])
        fresh = [row for row in rows[1] if row not in seen and row not in rows[0]]
        if step > SAVED and fresh:
            return step, task.train.ids[fresh[0]]
        seen.update(*rows)
    raise AssertionError("every image is read before")


@pytest.mark.slow
def test_a_broken_file_of_one_process_ends_the_job_and_the_restart_equals_one_process(tmp_path):
    root, two, one = write_folder(tmp_path / "squares", n_train=60), tmp_path / "two", tmp_path / "one"
    train = ["train", "fixmatch", *flags(root, STEPS), "--backbone", "tiny(norm='group')", "--device", "cpu"]
    step, name = first_drawn(s4.load("folder", root=str(root), labelled=4, crop=32))
    file = root / "images" / f"{name}.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])

    failed, took = torchrun(*train, "--out", str(two))
    assert failed.returncode != 0 and file.name in failed.stderr and "process 1" in failed.stderr, failed.stderr
    assert checkpoint.load(two / "last.pt")["step"] == SAVED and len(s4.open_run(two).metrics()) <= step

    file.write_bytes(whole)
    again, usual = torchrun("train", "--resume", str(two), "--json")
    assert again.returncode == 0, again.stderr
    assert [json.loads(line)["steps"] for line in again.stdout.splitlines()] == [STEPS]  # only one process speaks
    assert took < 3 * usual + 30, "the failure was waited for"

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun has it: sums in another order differ in the last bit
    assert main([*train, "--accumulate", "2", "--out", str(one)]) == 0
    torch.set_num_threads(threads)
    a, b = (checkpoint.load(folder / "last.pt")["method"] for folder in (two, one))
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=0, msg=lambda words, key=key: f"{key}: {words}")
    assert [row["step"] for row in s4.open_run(two).metrics()] == list(range(STEPS))
    scores = [[(row["step"], row["miou"]) for row in s4.open_run(folder).evaluations()] for folder in (two, one)]
    assert scores[0] == scores[1] and len(scores[0]) > 0
