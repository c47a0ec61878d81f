"""The shell in two processes on gloo: under torchrun, on one node and on two; and as the SLURM script starts it."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy_folder import flags, write_folder

import s4kit as s4
from s4kit import preemption
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


def two_nodes(*argv: str) -> subprocess.CompletedProcess[str]:
    """The same on two nodes, which are both this machine; what came of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    launch += ["--master-addr", "127.0.0.1", "--master-port", port]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    second = subprocess.Popen(
        [*launch, "--node-rank", "1", "-m", "s4kit", *argv],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = [*launch, "--node-rank", "0", "-m", "s4kit", *argv]
    found = subprocess.run(first, capture_output=True, text=True, timeout=900, env=env)
    assert second.wait(timeout=60) == found.returncode, second.stderr.read()
    return found


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
    began = time.monotonic()
    again = two_nodes("train", "--resume", str(two), "--json")  # begun on one node, it goes on over two
    usual = time.monotonic() - began
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


SRUN = """#!/bin/bash
# Two tasks on this machine; both are told where FILE appears. The status is the highest of theirs, as srun's is.
for k in 0 1; do SLURM_PROCID=$k SLURM_LOCALID=$k "$@" & tasks[k]=$!; done
if [ -n "$FILE" ]; then
    until [ -e "$FILE" ]; do sleep 0.05; done
    kill -USR1 "${tasks[1]}"
fi
high=0
for k in 0 1; do wait "${tasks[k]}"; status=$?; if [ $status -gt $high ]; then high=$status; fi; done
exit $high
"""
SCONTROL = """#!/bin/bash
if [ "$1" = requeue ]; then echo "$2" >> "$QUEUE"; else echo 127.0.0.1; fi
"""


@pytest.mark.slow
def test_the_slurm_script_puts_a_preempted_job_back_and_goes_on(tmp_path):
    """The script as it is, but for what a user edits; `srun` and `scontrol` are stand-ins on this machine."""
    root, run, queue = write_folder(tmp_path / "squares", n_train=60), tmp_path / "run", tmp_path / "queue"
    train = ["train", "fixmatch", *flags(root, 120), "--backbone", "tiny(norm='group')", "--device", "cpu"]
    command = [sys.executable, "-m", "s4kit", *train, "--checkpoint-every", "20", "--resume", str(run)]
    script = (Path(__file__).parents[2] / "notebooks" / "slurm.sh").read_text()
    script, edited = re.subn(r"^train=\(.*\)$", lambda _: f"train=({shlex.join(command)})", script, flags=re.M)
    assert edited == 1 and script.index("#SBATCH --requeue") < script.index("train=")  # SLURM reads no later ones
    for name, text in (("job.sh", script), ("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "QUEUE": str(queue)}
    env |= {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NTASKS": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_JOB_NODELIST": "n",
    }

    def submit(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=env | more, capture_output=True, text=True)

    told = submit(FILE=str(run / "metrics.csv"))  # one process alone is told; all agree and leave
    assert told.returncode == preemption.STATUS, told.stderr
    assert queue.read_text().split() == [env["SLURM_JOB_ID"]]
    done = checkpoint.load(run / "last.pt")["step"]
    assert 0 < done < 120 and f"saved after {done} steps" in told.stderr
    again = submit(FILE="")
    assert again.returncode == 0 and queue.read_text().split() == [env["SLURM_JOB_ID"]], again.stderr
    assert [row["step"] for row in s4.open_run(run).metrics()] == list(range(120))
