"""The table of the gallery as HTML: one body of two lines per method, filtered and sorted in the browser."""

from __future__ import annotations

import base64
import io
import re
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from inspect import getdoc
from pathlib import Path
from typing import Any

from ... import methods
from ...report import html, text
from ...report.reproducing.literature import entries, score_of, value_of
from ...report.reproducing.reported import KINDS
from .family_tree import MARKS, colours

HERE = Path(__file__).parent
QUALITY = 72  # of WebP
NONE = "none known"
# The cell of the table shows one reported number: the first that there is of these, the method's own before a copy.
HEADLINES = {
    "voc": [("voc_classic", split, f"classic, {split} labels") for split in ("183", "366", "732", "92", "1464")]
    + [("voc_blended", split, f"blended, {split}") for split in ("1/8", "1/16", "1/4", "1/2")],
    "cityscapes": [("cityscapes", split, split) for split in ("1/8", "1/16", "1/4", "1/2")],
}


class Gallery:
    """A table of methods that can be searched, filtered and sorted without a kernel; shows itself in a notebook.

    Args:
        rows: of `methods.table()`. ideas: figures by name.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], ideas: Mapping[str, Any]) -> None:
        first = ("supervised", "supervised_strong")
        self.rows = sorted(
            rows, key=lambda r: (r["name"] not in first, r["family"] != "baselines", r["year"], r["name"])
        )
        self.ideas = dict(ideas)
        self.shade = colours([row["family"] for row in rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        head = ("name", "family", "venue", "year", "parity", "idea")
        return text.table(head, [[row[key] for key in head] for row in self.rows], stretch=5)

    def _repr_html_(self) -> str:
        key = f"s4g-{uuid.uuid4().hex[:8]}"
        style, script = ((HERE / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
        return (
            f'<div class="s4g" id="{key}"><style>{style}</style>{self._bar}'
            f"<table><caption>Methods of s4kit</caption>{_HEAD}{''.join(map(self._body, self.rows))}</table></div>"
            f"<script>{script.replace('KEY', key)}</script>"
        )

    def save_html(self, path: Any) -> Path:
        """Write the table as a page of its own: no kernel, no network."""
        file = Path(path)
        body = f"<style>main {{ max-width: 1500px }}</style><h1>Methods of s4kit</h1>{self._repr_html_()}"
        file.write_text(html.page("Methods of s4kit", body), encoding="utf-8")
        return file

    @cached_property
    def _bar(self) -> str:
        families = sorted({row["family"] for row in self.rows})
        years = sorted({row["year"] for row in self.rows})

        def select(name: str, words: str, values: Sequence[Any], chosen: Any = "", every: str = "") -> str:
            options = [f'<option value="">{every}</option>'] if every else []
            options += [f"<option{' selected' if v == chosen else ''}>{escape(str(v))}</option>" for v in values]
            return f'<label>{words}<select name="{name}">{"".join(options)}</select></label>'

        return (
            '<form class="bar" role="search" aria-label="Filter the methods" hidden>'
            '<label>Search<input type="search" name="text" placeholder="name, author, idea, venue"></label>'
            + select("family", "Family", families, every="all")
            + select(
                "parity", "Checked against", [p for p in MARKS if any(r["parity"] == p for r in self.rows)], every="all"
            )
            + select("from", "From", years, years[0])
            + select("to", "to", years, years[-1])
            + ('<label class="tick"><input type="checkbox" name="pictures" checked>pictures</label>')
            + f'<span class="count" role="status" aria-live="polite">{len(self.rows)} methods</span></form>'
        )

    def _body(self, row: dict[str, Any]) -> str:
        search = " ".join(
            str(row[k]) for k in ("name", "title", "authors", "venue", "year", "family", "parity", "idea", "note")
        )
        facts = {"name": row["name"], "family": row["family"], "parity": row["parity"], "year": row["year"]}
        data = "".join(f' data-{k}="{escape(str(v))}"' for k, v in (facts | {"text": search.lower()}).items())
        shade = self.shade[row["family"]]
        note = f'<br><span class="soft">{escape(row["note"])}</span>' if row["note"] else ""
        return (
            f'<tbody{data}><tr><th scope="row">{escape(row["name"])}</th>'
            f'<td class="idea">{escape(row["idea"])}</td><td>{_paper(row)}</td>'
            f'<td><span class="family" style="border-color:{shade}">{escape(row["family"])}</span></td>'
            f"<td>{MARKS.get(row['parity'], '')} {escape(row['parity'])}{note}</td>"
            f"<td>{_headline(row['name'], 'voc')}</td><td>{_headline(row['name'], 'cityscapes')}</td></tr>"
            f'<tr class="more"><td colspan="7">{self._picture(row)}{_details(row)}</td></tr></tbody>'
        )

    def _picture(self, row: dict[str, Any]) -> str:
        figure = self.ideas.get(row["name"])
        if figure is None:
            return ""
        wide, tall = (round(figure.dpi * side) for side in figure.get_size_inches())
        titles = [axis.get_title().replace("\n", " ") for axis in figure.axes]
        alt = f"A step of {row['name']}, from left to right: {', '.join(titles)}."
        return (
            f'<img class="picture" src="data:image/webp;base64,{_webp(figure)}" width="{wide}" height="{tall}" '
            f'alt="{escape(alt)}" loading="lazy">'
        )


_HEAD = (
    "<thead><tr>"
    + "".join(
        f'<th scope="col" data-key="{key}" aria-sort="none"><button type="button">{words}</button></th>'
        if key
        else f'<th scope="col">{words}</th>'
        for key, words in (
            ("name", "Method"),
            ("", "Idea"),
            ("year", "Paper"),
            ("family", "Family"),
            ("parity", "Checked against"),
            ("", "VOC, mIoU"),
            ("", "Cityscapes, mIoU"),
        )
    )
    + "</tr></thead>"
)


def page(ideas: Mapping[str, Any] | None = None) -> Gallery:
    """All methods of the kit in one table.

    Args:
        ideas: pictures by name, from `ideas`; without them the table has none.
    """
    return Gallery([row for row in methods.table() if row["name"] in methods.files()], ideas or {})


def _webp(figure: Any) -> str:
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi)
    small = io.BytesIO()
    Image.open(drawn).convert("RGB").save(small, format="webp", quality=QUALITY, method=4)
    return base64.b64encode(small.getvalue()).decode()


def _paper(row: dict[str, Any]) -> str:
    where = escape(f"{row['venue']} {row['year']}")
    link = f'<br><a href="https://arxiv.org/abs/{escape(row["arxiv"])}">arXiv {escape(row["arxiv"])}</a>'
    return f'{where}<br><span class="soft">{escape(row["authors"])}</span>{link if row["arxiv"] else ""}'


def headline(name: str, data: str) -> tuple[dict[str, Any], str] | None:
    """The reported number that stands for a method in the table, and which labels it is for; None: none is known.

    Numbers of different methods differ in more than the method: see `s4.literature`.
    """
    order = {"readme": 0, "table_image": 1, "log": 2}
    for dataset, split, words in HEADLINES[data]:
        wanted = ("mIoU", name, dataset, split)
        rows = [r for r in entries() if (score_of(r), r["name"], r["dataset"], r["split"]) == wanted]
        if rows:
            return min(rows, key=lambda r: (not r["backbone"].startswith("ResNet-101"), order.get(r["kind"], 9))), words
    return None


def _headline(name: str, data: str) -> str:
    found = headline(name, data)
    if found is None:
        every = [r for r in entries() if r["name"] == name and r["dataset"].split("_")[0] == data]
        return f'<span class="soft">{"other lists or another score, see below" if every else NONE}</span>'
    row, words = found
    said = (
        f"{row['backbone']}, crop {row['crop'] or 'not stated'}; {KINDS.get(row['kind'], row['kind'])}: {row['source']}"
        + (f" ({row['note']})" if row.get("note") else "")
    )
    return (
        f'<span title="{escape(said)}">{value_of(row):.1f}</span><br><span class="soft">{escape(words)}, '
        f"{escape(row['backbone'].split(' / ')[0])}<br>from {escape(_repository(row['source']))}</span>"
    )


def _repository(source: str) -> str:
    """ "LiheYoung/UniMatch" of a source that names a file in it."""
    return "/".join(source.split()[0].split("/")[:2])


def _details(row: dict[str, Any]) -> str:
    """The idea in the words of the class's docstring, title and code, the release, and all reported numbers."""
    said = re.search(r"Idea: (.*?)\n\s*\n", (getdoc(methods.get(row["name"])) or "") + "\n\n", re.S)
    paragraphs = [" ".join(said[1].split()).replace("`", "")] if said else []
    code = f'<p>Code: <a href="{escape(row["code"])}">{escape(row["code"])}</a></p>' if row["code"] else ""
    extends = f"<p>Extends: {escape(', '.join(row['extends']))}</p>" if row["extends"] else ""
    told = [" ".join(p.split()).replace("`", "") for p in methods.release(row["name"]).split("\n\n") if p]
    release = "<h4>The release</h4>" * bool(told) + "".join(f"<p>{escape(p)}</p>" for p in told)
    idea = "".join(f"<p>{escape(p)}</p>" for p in paragraphs)
    body = f"<p><i>{escape(row['title'])}</i></p>{idea}{extends}{code}{release}"
    rows = [r for r in entries() if r["name"] == row["name"]]
    by_score = {score: [r for r in rows if score_of(r) == score] for score in map(score_of, rows)}
    tables = "".join(_numbers(of, score) for score, of in by_score.items())
    words = f"{len(rows)} reported numbers" if rows else "no reported number with a source is known"
    return f"<details><summary>In words; {words}</summary>{body}{tables}</details>"


def _numbers(rows: Sequence[dict[str, Any]], score: str) -> str:
    """The table of the numbers of one score."""
    lines = []
    for r in sorted(rows, key=lambda r: (r["dataset"], r["split"], r.get("split_protocol", ""), -value_of(r))):
        protocol = r["dataset"].replace("_", " ") + (f", {r['split_protocol']}" if r.get("split_protocol") else "")
        source = r["source"] + (f" ({r['note']})" if r.get("note") else "")
        cells = (protocol, r["split"], r["backbone"], r["crop"] or "", f"{value_of(r):.1f}", source)
        lines.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    head = "".join(f'<th scope="col">{w}</th>' for w in ("data", "labelled", "network", "crop", score, "source"))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Reported numbers"><table class="numbers"><thead>'
        f"<tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
