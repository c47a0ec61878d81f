"""The family tree of the methods: who extends whom, by year, drawn as SVG by a layout of its own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from ... import methods

HERE = Path(__file__).parent
COLOURS = {  # Okabe and Ito, told apart without colour vision; the mark of the parity says the rest
    "baselines": "#6b6f7a",
    "consistency": "#0072B2",
    "contrastive": "#CC79A7",
    "cotraining": "#009E73",
    "selftraining": "#D55E00",
}
FURTHER = ("#E69F00", "#56B4E9", "#8c6bb1", "#8a6d00", "#1f7a7a", "#a33b3b")
MARKS = {"golden": "●", "reference": "◐", "reconstruction": "○"}
FEW = 3  # methods: neighbouring years with no more share a column
ROW, NODE, GAP, LETTER, MARGIN, HEAD = 31, 25, 42, 7.6, 12, 34  # pixels


def colours(families: Sequence[str]) -> dict[str, str]:
    """The colour of each family, those of the kit always the same."""
    new = sorted(set(families) - COLOURS.keys())
    return COLOURS | {name: FURTHER[k % len(FURTHER)] for k, name in enumerate(new)}


@dataclass
class Node:
    """A method in the tree.

    Attributes:
        row: of `methods.table()`. parent: what it mainly extends, None at the root. others: what it extends besides.
        column, line: its place; lines of inner nodes are the middle of their children's.
    """

    row: dict[str, Any]
    parent: str | None = None
    others: tuple[str, ...] = ()
    children: list[str] = field(default_factory=list)
    column: int = 0
    line: float = 0.0
    x: float = 0.0

    @property
    def name(self) -> str:
        """The method's, as `create` takes it."""
        return self.row["name"]

    @property
    def width(self) -> float:
        """Of its box, in pixels, by the letters of its name."""
        return LETTER * len(self.name) + 36

    @property
    def y(self) -> float:
        """The middle of its line, in pixels from the top."""
        return HEAD + (self.line + 0.5) * ROW


class Tree:
    """Shows itself in a notebook; `save(path)` writes the SVG; `print` gives it as indented lines.

    Args:
        rows: of `methods.table()`.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.nodes = {row["name"]: Node(row) for row in rows}
        self._link()
        self.bands = self._columns()
        self.lines = self._lines()
        self._across()

    # ---- layout ----

    def _link(self) -> None:
        """Of several ancestors the one that is deepest in the tree is the parent: `u2pl` comes after `cutmix`, which
        comes after `mean_teacher`, though it names both."""
        depths: dict[str, int] = {}

        def depth(name: str) -> int:
            if name not in depths:
                node = self.nodes[name]
                known = [e for e in node.row["extends"] if e in self.nodes and e != name]
                node.parent = max(known, key=lambda e: (depth(e), self.nodes[e].row["year"]), default=None)
                node.others = tuple(e for e in known if e != node.parent)
                depths[name] = 1 + depth(node.parent) if node.parent else 0
            return depths[name]

        for name in self.nodes:
            depth(name)
        for node in sorted(self.nodes.values(), key=lambda n: (n.row["year"], n.name)):
            if node.parent:
                self.nodes[node.parent].children.append(node.name)

    def _columns(self) -> list[tuple[str, int, int]]:
        """Place the nodes in columns; returns (years in words, first column, number of columns) of each band.

        A band is a year, or neighbouring years with few methods; within it a method stands right of its parent.
        """
        placed = [node for node in self.nodes.values() if node.parent]
        years: list[list[int]] = []
        for year in sorted({node.row["year"] for node in placed}):
            of = sum(node.row["year"] == year for node in placed)
            if years and of + sum(n.row["year"] in years[-1] for n in placed) <= FEW:
                years[-1].append(year)
            else:
                years.append([year])
        band = {year: k for k, group in enumerate(years) for year in group}
        place: dict[str, tuple[int, int]] = {}

        def find(node: Node) -> tuple[int, int]:
            if node.name not in place:
                above = find(self.nodes[node.parent]) if node.parent else (-2, 0)
                own = band[node.row["year"]] if node.parent else -1
                place[node.name] = (own, 0) if own > above[0] else (above[0], above[1] + 1)
            return place[node.name]

        for node in self.nodes.values():
            find(node)
        deep = {k: 1 + max(sub for b, sub in place.values() if b == k) for k in {b for b, _ in place.values()}}
        start = {k: sum(deep[j] for j in deep if j < k) for k in deep}
        for name, (k, sub) in place.items():
            self.nodes[name].column = start[k] + sub
        words = {k: str(group[0]) + (f"–{group[-1]}" if len(group) > 1 else "") for k, group in enumerate(years)}
        return [(words.get(k, ""), start[k], deep[k]) for k in sorted(deep)]

    def _lines(self) -> int:
        """Give every leaf a line of its own, inner nodes the middle of their children; returns the number of lines."""
        used = 0

        def place(node: Node) -> None:
            nonlocal used
            if not node.children:
                node.line, used = used, used + 1
                return
            for child in node.children:
                place(self.nodes[child])
            ends = [self.nodes[child].line for child in (node.children[0], node.children[-1])]
            node.line = sum(ends) / 2

        for node in self.nodes.values():
            if not node.parent:
                place(node)
        return used

    def _across(self) -> None:
        """x of the columns, each as wide as its longest name."""
        last = max(node.column for node in self.nodes.values())
        wide = [max((n.width for n in self.nodes.values() if n.column == c), default=0) for c in range(last + 1)]
        for node in self.nodes.values():
            node.x = MARGIN + sum(w + GAP for w in wide[: node.column])
        self.edges = [MARGIN + sum(w + GAP for w in wide[:c]) for c in range(last + 2)]

    def lineage(self, name: str) -> list[str]:
        """A method and what it mainly extends, back to the root."""
        parent = self.nodes[name].parent
        return [name, *(self.lineage(parent) if parent else [])]

    # ---- pictures ----

    @cached_property
    def svg(self) -> str:
        """The tree as one SVG element; text stays text."""
        wide, tall = self.edges[-1] - GAP + MARGIN, HEAD + self.lines * ROW + MARGIN
        families = list(dict.fromkeys(node.row["family"] for node in self.nodes.values()))
        shade = colours(families)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {tall:.0f}" width="{wide:.0f}" '
            f'height="{tall:.0f}" role="group" aria-label="Family tree of {len(self.nodes)} methods by year" '
            'font-family="system-ui, Segoe UI, Roboto, sans-serif" font-size="14">',
            f'<rect width="{wide:.0f}" height="{tall:.0f}" fill="#ffffff"/>',
            *self._bands(tall),
            *(edge for node in self.nodes.values() for edge in self._edges(node)),
            '<g role="list">',
            *(self._node(node, shade[node.row["family"]]) for node in self.nodes.values()),
            "</g></svg>",
        ]
        return "".join(parts)

    def _bands(self, tall: float) -> list[str]:
        out = []
        for k, (words, start, number) in enumerate(self.bands):
            left, right = self.edges[start] - GAP / 2, self.edges[start + number] - GAP / 2
            fill = "#f2f4f8" if k % 2 else "#ffffff"
            out.append(f'<rect x="{left:.0f}" width="{right - left:.0f}" height="{tall:.0f}" fill="{fill}"/>')
            out.append(
                f'<text x="{(left + right) / 2:.0f}" y="21" text-anchor="middle" font-size="15" font-weight="600" '
                f'fill="#4a4d57">{words}</text>'
            )
        return out

    def _edges(self, node: Node) -> list[str]:
        out = []
        known = self.lineage(node.parent) if node.parent else []
        for name in [node.parent, *(other for other in node.others if other not in known)]:
            if name is None:
                continue
            above = self.nodes[name]
            x0, y0, x1, y1 = above.x + above.width, above.y, node.x, node.y
            key = f'data-edge="{escape(name)} {escape(node.name)}"'
            if name == node.parent:
                turn = self.edges[above.column + 1] - 6
                bend = f"M{x0:.0f} {y0:.1f}C{turn - 8:.0f} {y0:.1f} {x0 + 12:.0f} {y1:.1f} {turn:.0f} {y1:.1f}H{x1:.0f}"
                out.append(f'<path d="{bend}" {key} fill="none" stroke="#7b808c" stroke-width="1.6"/>')
            else:
                middle = (x0 + x1) / 2
                bend = f"M{x0:.0f} {y0:.1f}C{middle:.0f} {y0:.1f} {middle:.0f} {y1:.1f} {x1:.0f} {y1:.1f}"
                look = 'fill="none" stroke="#b9bdc8" stroke-width="1.2" stroke-dasharray="4 4"'
                out.insert(0, f'<path d="{bend}" {key} {look}/>')
        return out

    def _node(self, node: Node, shade: str) -> str:
        row, top = node.row, node.y - NODE / 2
        said = f"{node.name}, {row['venue']} {row['year']}, {row['family']}, {row['parity']}"
        said += f", extends {' and '.join(filter(None, (node.parent, *node.others)))}" if node.parent else ", the root"
        band = next(words for words, start, number in self.bands if start <= node.column < start + number)
        year = "" if str(row["year"]) == band else row["year"]
        return (
            f'<g role="listitem" tabindex="0" data-node="{escape(node.name)}" aria-label="{escape(said)}">'
            f"<title>{escape(said)}: {escape(row.get('idea', ''))}</title>"
            f'<rect x="{node.x:.0f}" y="{top:.1f}" width="{node.width:.0f}" height="{NODE}" rx="5" fill="#ffffff" '
            f'stroke="{shade}" stroke-width="1.8"/>'
            f'<text x="{node.x + 7:.0f}" y="{node.y + 5:.1f}" fill="{shade}">{MARKS.get(row["parity"], "○")}</text>'
            f'<text x="{node.x + 22:.0f}" y="{node.y + 5:.1f}" fill="#16181d">{escape(node.name)}</text>'
            f'<text x="{node.x + 7:.0f}" y="{top - 3:.1f}" font-size="10" fill="#5b5e69">{year}</text>'
            "</g>"
        )

    def _legend(self) -> str:
        families = dict.fromkeys(node.row["family"] for node in self.nodes.values())
        shade = colours(list(families))
        boxes = "".join(
            f'<span style="border:2px solid {shade[name]};border-radius:5px;padding:1px 8px;margin-right:8px">'
            f"{escape(name)}</span>"
            for name in families
        )
        marks = " ".join(f"{mark} {name}" for name, mark in MARKS.items())
        return (
            f'<p style="margin:6px 0">{boxes}<span style="white-space:nowrap">{marks}</span> · a line: extends; '
            "dashed: extends it, too · point at a method to see its line</p>"
        )

    def _repr_html_(self) -> str:
        key = f"s4t-{uuid.uuid4().hex[:8]}"
        listed, script = escape(repr(self)), (HERE / "family_tree.js").read_text(encoding="utf-8")
        return (
            f'<div id="{key}" class="s4t" style="background:#fff;color:#16181d;padding:8px;font:14px/1.4 system-ui,'
            f'sans-serif">{STYLE}{self._legend()}<div style="overflow-x:auto" tabindex="0" role="region" '
            f'aria-label="Family tree, scrolls sideways">{self.svg}</div>'
            f'<details><summary>The same as a list</summary><pre style="color:inherit">{listed}</pre></details></div>'
            f"<script>{script.replace('KEY', key)}</script>"
        )

    def __repr__(self) -> str:
        out: list[str] = []

        def say(node: Node, depth: int) -> None:
            also = f", and {', '.join(node.others)}" if node.others else ""
            out.append(f"{'  ' * depth}{node.name} ({node.row['venue']} {node.row['year']}{also})")
            for child in node.children:
                say(self.nodes[child], depth + 1)

        for node in self.nodes.values():
            if not node.parent:
                say(node, 0)
        return "\n".join(out)

    def save(self, path: Any) -> None:
        """Write the SVG."""
        Path(path).write_text(self.svg, encoding="utf-8")


STYLE = (
    "<style>.s4t [data-node]{cursor:default}.s4t [data-node]:focus{outline:none}"
    ".s4t [data-node]:focus rect{stroke-width:3.5}.s4t .far{opacity:.18}"
    ".s4t .near[data-edge]{stroke:#16181d;stroke-width:2.6}</style>"
)


def tree() -> Tree:
    """The family tree of all methods of the kit."""
    return Tree([row for row in methods.table() if row["name"] in methods.files()])
