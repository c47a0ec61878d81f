"""`s4kit bench`: the kit against plain code, both sides measured here and now, quoted as ratios.

On a CPU all times are CPU seconds of one thread, so that a busy machine does not disturb them; on CUDA, wall seconds.
Both sides take turns, and the median is reported.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...data import load
from ...data.task import Task
from ...engine import evaluate
from ...methods import create
from ...methods.base import Method, Optim
from ...nets import make
from ...views import STRONG, Stream, ViewPlan, draw_step, render, unimatch_box
from .. import text
from ..photos import write_photos
from ..planning.memory import Stepper, step_peak, tracked
from . import loader
from .loop import plain_unimatch
from .scoring import scoring

NET = "efficientnet_lite0(weights='none')"
CPU = "cpu, 1 thread"
RECIPE = Optim([], lr=1e-4, kind="sgd")
PLAN = ViewPlan(
    x=Stream("labelled"),
    u=Stream("unlabelled", strong=(STRONG, STRONG), masks=(unimatch_box(), unimatch_box()), batch=2.0),
)


def bench(what: str = "all", quick: bool = False) -> dict[str, Any]:
    """Run the benchmarks and print them.

    Args:
        what: "host", "step", "u2pl", "eval" or "all".
        quick: small sizes and few repeats: shows that all is in order, not how fast it is.

    Returns:
        {"device", "quick", "host": {...}, "step": {...}, "u2pl": {...}, "eval": {...}}; times in ms, memory in bytes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else CPU}
    result["quick"] = quick
    parts = {"host": host, "step": step, "u2pl": u2pl, "eval": evaluation}
    with one_thread():
        for name in parts if what == "all" else (what,):
            print(f"measuring {name} ...", file=sys.stderr)
            result[name] = parts[name](device, quick)
    print(show(result))
    return result


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside, the old number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_turns(sides: dict[str, Callable[[int], Any]], repeats: int, device: str = "cpu") -> dict[str, float]:
    """Median milliseconds of each side's calls; call i of every side comes before call i + 1 of any."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    clock = time.perf_counter if device == "cuda" else time.process_time
    for i in range(-max(1, repeats // 10), repeats):  # the first calls warm up
        for name, call in sides.items():
            began = clock()
            call(max(i, 0))
            if device == "cuda":
                torch.cuda.synchronize()
            if i >= 0:
                times[name].append(clock() - began)
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


@contextmanager
def photos(amount: int, crop: int) -> Iterator[Task]:
    """A task over JPEGs of 500 x 375 in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield write_photos(Path(folder), amount).with_(crop=crop)


def host(device: str, quick: bool) -> dict[str, Any]:
    """One labelled and two unlabelled samples (a weak and two strong views each) from JPEGs, three ways."""
    random.seed(0)
    repeats = 4 if quick else 200
    with photos(4 if quick else 48, 321) as task:
        drawn = [draw_step(task, PLAN, 1, 0, 0, i) for i in range(min(repeats, 50))]

        def plain(i: int) -> None:
            loader.labelled_sample(task, task.labelled[i % len(task.labelled)])
            for k in range(2):
                loader.unlabelled_sample(task, task.unlabelled[(2 * i + k) % len(task.unlabelled)])

        sides = {
            "plain": plain,
            "host": lambda i: draw_step(task, PLAN, 1, 0, 0, i),
            "device": lambda i: render(drawn[i % len(drawn)], PLAN),
        }
        # means, not medians: what is drawn decides how long a sample takes
        times = _means(sides, repeats)
    ours = times["host"] + times["device"]
    return {
        "plain_ms": times["plain"],
        "host_ms": times["host"],
        "device_part_on_cpu_ms": times["device"],
        "host_ratio": times["host"] / times["plain"],
        "host_and_device_ratio": ours / times["plain"],
    }


def _means(sides: dict[str, Callable[[int], Any]], repeats: int) -> dict[str, float]:
    """Mean CPU milliseconds per call, the sides in turns."""
    total = dict.fromkeys(sides, 0.0)
    for call in sides.values():
        call(0)
    for i in range(repeats):
        for name, call in sides.items():
            began = time.process_time()
            call(i)
            total[name] += time.process_time() - began
    return {name: 1000 * seconds / repeats for name, seconds in total.items()}


def step(device: str, quick: bool) -> dict[str, Any]:
    """One UniMatch step of the kit and of a plain loop: same network, crop, batch, threads, optimiser, images."""
    crop, batch, repeats = (65, 2, 2) if quick else (321, 2, 12)
    with photos(8, crop) as task:
        ours = Stepper(create("unimatch", task, net=NET), task, RECIPE, device)
        fast = ours.batch(draw_step(task, ours.method.views, batch, 0, 0, 0))
        slow = fast.map(lambda t: t.contiguous())
        net = make(NET, task).to(device)
        sgd = torch.optim.SGD(net.parameters(), lr=RECIPE.lr, momentum=0.9, weight_decay=RECIPE.weight_decay)
        plain = plain_unimatch(net, sgd)
        times = take_turns({"plain": lambda _: plain(slow), "kit": lambda _: ours(fast)}, repeats, device)
        memory = {}
        for name, call in {"plain": lambda: plain(slow), "kit": lambda: ours(fast)}.items():
            with tracked(device) as peak:
                call()
            memory[name] = peak.bytes
    return {
        "crop": crop,
        "labelled": batch,
        "unlabelled": batch,
        "plain_ms": times["plain"],
        "kit_ms": times["kit"],
        "ratio": times["kit"] / times["plain"],
        "plain_peak_memory": memory["plain"],
        "kit_peak_memory": memory["kit"],
        "memory_ratio": memory["kit"] / memory["plain"],
    }


def u2pl(device: str, quick: bool) -> dict[str, Any]:
    """What contrast adds to a U2PL step: without it, with its representation heads alone, and with all of it."""
    crop, repeats = (65, 2) if quick else (321, 10)
    with photos(8, crop) as task:

        def method(side: str) -> Method:
            method = create("u2pl", task, net=NET, contrast=0.0 if side == "without" else 0.1)
            if side == "heads":  # both networks' heads run, and the student's is trained, by a loss that costs nothing
                method.contrast = lambda own, *_: own.z.float().mean()
            return method

        sides = {name: Stepper(method(name), task, RECIPE, device) for name in ("without", "heads", "with")}
        batches = {name: side.batch(draw_step(task, side.method.views, 2, 0, 0, 0)) for name, side in sides.items()}
        for _ in range(3):  # the queues fill
            sides["with"](batches["with"])
        times = take_turns({name: lambda _, n=name: sides[n](batches[n]) for name in sides}, repeats, device)
        peak = {name: step_peak(lambda n=name: method(n), task, 2, RECIPE, device) for name in ("with", "without")}
    return {
        "crop": crop,
        **{f"{name}_ms": value for name, value in times.items()},
        "added": times["with"] / times["without"] - 1,
        "added_by_heads": times["heads"] / times["without"] - 1,
        "with_peak_memory": peak["with"],
        "without_peak_memory": peak["without"],
    }


def evaluation(device: str, quick: bool) -> dict[str, Any]:
    """Time and peak memory of scoring, and the seconds to open a list of 10,000."""
    few, many = (2, 6) if quick else (8, 64)
    peaks = {}
    with photos(few, 321) as task:
        net = make(NET, task).to(device)
        for amount in (few, many):
            with tracked(device) as peak:
                evaluate(net, task.with_(val=_Repeated(task.val, amount)))
            peaks[amount] = peak.bytes
    images = 200 if quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        _many_files(Path(folder), images)
        began = time.perf_counter()
        listed = load("folder", root=folder, labelled="1/16")
        draw_step(listed, PLAN, 1, 0, 0, 0)
        seconds = time.perf_counter() - began
    return scoring(device, quick, take_turns) | {
        "images": [few, many],
        "peak_memory": [peaks[few], peaks[many]],
        "ratio": peaks[many] / peaks[few],
        "listed_images": images,
        "start_seconds": seconds,
    }


class _Repeated:
    """The images of a source over and over."""

    def __init__(self, source: Any, amount: int) -> None:
        self.source, self.ids = source, [str(i) for i in range(amount)]

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int, label: bool = True) -> Any:
        return self.source.read(row % len(self.source), label)


def _many_files(root: Path, amount: int) -> None:
    """A data set of `amount` tiny training images in the `folder` layout; the bytes of all are the same."""
    (root / "classes.txt").write_text("ground\nthing\n")
    for part in ("images", "labels"):
        for split, count in (("train", amount), ("val", 2)):
            folder = root / part / split
            folder.mkdir(parents=True)
            Image.new("RGB" if part == "images" else "L", (16, 16)).save(folder / "0.png")
            content = (folder / "0.png").read_bytes()
            for i in range(1, count):
                (folder / f"{i}.png").write_bytes(content)


def show(result: dict[str, Any]) -> str:
    """The figures for the terminal, each with what it should be."""
    rows = []
    if found := result.get("host"):
        base = f"{found['plain_ms']:.1f} ms plain Pillow loader"
        rows.append(("host part", f"{found['host_ms']:.1f} ms", base, f"{found['host_ratio']:.2f}", "≤ 0.15"))
        both = found["host_ms"] + found["device_part_on_cpu_ms"]
        ratio = f"{found['host_and_device_ratio']:.2f}"
        rows.append(("host + device part on CPU", f"{both:.1f} ms", base, ratio, "≤ 1.00"))
    if found := result.get("step"):
        name = f"UniMatch step, crop {found['crop']}"
        rows.append(
            (
                name,
                f"{found['kit_ms']:.0f} ms",
                f"{found['plain_ms']:.0f} ms plain loop",
                f"{found['ratio']:.2f}",
                "≤ 1.00",
            )
        )
        memory = [text.size(found[f"{side}_peak_memory"]) for side in ("kit", "plain")]
        ratio = f"{found['memory_ratio']:.2f}"
        rows.append(("its memory on top", memory[0], f"{memory[1]} plain loop", ratio, "≤ 0.75"))
    if found := result.get("u2pl"):
        name = f"U2PL step, crop {found['crop']}"
        base = f"{found['without_ms']:.0f} ms without contrast"
        rows.append((name, f"{found['with_ms']:.0f} ms", base, f"+{100 * found['added']:.0f} %", ""))
        heads, rest = found["added_by_heads"], found["added"] - found["added_by_heads"]
        rows.append(
            ("of it its representation heads", f"{found['heads_ms']:.0f} ms", base, f"+{100 * heads:.0f} %", "")
        )
        rows.append(("of it all else", "", "", f"+{100 * rest:.0f} %", "≤ +15 %"))
        memory = [text.size(found[f"{side}_peak_memory"]) for side in ("with", "without")]
        rows.append(("its peak memory", memory[0], f"{memory[1]} without contrast", "", ""))
    if found := result.get("eval"):
        name, base = f"scoring {found['scored_size']}", f"{found['one_by_one_ms']:.0f} ms one by one"
        goal = "≤ 0.50" if result["device"] != CPU else ""
        rows.append((name, f"{found['scored_ms']:.0f} ms", base, f"{found['scored_ratio']:.2f}", goal))
        few, many = found["images"]
        memory = [text.size(value) for value in found["peak_memory"]]
        name = f"evaluation memory, {many} images"
        rows.append((name, memory[1], f"{memory[0]} with {few} images", f"{found['ratio']:.2f}", "1.00"))
        name = f"start on {found['listed_images']} images"
        rows.append((name, f"{found['start_seconds']:.2f} s", "", "", "< 2 s"))
    head = ("what", "s4kit", "against", "ratio", "should be")
    note = "\nquick: sizes too small to judge by" if result["quick"] else ""
    return f"{result['device']}\n\n{text.table(head, rows, right='lrlrr')}{note}"
