"""The kit's own measurements as tables: what a step costs, what the methods of a family reach."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import S4Error
from ...report import text
from ...report.comparing.figures import heads, named
from ...report.tables import Table

MEASURED = Path(__file__).parents[2] / "report" / "benchmarking" / "measured"


def measured(name: str) -> Table:
    """A table of the kit's own measurements, or how to make it where it was not made yet.

    Args:
        name: "family_camvid", the consistency family on CamVid; "family_cotraining", "family_contrastive" and
            "family_self_training" on the lesson's pictures, the same with "_camvid" behind it on CamVid;
            "beyond_points", "beyond_instances", "beyond_video", "beyond_domains", "beyond_active" and
            "beyond_weak_labels", what other tasks gain, each against the baseline of its own kind; or "price", time and
            memory of a step.

    Raises:
        S4Error: there is no such table.
    """
    if name not in _SHOWN:
        raise S4Error(f"There is no measured table {name!r}; there are {' and '.join(_SHOWN)}.")
    command, show = _SHOWN[name]
    file = MEASURED / f"{name}.json"
    if not file.is_file():
        return Table(("not measured yet; it is made by",), [(command,)])
    found = json.loads(file.read_text(encoding="utf-8"))
    head, rows = show(found)
    made = [found.get(key) for key in ("date", "machine", "settings") if found.get(key)]
    commit = f"commit {found['commit'][:10]}" if found.get("commit") else ""
    return Table(head, rows, " · ".join([found["command"], *map(_words, made), *([commit] if commit else [])]))


def _words(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _family(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple]]:
    """The validation score in percent; the file has shares in [0, 1]."""
    score = found.get("score", "mIoU")
    last, best = (f"{score.lower()}_{which}" for which in ("last", "best"))
    rows = [
        (
            row["method"],
            text.percent(row[last]),
            text.percent(row[best]),
            text.difference(row["over_supervised"]),
            row.get("note", ""),
        )
        for row in found["rows"]
    ]
    return ("method", *heads(score), "vs supervised", "note"), rows


def _lesson(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple]]:
    """Mean and deviation of the score over seeds, in percent; against both baselines; the file has shares in [0, 1]."""
    score = found.get("score", "mIoU")
    rows = [
        (
            named(row),
            text.spread(row[score.lower()], row["sd"]),
            text.difference(row["over_supervised"]),
            text.difference(row["over_strong"]),
            text.closed(row["closed"]),
            row.get("note", ""),
        )
        for row in found["rows"]
    ]
    return ("method", heads(score)[0], "vs supervised", "vs supervised_strong", "gap closed", "note"), rows


def _kind(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple]]:
    """Mean and deviation over seeds, each row beside the baseline of its own data and score, in the file's order: what
    is scored otherwise is never ranked against it."""
    rows = [
        (
            f"{row['score']}, {row['data']}",
            named(row),
            text.spread(row["end"], row["sd"]),
            text.difference(row["over"]),
            row.get("note", ""),
        )
        for row in found["rows"]
    ]
    return ("score", "method", "last", "vs its baseline", "note"), rows


def _price(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple]]:
    rows = [(row["method"], f"{row['time']:.2f}", f"{row['memory']:.2f}") for row in found["rows"]]
    of = found["reference"]
    return ("method", f"time of a step, {of} = 1", f"memory, {of} = 1"), rows


_SHOWN: dict[str, tuple[str, Callable[[dict[str, Any]], tuple[tuple[str, ...], list[tuple]]]]] = (
    {
        "family_camvid": ("s4kit compare --family consistency --data camvid", _family),
        "price": ("s4kit bench price", _price),
    }
    | {
        f"family_{name}{behind}": (f"s4kit compare --family {name} --data {data} --seeds 0,1", _lesson)
        for name in ("cotraining", "contrastive", "self_training")
        for behind, data in (("", "scenes"), ("_camvid", "camvid --labelled 6"))
    }
    | {
        f"beyond_{kind}": (f"s4kit compare {rest} --seeds 0,1,2", _kind)
        for kind, rest in {
            "points": "twist --data rooms",
            "instances": "noisy_boundaries --data scenes --data-option instances=True",
            "video": "ifr warp_refine --data clips",
            "domains": "ssda_dual_mix --data scenes",
            "active": "als4gan s4al --data scenes",
            "weak_labels": "advcam slrnet --data scenes",
        }.items()
    }
)
