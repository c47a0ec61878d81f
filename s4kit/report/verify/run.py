"""The parts in their order, the time that each may take, and what came of them."""

from __future__ import annotations

import platform
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ... import __version__
from ...engine.device import pick_device
from ...errors import S4Error, closest
from ...methods import names
from ..benchmarking.price import commit, machine, processor
from ..doctor import doctor
from . import page
from .card import keeping
from .checks import FAILED, Bench, Check, Part, Time
from .colours import colours
from .planning import planning
from .ranks import ranks
from .resuming import resuming
from .scoring import scoring
from .speed import speed
from .steps import steps

PARTS = (
    Part("steps", "every method's step in float32, bf16 and fp16", steps, 3.0),
    Part("colours", "views of the device against those of the CPU", colours, 0.2),
    Part("resuming", "kill and resume, and the same again", resuming, 0.7),
    Part("ranks", "several processes", ranks, 0.7),
    Part("scoring", "evaluation, whole and sliding", scoring, 0.5),
    Part("planning", "memory and time against the plan", planning, 2.4),
    Part("speed", "images per second, and where the time goes", speed, 2.0),
    Part("card", "figures of this card for later plans", keeping, 0.2),
)
WALK = ("supervised", "cutmix", "cps", "u2pl", "unimatch")  # of the notebooks; all that `quick` looks at
MINUTES, SLOW = 8.0, 15.0  # on a data-centre GPU, and on one like a T4 (before Ampere)


def verify(
    device: str = "auto",
    quick: bool = False,
    out: str | Path = "runs/verify",
    only: Sequence[str] = (),
    methods: Sequence[str] = (),
    minutes: float | None = None,
) -> dict[str, Any]:
    """Look whether the kit holds on a device; print a table, write `report.html` and `report.json` into `out`.

    Args:
        quick: everything tiny, a few methods: shows that `verify` itself is in order.
        only: names of parts, see `PARTS`. methods: names; none = all of the kit, with `quick` those of the walk.
        minutes: how long it may take; what there is no time for is skipped and named. By default 8, on a GPU before
            Ampere 15.

    Returns:
        {"ok": nothing has failed, "machine", "parts": [{"part", "title", "seconds", "checks": [{"name", "level",
        "found", "send"}], "figures"}], ...}.

    Raises:
        S4Error: no such part, method or device.
    """
    chosen = [_part(name) for name in only] or list(PARTS)
    at = pick_device(device)
    if at.type not in ("cpu", "cuda"):
        raise S4Error(f"verify looks at CUDA devices, and with --device cpu at itself, not at {at.type}.")
    bench = Bench(at, quick, tuple(methods or (WALK if quick else names())), _half(at))
    for name in methods:
        if name not in names():
            raise S4Error(f"There is no method {name!r}. {closest(name, names())}")
    began, until = time.monotonic(), Time(60 * (minutes or _minutes(at)))
    found = []
    for number, part in enumerate(chosen):
        share = part.share / sum(p.share for p in chosen[number:])
        found.append(_one(part, bench, share * max(0.0, until.left)))
    result = {
        "ok": all(check["level"] != FAILED for part in found for check in part["checks"]),
        "command": "s4kit verify" + (" --quick" if quick else "") + f" --device {at.type}",
        "date": date.today().isoformat(),
        "seconds": round(time.monotonic() - began, 1),
        "quick": quick,
        **_machine(at),
        "parts": found,
    }
    result["files"] = page.write(Path(out), result)
    print(page.show(result))
    return result


def _part(name: str) -> Part:
    known = {part.name: part for part in PARTS}
    if name not in known:
        raise S4Error(f"verify has no part {name!r}. {closest(name, list(known))}")
    return known[name]


def _half(device: torch.device) -> tuple[str, ...]:
    """Precisions in 16 bits; a GPU that only emulates bf16 (a T4) is not asked for it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return ("fp16",)
    return ("bf16", "fp16")


def _minutes(device: torch.device) -> float:
    return SLOW if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 8 else MINUTES


def _one(part: Part, bench: Bench, seconds: float) -> dict[str, Any]:
    """A part with its checks; one that breaks does not hide the others."""
    checks: list[Check] = []

    def say(name: str, level: str, found: str, send: str = "") -> None:
        checks.append(Check(name, level, found, send))
        if level == FAILED:
            print(f"  {part.name}: {name} FAILED: {found}", file=sys.stderr)

    print(f"{part.name}: {part.title} (at most {seconds:.0f} s) ...", file=sys.stderr)
    began, figures = time.monotonic(), {}
    try:
        figures = part.run(bench, say, Time(seconds))
    except Exception as error:
        say(part.name, FAILED, f"{type(error).__name__}: {error}")
        figures = {"traceback": traceback.format_exc()}
    if bench.cuda:
        torch.cuda.empty_cache()
    took = round(time.monotonic() - began, 1)
    told = [vars(check) for check in checks]
    return {"part": part.name, "title": part.title, "seconds": took, "checks": told, "figures": figures}


def _machine(device: torch.device) -> dict[str, Any]:
    """What whoever reads the report must know of the machine; no name of it or of its user."""
    found: dict[str, Any] = {
        "machine": machine(device.type),
        "kit": f"{__version__} {commit()}".strip(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {processor()}",
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        of = torch.cuda.get_device_properties(device)
        found |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
            "memory": of.total_memory,
            "capability": f"{of.major}.{of.minor}",
        }
    packages = [check for check in doctor()["checks"] if not check["name"].startswith(("disk", "data", "this folder"))]
    return found | {"doctor": packages}
