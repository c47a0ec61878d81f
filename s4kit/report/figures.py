"""The figures of a comparison: per run, per method over its seeds, and as a table for the terminal."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import setup, text
from .setup import BASELINES, Plan


def collect(work: Sequence[tuple[Plan, int, Path]]) -> dict[str, Any]:
    """The figures of finished runs: per run, and per method the mean and deviation over seeds."""
    from ..engine import open_run

    runs = [setup.summary(open_run(folder)) for _, _, folder in work]
    methods = []
    for name in dict.fromkeys(run["method"] for run in runs):
        own = [run for run in runs if run["method"] == name]
        row: dict[str, Any] = {"method": name, "seeds": [run["seed"] for run in own]}
        for key in ("miou_last", "miou_best"):
            row[key], row[f"{key}_sd"] = _mean([run[key] for run in own])
        row["seconds"] = _mean([run["seconds"] for run in own])[0]
        row["peak_memory"] = max((run["peak_memory"] or 0 for run in own), default=0) or None
        row["iou_last"] = _class_means([folder for plan, _, folder in work if plan.method == name])
        methods.append(row)
    for row in methods:
        for baseline in BASELINES:
            base = next((m for m in methods if m["method"] == baseline), None)
            same = base is None or base is row or row["miou_last"] is None
            row[f"over_{baseline}"] = None if same else row["miou_last"] - base["miou_last"]
    config = open_run(work[0][2]).config
    return {
        "data": config["task"]["name"],
        "protocol": config["protocol"],
        "task": config["task"],
        "fit": {k: v for k, v in config["fit"].items() if k != "seed"},
        "versions": config["versions"],
        "hardware": _hardware(),
        "methods": methods,
        "runs": runs,
    }


def _mean(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [v for v in values if v is not None]
    sd = statistics.stdev(known) if len(known) > 1 else None
    return (statistics.fmean(known) if known else None), sd


def _class_means(folders: Sequence[Path]) -> dict[str, float | None]:
    """Mean IoU per class over seeds, at the last evaluation of the headline predictor."""
    from ..engine import open_run

    rows = [open_run(folder).headline[-1] for folder in folders]
    names = [key for row in rows for key in row if key.startswith("iou_")]
    return {key[4:]: _mean([row.get(key) for row in rows])[0] for key in dict.fromkeys(names)}


def _hardware() -> str:
    import torch

    cores = f"{os.cpu_count()} CPU cores"
    return f"{torch.cuda.get_device_name(0)}, {cores}" if torch.cuda.is_available() else f"{cores}, no GPU"


def table(result: dict[str, Any]) -> str:
    """The comparison for the terminal."""
    head = ("method", "mIoU last", "mIoU best", "vs supervised", "vs sup. strong", "time", "peak memory")
    rows = [
        (
            m["method"],
            text.spread(m["miou_last"], m["miou_last_sd"]),
            text.spread(m["miou_best"], m["miou_best_sd"]),
            text.difference(m["over_supervised"]),
            text.difference(m["over_supervised_strong"]),
            text.duration(m["seconds"]),
            text.size(m["peak_memory"]),
        )
        for m in result["methods"]
    ]
    seeds, fit = result["methods"][0]["seeds"], result["fit"]
    over = (
        f"mean ± sd over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"one seed ({seeds[0]}): no spread"
    )
    return (
        f"{result['data']}: {result['protocol']}; {fit['steps']} steps, batch {fit['batch']}; {over}\n"
        f"last = end of training; best = best evaluation, chosen on val: optimistic; differences of the last, in points"
        f"\n\n{text.table(head, rows, right='lrrrrrr')}" + "".join(f"\n{note}" for note in notes(result))
    )


def notes(result: dict[str, Any]) -> list[str]:
    """What a table must say: which trainings failed and which methods were left out, in what some differ from the
    others, and what their cards want to be said, such as "steered by the validation mIoU"."""
    from ..methods import table as cards

    compared = {m["method"] for m in result["methods"]}
    return [
        *(f"{f['method']}, seed {f['seed']}: the training FAILED: {f['error']}" for f in result.get("failed", ())),
        *(f"{x['method']} is left out: {x['reason']}" for x in result.get("left_out", ())),
        *result.get("remarks", ()),
        *(f"{card['name']}: {card['note']}." for card in cards() if card["note"] and card["name"] in compared),
    ]
