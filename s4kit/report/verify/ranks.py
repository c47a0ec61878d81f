"""Part (g): several processes. On GPUs with NCCL, as many as there are; NCCL takes one process per GPU, so that on a
single one two processes meet over gloo, and NCCL is tried by itself. On a CPU two processes over gloo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ... import engine
from ...engine import checkpoint, distributed
from ...nets import make, sync_bn
from .checks import FAILED, OK, ONLY_CUDA, SKIPPED, Bench, Say, Time
from .resuming import APART, apart, settings, task_and_method, weights

MOST = 8  # processes
STEPS = 5
SAID = 1500  # characters of what a process said that the report has
CLOSE = 2e-2  # relative: TF32 sums in another order
COMMAND = "from s4kit.report.verify import ranks; ranks.child()"


def ranks(bench: Bench, say: Say, left: Time) -> dict[str, Any]:
    """NCCL, synchronised batch norm, and processes against accumulation."""
    if left.left <= 0:
        say("processes", SKIPPED, "no time left")
        return {}
    gpus = torch.cuda.device_count() if bench.cuda else 0
    figures: dict[str, Any] = {"gpus": gpus}
    with tempfile.TemporaryDirectory() as folder:
        if gpus:
            _speak(say, figures, "NCCL", _together(min(gpus, MOST), "meet", "nccl", "cuda", folder, left))
        else:
            say("NCCL", SKIPPED, ONLY_CUDA)
        if gpus > 1:
            words = _together(min(gpus, MOST), "norms", "nccl", "cuda", folder, left)
            _speak(say, figures, "synchronised batch norm", words)
        else:
            say("synchronised batch norm", SKIPPED, "needs two GPUs" if gpus else ONLY_CUDA)
        _against_accumulation(bench, say, figures, gpus, folder, left)
    return figures


def _speak(say: Say, figures: dict[str, Any], name: str, wrong: str) -> None:
    figures[name] = wrong or "ok"
    say(name, FAILED if wrong else OK, wrong or "in order", "the same command with NCCL_DEBUG=INFO before it")


def _against_accumulation(bench: Bench, say: Say, figures: dict[str, Any], gpus: int, folder: str, left: Time) -> None:
    """N processes against one that accumulates N micro-batches: equal but for the order of sums."""
    count, backend = (min(gpus, MOST), "nccl") if gpus > 1 else (2, "gloo")
    device = "cuda" if gpus > 1 else str(bench.device)
    name = f"{count} processes over {backend} = {count} micro-batches"
    wrong = _together(count, "train", backend, device, folder, left)
    if wrong:
        _speak(say, figures, name, wrong)
        return
    task, method = task_and_method()
    start, one = weights(method.state_dict()), Path(folder) / "one"
    engine.fit(method, task, out=one, accumulate=count, **_settings(str(bench.device)))
    first, other = (weights(checkpoint.load(at / "last.pt")["method"]) for at in (one, Path(folder) / "several"))
    figures["apart"] = share = apart(other, first, start)
    words = "the same to the last bit" if share == 0 else f"{100 * share:.2g} % of the way apart"
    say(name, OK if share <= (APART if bench.cuda else 0) else FAILED, words)


def _settings(device: str) -> dict[str, Any]:
    return settings(device, "float32", STEPS, STEPS) | {"progress": False}


# ---- the processes ----


def _together(count: int, what: str, backend: str, device: str, folder: str, left: Time) -> str:
    """Run `what` in `count` processes; what went wrong, or ""."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    argv = [sys.executable, "-c", COMMAND, json.dumps([what, backend, device, folder])]
    logs = [Path(folder) / f"{what}_{rank}.txt" for rank in range(count)]
    started = []
    for rank, log in enumerate(logs):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        with open(log, "wb") as file:
            started.append(subprocess.Popen(argv, env=os.environ | world | own, stdout=file, stderr=file))
    wrong = _ended(started, time.monotonic() + max(60.0, left.left))
    return wrong and f"{wrong}: " + " | ".join(log.read_text(errors="replace").strip()[-SAID:] for log in logs)


def _ended(started: list[subprocess.Popen[bytes]], until: float) -> str:
    """Wait for all; as soon as one fails, or the time is over, the others are ended, too. What went wrong, or ""."""
    try:
        while any(process.poll() is None for process in started):
            if any(process.poll() for process in started):
                break
            if time.monotonic() > until:
                return "the processes wait for each other"
            time.sleep(0.1)
        failed = [rank for rank, process in enumerate(started) if process.poll()]
        return f"process {failed[0]} failed" if failed else ""
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()


def child() -> None:
    """What each process does."""
    what, backend, device, folder = json.loads(sys.argv[1])
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    at = torch.device("cuda", rank) if device == "cuda" else torch.device(device)
    if at.type == "cuda":
        torch.cuda.set_device(at)
    dist.init_process_group(backend, rank=rank, world_size=count)
    {"meet": _meet, "norms": _norms, "train": _train}[what](at, Path(folder))
    dist.barrier()
    dist.destroy_process_group()


def _meet(at: torch.device, folder: Path) -> None:
    """The kit's collectives, and gradients that are averaged."""
    count = dist.get_world_size()
    ones = torch.ones(3, device=at)
    dist.all_reduce(ones)
    assert ones.tolist() == [count] * 3, f"a sum over {count} processes gave {ones.tolist()}"
    assert distributed.same(dist.get_rank()) == 0, "an object did not come from process 0"
    assert distributed.any_rank(dist.get_rank() == 0, at), "a flag of process 0 was not seen"
    net = nn.Linear(2, 1, bias=False).to(at)
    distributed.share_state(net)
    wrapped = nn.parallel.DistributedDataParallel(net)
    wrapped(torch.full((1, 2), float(dist.get_rank()), device=at)).sum().backward()
    mean = (count - 1) / 2
    assert torch.allclose(net.weight.grad, torch.full_like(net.weight, mean)), "the gradients were not averaged"


def _norms(at: torch.device, folder: Path) -> None:
    """Each process its part of a batch through a synchronised network, against the whole batch through a plain one."""
    torch.manual_seed(0)
    images = torch.rand(2 * dist.get_world_size(), 3, 64, 64).to(at)
    plain = make("tiny", classes=3).to(at).train()
    torch.manual_seed(0)
    torch.rand(len(images), 3, 64, 64)  # as above, so that both networks begin alike
    synced = sync_bn(make("tiny", classes=3)).to(at).train()
    whole, own = plain(images), synced(images.chunk(dist.get_world_size())[dist.get_rank()])
    _close(own, whole.chunk(dist.get_world_size())[dist.get_rank()], "logits")
    for (name, one), other in zip(synced.named_buffers(), plain.buffers()):
        _close(one, other, name)


def _close(one: Tensor, other: Tensor, name: str) -> None:
    one, other = one.detach().double(), other.detach().double()
    apart = float((one - other).norm() / other.norm().clamp(min=1e-12))
    assert apart <= CLOSE, f"{name} of the processes is {100 * apart:.2g} % from that of one"


def _train(at: torch.device, folder: Path) -> None:
    task, method = task_and_method()
    engine.fit(method, task, out=folder / "several", **_settings(str(at)))
    own = weights(method.state_dict()).to(at)
    other = own.clone()
    dist.broadcast(other, 0)
    assert torch.equal(own, other), "the processes drifted apart"
