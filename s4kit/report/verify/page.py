"""The answer of `verify` for the terminal, as a page and as JSON."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from .. import html, text
from .checks import FAILED, OK, SKIPPED

ROOM = 200  # characters of a check's words in the terminal


def show(result: dict[str, Any]) -> str:
    """A row per part, then what has failed and what was skipped, each with its reason."""
    rows = [(p["part"], p["title"], *_counts(p), f"{p['seconds']:.0f} s") for p in result["parts"]]
    table = text.table(("part", "what", "ok", "failed", "skipped", "took"), rows, right="llrrrr")
    lines = [f"{result['machine']}; kit {result['kit']}; {result['date']}", "", table]
    for level, words in ((FAILED, "FAILED"), (SKIPPED, "skipped")):
        told = [(p["part"], c) for p in result["parts"] for c in p["checks"] if c["level"] == level]
        lines += ["", f"{words}:"] if told else []
        lines += [f"  {part}: {c['name']}: {text.cut(c['found'], ROOM)}" for part, c in told]
    return "\n".join([*lines, "", *_end(result)])


def _counts(part: dict[str, Any]) -> tuple[int, ...]:
    levels = [check["level"] for check in part["checks"]]
    return tuple(levels.count(level) for level in (OK, FAILED, SKIPPED))


def _end(result: dict[str, Any]) -> list[str]:
    files = " and ".join(result["files"].values())
    if result["ok"]:
        return [f"Nothing has failed. {files} hold the figures."]
    wanted = dict.fromkeys(
        c["send"] for p in result["parts"] for c in p["checks"] if c["level"] == FAILED and c["send"]
    )
    more = "".join(f"; {words}" for words in wanted)
    return [f"Send {result['files']['json']} (it names no person, machine or folder of yours){more}."]


def write(folder: Path, result: dict[str, Any]) -> dict[str, str]:
    """Write `report.json` and `report.html`; returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"html": str(folder / "report.html"), "json": str(folder / "report.json")}
    as_json = json.dumps(text.finite(result), indent=1, default=str) + "\n"
    Path(files["json"]).write_text(_nameless(as_json), encoding="utf-8")
    Path(files["html"]).write_text(_nameless(_html(result | {"files": files})), encoding="utf-8")
    return files


def _nameless(words: str) -> str:
    """Without the user's name, which tracebacks have in their paths."""
    return words.replace(str(Path.home()), "~")


def _html(result: dict[str, Any]) -> str:
    kind = {OK: "good", FAILED: "bad", SKIPPED: "soft"}
    facts = [
        (key, result.get(key)) for key in ("machine", "kit", "torch", "cuda", "cudnn", "system", "date", "command")
    ]
    body = [f"<h1>s4kit verify: {'nothing has failed' if result['ok'] else 'something has failed'}</h1>"]
    body.append("".join(f"<p class='soft'>{name}: {escape(str(value))}</p>" for name, value in facts if value))
    body.append("".join(f"<p>{escape(line)}</p>" for line in _end(result)))
    for part in result["parts"]:
        body.append(f"<h2>{escape(part['title'])}</h2><p class='soft'>{part['part']}, {part['seconds']:.0f} s</p>")
        rows = [
            ("", [html.cell(c["name"]), html.cell(c["level"], kind[c["level"]]), html.cell(c["found"], style=WRAP)])
            for c in part["checks"]
        ]
        body.append(html.table(("check", "", "found"), rows))
    return html.page("s4kit verify", "\n".join(body))


WRAP = "white-space:normal;text-align:left;overflow-wrap:anywhere"
