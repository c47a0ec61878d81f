"""The page that `s4kit walk` leaves: the notebooks with their times, and the comparison of the runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from ..report import html, text
from ..report.setup import BASELINES, Plan
from .lesson import finished_runs


def write_index(out: Path, profile: str, data: str, done: Sequence[dict[str, Any]], seconds: float) -> Path:
    """Write index.html, walk.json and, where methods were trained, the comparison report; returns the index."""
    work = comparable(out / "runs" / f"lesson-{profile}-{data}")
    parts = [
        "<h1>The walk</h1>",
        f'<p class="soft">profile {escape(profile)} · data {escape(data)} · {date.today().isoformat()} · '
        f"{len(done)} notebooks in {text.duration(seconds)}</p>",
        "<h2>Notebooks</h2>",
        _notebooks(done),
    ]
    if work:
        parts += _comparison(out, work)
    (out / "walk.json").write_text(json.dumps({"profile": profile, "data": data, "notebooks": list(done)}, indent=2))
    path = out / "index.html"
    path.write_text(html.page(f"s4kit walk: {profile}, {data}", "\n".join(parts)), encoding="utf-8")
    return path


def comparable(folder: Path) -> list[tuple[Plan, int, Path]]:
    """The runs of a lesson that differ in nothing but the method: those that are named by it, baselines first."""
    runs = {name: run for name, run in finished_runs(folder).items() if run.config["method"] == name}
    names = [*(n for n in BASELINES if n in runs), *(n for n in runs if n not in BASELINES)]
    configs = [(runs[name].config, runs[name].path) for name in names]
    return [(Plan(c["method"], c["task"], c["options"], c["fit"]), c["fit"]["seed"], path) for c, path in configs]


def _notebooks(done: Sequence[dict[str, Any]]) -> str:
    rows = []
    for row in done:
        name = escape(row["name"])
        links = f'<td><a href="{name}.html">{escape(row["title"] or row["name"])}</a></td>'
        file = f'<td><a href="{name}.ipynb">{name}.ipynb</a></td>'
        state = html.cell("failed", "bad") if row["error"] else html.cell("ran", "good")
        rows.append(("", [links, html.cell(text.duration(row["seconds"])), html.cell(row["cells"]), state, file]))
    errors = "".join(f"<pre>{escape(row['error'])}</pre>" for row in done if row["error"])
    return html.table(("notebook", "time", "code cells", "", "file"), rows) + errors


def _comparison(out: Path, work: Sequence[tuple[Plan, int, Path]]) -> list[str]:
    from ..report.figures import collect
    from ..report.page import write_report

    result = collect(work)
    write_report(out, result, work)
    rows = [
        (
            "base" if row["method"] in BASELINES else "",
            [
                html.cell(row["method"]),
                html.cell(text.percent(row["miou_last"])),
                html.cell(text.percent(row["miou_best"])),
                *(html.cell(text.difference(row[f"over_{name}"])) for name in BASELINES),
                html.cell(text.duration(row["seconds"])),
            ],
        )
        for row in result["methods"]
    ]
    return [
        "<h2>The runs that they left</h2>",
        html.table(("method", "mIoU last", "mIoU best", *(f"vs {n}" for n in BASELINES), "time"), rows),
        '<p class="soft small">Validation mIoU in percent, one seed, all under one set-up. '
        '<a href="report.html">Curves, pictures, IoU per class and all settings</a></p>',
        html.picture(out / "curves.png", None, "validation mIoU over training steps, per method"),
    ]
