"""The open project: a hidden test set of `scenes` from a secret seed, predictions as files, a ranked table."""

from __future__ import annotations

import csv
import hashlib
import json
import secrets
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.embedded.scenes_paint import paint
from ..data.palettes import SCENES
from ..engine.scores import Scores, count
from ..errors import S4Error
from .feedback import STYLE, harmless

SIDE = 96
SECRET = "secret.json"


def hidden_set(out: str | Path, images: int = 64, seed: str | None = None) -> dict[str, Any]:
    """Make a hidden test set: `out/images/*.png` go to the class, `out/secret.json` stays with the instructor.

    The labels are nowhere on disk: they are painted again from the seed when it is graded.

    Args:
        out: folder. images: how many scenes of 96 x 96 pixels.
        seed: 32 hexadecimal digits (128 bits); by default drawn anew.

    Returns:
        {"ok", "images": folder, "secret": file, "count"}.

    Raises:
        S4Error: a seed that is none, or a set with another seed in `out`.
    """
    seed = secrets.token_hex(16) if seed is None else seed.lower()
    if len(seed) != 32 or set(seed) - set("0123456789abcdef"):
        raise S4Error(f"The secret seed must be 32 hexadecimal digits (128 bits), not {seed!r}.")
    if images < 1:
        raise S4Error("A test set needs at least one image.")
    out = Path(out)
    if (out / SECRET).exists() and read_secret(out / SECRET) != (seed, images):
        raise S4Error(f"{out} has a hidden set already; its secret would be lost. Choose another folder.")
    (out / "images").mkdir(parents=True, exist_ok=True)
    for row in range(images):
        Image.fromarray(_scene(seed, row)[0]).save(out / "images" / f"test_{row:04d}.png")
    (out / SECRET).write_text(json.dumps({"seed": seed, "images": images}) + "\n")
    return {"ok": True, "images": str(out / "images"), "secret": str(out / SECRET), "count": images}


def read_secret(file: str | Path) -> tuple[str, int]:
    """(seed, number of images) of a hidden set.

    Raises:
        S4Error: it is no such file.
    """
    try:
        found = json.loads(Path(file).read_text())
        return str(found["seed"]), int(found["images"])
    except (OSError, ValueError, KeyError, TypeError):
        raise S4Error(
            f"{file} is not the secret.json of a hidden set (`s4kit classroom hidden-set` makes one)."
        ) from None


def _scene(seed: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (S, S, 3) and label (S, S), uint8; each image has a seed of its own that tells nothing of the others'."""
    digest = hashlib.sha256(f"{seed}:{row}".encode()).digest()
    return paint(int.from_bytes(digest[:8], "big") >> 1, row, SIDE)


@dataclass
class Entry:
    """What one student handed in.

    Attributes:
        scores: over all images; a missing or unreadable prediction counts as wrong everywhere.
        problems: in words.
    """

    student: str
    scores: Scores
    problems: list[str]


def score(folder: Path, student: str, seed: str, images: int) -> Entry:
    """Score `test_0000.png` ... (or `test_0000_index.png`, as `s4kit predict` names them): maps of class indices."""
    confusion = torch.zeros(len(SCENES), len(SCENES), dtype=torch.long)
    problems = []
    for row in range(images):
        label = torch.from_numpy(_scene(seed, row)[1].astype(np.int64))
        try:
            given = _prediction(folder, f"test_{row:04d}")
        except S4Error as error:
            problems.append(str(error))
            given = np.zeros((SIDE, SIDE), np.uint8)
            wrong = (label + 1) % len(SCENES)  # no class gets anything for it
            confusion += count(torch.where(label == 255, 0, wrong), label, len(SCENES))
            continue
        confusion += count(torch.from_numpy(given.astype(np.int64)), label, len(SCENES))
    return Entry(student, Scores(confusion, tuple(SCENES)), problems)


def _prediction(folder: Path, name: str) -> np.ndarray:
    file = next((f for f in (folder / f"{name}_index.png", folder / f"{name}.png") if f.is_file()), None)
    if file is None:
        raise S4Error(f"{name}.png is missing")
    if file.is_symlink() or file.stat().st_size > 1 << 20:
        raise S4Error(f"{file.name} is no plain file of a sensible size")
    try:
        with Image.open(file) as picture:
            if picture.size != (SIDE, SIDE) or picture.mode not in ("L", "P"):
                raise S4Error(
                    f"{file.name} is {picture.size[0]} x {picture.size[1]} ({picture.mode}); class indices in 8 bits "
                    f"of {SIDE} x {SIDE} pixels are asked for"
                )
            found = np.asarray(picture)
    except S4Error:
        raise
    except Exception as error:  # whatever Pillow makes of a file that is no picture
        raise S4Error(f"{file.name} is no picture that can be read ({type(error).__name__})") from None
    if found.max() >= len(SCENES):
        raise S4Error(f"{file.name} has the value {found.max()}; classes are 0 to {len(SCENES) - 1}")
    return found


def rank(submissions: str | Path, secret: str | Path, out: str | Path) -> dict[str, Any]:
    """Score `submissions/<student>/**/predictions/` against a hidden set; write ranking.csv and ranking.html to `out`.

    A student's folder without predictions has a row, too.

    Returns:
        {"ok", "csv", "page", "rows": [{"rank", "student", "score", "problems"}]}, best first.

    Raises:
        S4Error: no such folder, no predictions, or a wrong secret file.
    """
    seed, images = read_secret(secret)
    root = Path(submissions)
    if not root.is_dir():
        raise S4Error(f"{root} is not a folder of submissions.")
    students = [who for who in sorted(root.iterdir()) if who.is_dir() and who.name[0] != "."]
    found = [(who.name, _predictions(who)) for who in students if who.resolve() != Path(out).resolve()]
    if not any(folders for _, folders in found):
        raise S4Error(f"No student's folder in {root} holds a folder `predictions` with test_0000.png and so on.")
    entries = [score((folders or [root / who])[0], who, seed, images) for who, folders in found]
    entries.sort(key=lambda entry: (-entry.scores.headline, entry.student))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        {"rank": 1 + sum(other.scores.headline > e.scores.headline for other in entries), "student": e.student,
         "score": e.scores.headline, "problems": e.problems} for e in entries
    ]  # fmt: skip
    with (out / "ranking.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["rank", "student", Scores.name.lower(), *SCENES, "problems"])
        for row, entry in zip(rows, entries):
            each = [f"{100 * v:.2f}" if v == v else "" for v in entry.scores.iou.tolist()]
            cells = [row["rank"], entry.student, f"{100 * row['score']:.2f}", *each, "; ".join(entry.problems[:5])]
            table.writerow([harmless(str(cell)) for cell in cells])
    (out / "ranking.html").write_text(_page(rows, entries, images), encoding="utf-8")
    return {"ok": True, "csv": str(out / "ranking.csv"), "page": str(out / "ranking.html"), "rows": rows}


def _predictions(student: Path) -> list[Path]:
    folders = (student, *sorted(p for p in student.rglob("predictions") if p.is_dir() and not p.is_symlink()))
    return [folder for folder in folders if any(folder.glob("test_*.png"))]


RANKING = """
body { max-width: 70em } table { border-collapse: collapse; font-size: 1.25em; width: 100% }
td, th { padding: .35em .6em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td { font-variant-numeric: tabular-nums } td:nth-child(2), th:nth-child(2) { text-align: left; width: 100% }
td:nth-child(2) { white-space: normal; overflow-wrap: anywhere }
th { font-weight: normal; color: #5a5a5e; position: sticky; top: 0; background: #fff }
tr.first td { background: #eef6f1 } tr.first td:nth-child(2), td.score, td.best { font-weight: 600 }
.bar { height: 4px; margin-top: .15em; background: #1b7f4d; border-radius: 2px }
.small { font-size: .7em; color: #b3402a }
"""


def _page(rows: list[dict[str, Any]], entries: list[Entry], images: int) -> str:
    head = "".join(f"<th>{escape(name)}" for name in SCENES)
    best = torch.stack([entry.scores.iou for entry in entries]).nan_to_num(-1).amax(0)
    body = ""
    for row, entry in zip(rows, entries):
        cells = zip(entry.scores.iou.tolist(), best.tolist())
        each = "".join(f"<td{' class=best' * (v == top)}>{100 * v:.0f}" if v == v else "<td>–" for v, top in cells)
        said = f"<div class=small>{len(entry.problems)} predictions missing or wrong</div>" if entry.problems else ""
        first, score = " class=first" if row["rank"] == 1 else "", f"{100 * row['score']:.1f}"
        body += (
            f"<tr{first}><td>{row['rank']}<td>{escape(entry.student)}{said}"
            f"<div class=bar style='width:{score}%'></div><td class=score>{score}{each}"
        )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Open project: ranking</title><style>{STYLE}{RANKING}</style></head><body><h1>Open project</h1>"
        f"<p class=asks>IoU in % on {images} hidden images, last checkpoints; bold: best of a class.</p>"
        f"<table><tr><th><th>student<th>{Scores.name}{head}</tr>{body}</table></body></html>\n"
    )
