"""The page that `s4kit walk` leaves: the notebooks with their times, and the comparison of the runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from .. import methods
from ..errors import S4Error
from ..report import html, text
from ..report.setup import ALL_LABELS, BASELINES, REFERENCES, Setup
from .folders import finished_runs


def write_index(out: Path, profile: str, data: str, done: Sequence[dict[str, Any]], seconds: float) -> Path:
    """Write index.html, walk.json and, where methods were trained, the comparison report; returns the index."""
    work = comparable(out / "runs" / f"lesson-{profile}-{data}")
    rows = _with_earlier(out, profile, data, done)
    number = "1 notebook" if len(done) == 1 else f"{len(done)} notebooks"
    parts = [
        "<h1>The walk</h1>",
        f'<p class="soft">profile {escape(profile)} · data {escape(data)} · {date.today().isoformat()} · '
        f"{number} in {text.duration(seconds)}</p>",
        "<h2>Notebooks</h2>",
        _notebooks(rows),
    ]
    (out / "walk.json").write_text(json.dumps({"profile": profile, "data": data, "notebooks": rows}, indent=2))
    if work:
        parts += _comparison(out, work)
    path = out / "index.html"
    path.write_text(html.page(f"s4kit walk: {profile}, {data}", "\n".join(parts)), encoding="utf-8")
    return path


def _with_earlier(out: Path, profile: str, data: str, done: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of this walk, and of earlier ones into the same folder the notebooks that this one left out."""
    try:
        before = json.loads((out / "walk.json").read_text())
    except (OSError, json.JSONDecodeError):
        return list(done)
    same = (before.get("profile"), before.get("data")) == (profile, data)
    names = {row["name"] for row in done}
    kept = [r for r in before["notebooks"] if r["name"] not in names and (out / f"{r['name']}.html").is_file()]
    return sorted([*done, *(kept if same else [])], key=lambda row: row["name"])


def comparable(folder: Path) -> list[tuple[Setup, int, Path]]:
    """The runs of a lesson that differ in nothing but the method: those that are named by it, baselines first; and
    the line of all labels, last.

    Methods that a notebook defined are left out: their classes went with the kernel.
    """
    known = methods.names()
    every = finished_runs(folder)
    runs = {n: run for n, run in every.items() if n == run.config["method"] and n in known}
    names = [*(n for n in BASELINES if n in runs), *(n for n in runs if n not in BASELINES)]
    configs = {name: runs[name].config for name in names}
    found = {name: c for name, c in configs.items() if c["task"] == configs[names[0]]["task"]}
    if ALL_LABELS in every and BASELINES[0] in found:
        runs[ALL_LABELS], found[ALL_LABELS] = every[ALL_LABELS], every[ALL_LABELS].config
    setups = {name: Setup(c["method"], c["task"], c["options"], c["fit"], title=name) for name, c in found.items()}
    return [(chosen, chosen.fit["seed"], runs[name].path) for name, chosen in setups.items()]


def _notebooks(done: Sequence[dict[str, Any]]) -> str:
    rows = []
    for row in done:
        name = escape(row["name"])
        links = f'<td><a href="{name}.html">{escape(row["title"] or row["name"])}</a></td>'
        file = f'<td><a href="{name}.ipynb">.ipynb</a></td>'
        state = html.cell("failed", "bad") if row["error"] else html.cell("ran", "good")
        rows.append(("", [links, html.cell(text.duration(row["seconds"])), html.cell(row["cells"]), state, file]))
    errors = "".join(f"<pre>{escape(row['error'])}</pre>" for row in done if row["error"])
    return html.table(("notebook", "time", "code cells", "", "file"), rows) + errors


def _comparison(out: Path, work: Sequence[tuple[Setup, int, Path]]) -> list[str]:
    from ..report.comparing.figures import collect, heads, no_room
    from ..report.comparing.page import write_report

    result = collect(work)
    score = result["score"]
    write_report(out, result, work)
    explorer = _explorer(out, work)
    rows = [
        (
            "base" if row["method"] in REFERENCES else "",
            [
                html.cell(row["method"]),
                html.cell(text.percent(row["last"])),
                html.cell(text.percent(row["best"])),
                *(html.cell(text.difference(row[f"over_{name}"])) for name in BASELINES),
                html.cell(text.closed(row["gap_closed"])),
                html.cell(text.duration(row["seconds"])),
            ],
        )
        for row in result["methods"]
    ]
    return [
        "<h2>The runs that they left</h2>",
        html.table(("method", *heads(score), *(f"vs {n}" for n in BASELINES), "gap closed", "time"), rows),
        *(f"<p><b>{escape(sentence)}</b></p>" for sentence in no_room(result["head_room"])),
        f'<p class="soft small">Validation {score} in percent, one seed, all under one set-up. '
        '<a href="report.html">Curves, pictures, IoU per class and all settings</a>'
        + (
            f' · <a href="{explorer.name}">The explorer on all of them, without a kernel</a></p>'
            if explorer
            else "</p>"
        ),
        html.picture(out / "curves.png", None, f"validation {score} over training steps, per method"),
    ]


def _explorer(out: Path, work: Sequence[tuple[Setup, int, Path]]) -> Path | None:
    """The page of the explorer on all runs side by side; None where they hold no snapshots that fit together."""
    from .. import explore
    from ..engine import open_run

    try:
        runs = {chosen.name: open_run(path) for chosen, _, path in work if chosen.name != ALL_LABELS}
        return Path(explore(runs).save_html(out / "explorer.html"))
    except S4Error as error:
        print(f"no explorer page: {error}")
        return None
