"""What the flags of a command say, in the words of the kit's functions."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .errors import S4Error
from .specs import parse_options

_TASK = {"root": "root", "labelled": "labelled", "split_seed": "seed", "size": "size", "crop": "crop"}
_FIT = (
    "steps", "epochs", "batch", "unlabelled_batch", "accumulate", "lr", "clip", "checkpoint_every",
    "evaluate_every", "probe_whole", "precision", "device", "workers", "threads", "compile", "seed",
)  # fmt: skip


def given(a: argparse.Namespace, anew: bool = True) -> tuple[dict, dict, dict]:
    """What the user asked for: of the task, of the method, of `fit`; what begins anew needs a data set."""
    if anew and not a.data:
        raise S4Error("Say which data set: --data NAME (`s4kit data list` lists them; scenes needs no download).")
    task = task_options(a, a.data)
    options = ({"net": a.backbone} if a.backbone else {}) | parse_options(a.option)
    fit = {name: getattr(a, name) for name in _FIT if getattr(a, name, None) is not None}
    if a.probes is not None:
        fit["probes"] = watched(a.probes)
    if {"steps", "epochs"} <= fit.keys():
        raise S4Error("Give --steps or --epochs, not both.")
    return task, options, fit


def task_options(a: argparse.Namespace, data: str | None) -> dict[str, Any]:
    """The arguments of `load` that the flags say."""
    from .data.splitting.split_names import flagged

    task = {name: getattr(a, flag) for flag, name in _TASK.items() if getattr(a, flag) is not None}
    labelled = flagged(a.split, a.labelled, data, a.split_seed)
    further = {"more": dict(_pair(words) for words in a.more)} if a.more else {}
    return task | ({} if labelled is None else {"labelled": labelled}) | further | parse_options(a.data_option)


def _pair(words: str) -> tuple[str, str]:
    """ "domain=gta5(size=720)" as the name of a further list and what it is."""
    name, equals, data = words.partition("=")
    if not (name and equals and data):
        raise S4Error(f"--more {words}: write NAME=DATA, such as domain=plain.")
    return name, data


def watched(text: str) -> Any:
    """A number of images, the path of a list, "worst", or ids with commas."""
    if text.isdecimal():
        return int(text)
    return text if text == "worst" or os.path.isfile(text) else [name for name in text.split(",") if name]


def numbers(flag: str, text: str, kind: type = int) -> list[Any]:
    """The numbers of a flag, with commas or spaces between them; raises S4Error where a word is none."""
    try:
        return [kind(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise S4Error(f"{flag} {text!r}: give numbers with commas, such as 0,1,2.") from None
