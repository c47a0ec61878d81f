"""The files of a comparison: curves, picture grid and the page that holds them with all tables."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from .. import html, pictures, plots, text
from ..setup import ALL_LABELS, BASELINES, REFERENCES
from . import figures


def write_report(out: Path, result: dict[str, Any], work: Sequence[tuple[Any, int, Path]], images: int = 4) -> None:
    """Write curves.png, grid.png and report.html into `out`.

    Args:
        result: of `figures.collect`.
        work: (set-up, seed, folder) of every run.
        images: pictures in the grid.
    """
    with tempfile.TemporaryDirectory(dir=out) as folder:
        dark = Path(folder)
        _curves(out / "curves.png", dark / "curves.png", work)
        drawn = _grid(out / "grid.png", dark / "grid.png", work, images)
        body = _body(out, dark, result, drawn)
    (out / "report.html").write_text(html.page(f"s4kit: {result['data']}, {result['protocol']}", body))


def _curves(light: Path, dark: Path, work: Sequence[tuple[Any, int, Path]]) -> None:
    from ...engine import open_run

    scores: dict[str, list[list[tuple[int, float]]]] = {}
    kept: dict[str, list[tuple[int, float]]] = {}
    rounds: dict[str, list[dict[str, Any]]] = {}
    for chosen, _, folder in work:
        run = open_run(folder)
        rounds.setdefault(chosen.name, run.rounds)
        scores.setdefault(chosen.name, []).append(run.course)
        if chosen.name not in kept and (shares := kept_shares(run.metrics())):
            kept[chosen.name] = shares
    for path in (light, dark):
        plots.save(plots.curves(scores, kept, path is dark, run.split, rounds, run.score), path)


def kept_shares(rows: Sequence[dict[str, Any]], points: int = 60) -> list[tuple[int, float]]:
    """(step, share of unlabelled pixels trained on) of a run, averaged over stretches of steps; [] without a rule.

    Of several unlabelled terms it is the first one's.
    """
    column = next((key for key in (rows[-1] if rows else {}) if key.startswith("kept_")), None)
    values = [(row["step"], row[column]) for row in rows if column and row.get(column) is not None]
    stretch = max(1, len(values) // points)
    parts = [values[i : i + stretch] for i in range(0, len(values), stretch)]
    return [(part[-1][0], sum(v for _, v in part) / len(part)) for part in parts]


def _grid(light: Path, dark: Path, work: Sequence[tuple[Any, int, Path]], images: int) -> bool:
    """Draw the pictures, where the networks are scored by class maps; whether they are."""
    from ...engine import open_run

    task = open_run(work[0][2]).task()
    if not pictures.by_class_maps(task):
        return False
    rows = pictures.varied(task, images)
    found: dict[str, Any] = {}
    for chosen, _, folder in work:
        if chosen.name not in found:
            found[chosen.name] = pictures.predictions(open_run(folder), rows, task)
    for path in (light, dark):
        plots.save(pictures.grid(task, rows, found, dark=path is dark), path, dpi=180)
    return True


# ---- the page ----


def _body(out: Path, dark: Path, result: dict[str, Any], drawn: bool) -> str:
    seeds, fit, score = result["methods"][0]["seeds"], result["fit"], result["score"]
    over = (
        f"mean ± standard deviation over seeds {', '.join(map(str, seeds))}"
        if len(seeds) > 1
        else "one seed: no spread"
    )
    parts = [
        f"<h1>{escape(result['data'])}: {len(result['methods'])} methods compared</h1>",
        f'<p class="soft">{escape(result["protocol"])} · {fit["steps"]} steps · {fit["batch"]} labelled a step · '
        f"crop {result['task'].get('crop')} · {over}</p>",
        "<h2>Result</h2>",
        _scores(result),
        f'<p class="soft small">{score} on the validation set in percent. <b>last</b>: at the end of training, the '
        "honest figure; <b>best</b>: the best evaluation, chosen on val, so optimistic. Differences are of <b>last</b> "
        "in points. <b>supervised_strong</b> sees the labelled images through the same strong views as the "
        "semi-supervised methods: only the difference to it is owed to the unlabelled images. <b>all labels</b> is "
        "supervised with nothing hidden, trained once for as many steps; <b>gap closed</b> is the share of the way "
        "from supervised to it.</p>",
        *(f"<p><b>{escape(note)}</b></p>" for note in figures.notes(result)),
        "<h2>Curves</h2>",
        html.picture(out / "curves.png", dark / "curves.png", f"validation {score} over training steps, per method"),
        *(_pictures(out, dark, seeds[0]) if drawn else _none("Pictures", f"{score} is no score of class maps")),
        *_classes(result),
        "<h2>Runs</h2>",
        _runs(result),
        "<h2>How it was made</h2>",
        _made(result),
    ]
    return "\n".join(parts)


def _scores(result: dict[str, Any]) -> str:
    top = max((m["last"] or 0 for m in result["methods"] if m["method"] != ALL_LABELS), default=0)
    rows = []
    for m in result["methods"]:
        cells = [
            html.cell(figures.named(m)),
            html.cell(text.spread(m["last"], m["last_sd"]), "big" if m["last"] == top else ""),
            html.cell(text.spread(m["best"], m["best_sd"])),
            *(_difference(m[f"over_{name}"]) for name in BASELINES),
            html.cell(text.closed(m["gap_closed"])),
            html.cell(text.duration(m["seconds"])),
            html.cell(text.size(m["peak_memory"])),
        ]
        rows.append(("base" if m["method"] in REFERENCES else "", cells))
    over = ("vs supervised", "vs supervised_strong", "gap closed")
    head = ("method", *figures.heads(result["score"]), *over, "time per run", "peak memory")
    return html.table(head, rows)


def _difference(value: float | None) -> str:
    kind = "" if value is None else "good" if value >= 0.0005 else "bad" if value <= -0.0005 else ""
    return html.cell(text.difference(value), kind)


def _pictures(out: Path, dark: Path, seed: int) -> list[str]:
    return [
        "<h2>Pictures</h2>",
        f'<p class="soft small">Validation images, last checkpoint of seed {seed}; below each its mIoU.</p>',
        html.picture(out / "grid.png", dark / "grid.png", "image, truth and the prediction of each method"),
    ]


def _none(title: str, why: str) -> list[str]:
    """A part that a comparison of this kind lacks."""
    return [f"<h2>{title}</h2>", f'<p class="soft small">None here: {escape(why)}.</p>']


def _classes(result: dict[str, Any]) -> list[str]:
    from ...engine.scores import each

    methods, score = result["methods"], each(result["score"])
    names = list(dict.fromkeys(name for m in methods for name in m["by_class"]))
    if not names:
        return _none(f"{score} per class", f"{result['score']} says nothing of single classes")
    if len(methods) > len(names):  # the longer list goes down the page
        lines = [(m["method"], [m["by_class"].get(name) for name in names]) for m in methods]
        head = ("method", *names)
    else:
        lines = [(name, [m["by_class"].get(name) for m in methods]) for name in names]
        head = ("class", *(m["method"] for m in methods))
    rows = [
        ("", [html.cell(name), *(html.cell(text.percent(v), style=html.heat(v)) for v in values)])
        for name, values in lines
    ]
    return [f"<h2>{score} per class</h2>", html.table(head, rows)]


def _runs(result: dict[str, Any]) -> str:
    rows = [
        (
            "",
            [
                html.cell(r["method"]),
                html.cell(r["seed"]),
                html.cell(text.percent(r["last"])),
                html.cell(text.percent(r["best"])),
                html.cell(r["best_step"]),
                html.cell(text.duration(r["seconds"])),
                html.cell(r["run"]),
                html.link("its pseudo-labels", r["explorer"]) if r.get("explorer") else html.cell(text.MISSING),
            ],
        )
        for r in result["runs"]
    ]
    return html.table(("method", "seed", "last", "best", "at step", "time", "folder", "look inside"), rows)


def _made(result: dict[str, Any]) -> str:
    settings = {**{f"data.{k}": v for k, v in result["task"].items()}, **result["fit"]}
    shown = ", ".join(f"{key}={value}" for key, value in settings.items() if value is not None)
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    command = f"<pre>{escape(result['command'])}</pre>" if result.get("command") else ""
    return (
        f"{command}<p class='soft small'>{escape(versions)}; {escape(result['hardware'])}. Peak memory is what PyTorch "
        "allocates in training (on a CPU: measured on one step of each method). The time includes evaluation.</p>"
        f"<details><summary>all settings</summary><pre>{escape(shown)}</pre></details>"
    )
