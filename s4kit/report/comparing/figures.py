"""The figures of a comparison: per run, per method over its seeds, and as a table for the terminal."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import setup, text
from ..setup import ALL_LABELS, BASELINES, Setup
from ..tables import Table


def collect(work: Sequence[tuple[Setup, int, Path]]) -> dict[str, Any]:
    """The figures of finished runs: per run, and per method the mean and deviation over seeds.

    Raises:
        S4Error: they are not scored alike, see `one_score`.
    """
    from ...engine import open_run
    from ...engine.scores import one_score

    score = one_score({f"{chosen.name}, seed {seed}": open_run(folder).score for chosen, seed, folder in work})
    column = score.lower()
    runs = [setup.summary(open_run(folder)) | {"method": chosen.name} for chosen, _, folder in work]
    methods = []
    for name in dict.fromkeys(run["method"] for run in runs):
        own = [run for run in runs if run["method"] == name]
        row: dict[str, Any] = {"method": name, "seeds": [run["seed"] for run in own]}
        for key in ("last", "best"):
            row[key], row[f"{key}_sd"] = _mean([run[key] for run in own])
        row["seconds"] = _mean([run["seconds"] for run in own])[0]
        row["peak_memory"] = max((run["peak_memory"] or 0 for run in own), default=0) or None
        row["told"] = own[0]["told"]
        row["rounds"] = [
            {"name": (one := stages[0])["name"], "steps": one["steps"], column: _mean([s[column] for s in stages])[0]}
            for stages in zip(*(run["rounds"] for run in own))
        ]
        row["by_class"] = _class_means([folder for chosen, _, folder in work if chosen.name == name])
        methods.append(row)
    for row in methods:
        for baseline in BASELINES:
            base = next((m for m in methods if m["method"] == baseline), None)
            same = base is None or base is row or row["last"] is None
            row[f"over_{baseline}"] = None if same else row["last"] - base["last"]
    room = head_room(methods)
    for row in methods:
        row["gap_closed"] = gap_closed(row, room)
    config = open_run(work[0][2]).config
    return {
        "score": score,
        "data": config["task"]["name"],
        "protocol": config["protocol"],
        "task": config["task"],
        "fit": {k: v for k, v in config["fit"].items() if k != "seed"},
        "versions": config["versions"],
        "hardware": _hardware(),
        "methods": methods,
        "runs": runs,
        "head_room": room,
    }


def head_room(methods: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What unlabelled images could give at most: the gap from `supervised` to the same training on all labels.

    Args:
        methods: {"method", "last", "last_sd"} of each, the two lines among them.

    Returns:
        {"from": the score of `supervised`, "gap", "spread": the larger standard deviation of the baselines over seeds
        or None, "enough": whether the gap is at least twice as large (with one seed: above 0)}; None without the lines.
    """
    rows = {row["method"]: row for row in methods}
    ends = [rows.get(name, {}).get("last") for name in (BASELINES[0], ALL_LABELS)]
    if None in ends:
        return None
    spreads = [sd for name in BASELINES if (sd := rows.get(name, {}).get("last_sd")) is not None]
    gap, spread = ends[1] - ends[0], max(spreads, default=None)
    return {"from": ends[0], "gap": gap, "spread": spread, "enough": gap > 0 and gap >= 2 * (spread or 0)}


def gap_closed(row: dict[str, Any], room: dict[str, Any] | None) -> float | None:
    """The share of the head-room that a method gains, 1 = as good as with all labels; None where there is none."""
    if room is None or not room["enough"] or row["method"] in (BASELINES[0], ALL_LABELS) or row["last"] is None:
        return None
    return (row["last"] - room["from"]) / room["gap"]


def no_room(room: dict[str, Any] | None) -> list[str]:
    """One sentence where a protocol has no head-room, else none."""
    if room is None or room["enough"]:
        return []
    spread = f", less than twice the spread of the seeds ({100 * room['spread']:.1f})" if room["spread"] else ""
    return [
        f"This protocol has no head-room: with all labels the baseline ends {100 * room['gap']:+.1f} points from where "
        f"it ends with these{spread}. No method can show here what unlabelled images give: take fewer labels "
        "(--labelled) or more steps (--steps)."
    ]


def _mean(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [v for v in values if v is not None]
    sd = statistics.stdev(known) if len(known) > 1 else None
    return (statistics.fmean(known) if known else None), sd


def _class_means(folders: Sequence[Path]) -> dict[str, float | None]:
    """What each class has at the last evaluation, see `Run.by_class`; the mean over seeds."""
    from ...engine import open_run

    rows = [open_run(folder).by_class() for folder in folders]
    return {name: _mean([row.get(name) for row in rows])[0] for name in dict.fromkeys(n for row in rows for n in row)}


def _hardware() -> str:
    import torch

    cores = f"{os.cpu_count()} CPU cores"
    return f"{torch.cuda.get_device_name(0)}, {cores}" if torch.cuda.is_available() else f"{cores}, no GPU"


def table(result: dict[str, Any]) -> str:
    """The comparison for the terminal."""
    over = ("vs supervised", "vs sup. strong", "gap closed")
    head = ("method", *heads(result["score"]), *over, "time", "peak memory")
    rows = [
        (
            named(m),
            text.spread(m["last"], m["last_sd"]),
            text.spread(m["best"], m["best_sd"]),
            text.difference(m["over_supervised"]),
            text.difference(m["over_supervised_strong"]),
            text.closed(m["gap_closed"]),
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
        "last = end of training; best = best evaluation, chosen on val: optimistic; differences of the last, points;\n"
        "gap closed = share of the way from supervised to the same training on all labels"
        f"\n\n{text.table(head, rows, right='lrrrrrrr')}" + "".join(f"\n{note}" for note in notes(result))
    )


def named(row: Mapping[str, Any]) -> str:
    """A method as tables call it: what it was told of the unlabelled images stands beside its name."""
    return f"{row['method']} ({row['told']})" if row.get("told") else row["method"]


def heads(score: str) -> tuple[str, str]:
    """The columns of a table for the end of a training and for its best evaluation."""
    return f"{score} last", f"{score} best"


def said_of_rounds(method: str, rounds: Sequence[Mapping[str, Any]], score: str) -> str:
    """What a training of several stages cost in all, and how good it was at the end of each.

    Args:
        rounds: its stages as in `Run.rounds`. score: its name.
    """
    column = score.lower()
    stages = ", ".join(f"{of['name']} {text.percent(of[column])} ({of['steps']})" for of in rounds)
    total = sum(of["steps"] for of in rounds)
    return f"{method}: {score} at the end of each stage (its steps): {stages}. The time is that of all {total} steps."


def beside(runs: Mapping[str, Any]) -> Table:
    """Runs side by side: their validation score in percent, the distance to both baselines, and the share of the gap to
    `all labels` that is closed, as far as these are among them; below it what those with rounds cost in all.

    Raises:
        S4Error: they are not scored alike, see `one_score`.
    """
    from ...engine.scores import one_score

    score = one_score({name: run.score for name, run in runs.items()})
    scores = {name: run.last.get(run.column) for name, run in runs.items()}
    base = {name: scores[name] for name in BASELINES if name in scores}
    room = head_room([{"method": name, "last": last} for name, last in scores.items()])
    head = ("run", *heads(score), *(f"vs {n}" for n in base), *(["gap closed"] if room else []), "time")
    rows = []
    for name, run in runs.items():
        last = scores[name]
        over = [text.difference(last - of) if n != name else None for n, of in base.items()]
        over += [text.closed(gap_closed({"method": name, "last": last}, room))] if room else []
        seconds = text.duration(setup.extra(run.path).get("seconds"))
        name = named({"method": name, "told": run.told})
        rows.append((name, text.percent(last), text.percent(run.best.get(run.column)), *over, seconds))
    said = "last = end of training; best = best evaluation, chosen on val, so optimistic."
    several = [said_of_rounds(name, run.rounds, score) for name, run in runs.items() if run.rounds]
    return Table(head, rows, " ".join([said, *several, *no_room(room)]))


def notes(result: dict[str, Any]) -> list[str]:
    """What a table must say: which trainings failed and which methods were left out, in what some differ from the
    others, and what their cards want to be said, such as "steered by the validation mIoU"."""
    from ...methods import table as cards

    compared = {m["method"] for m in result["methods"]}
    return [
        *no_room(result.get("head_room")),
        *(f"{f['method']}, seed {f['seed']}: the training FAILED: {f['error']}" for f in result.get("failed", ())),
        *(f"{x['method']} is left out: {x['reason']}" for x in result.get("left_out", ())),
        *result.get("remarks", ()),
        *(said_of_rounds(m["method"], m["rounds"], result["score"]) for m in result["methods"] if m.get("rounds")),
        *(f"{card['name']}: {card['note']}." for card in cards() if card["note"] and card["name"] in compared),
    ]
