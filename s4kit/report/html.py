"""A self-contained page: pictures embedded, every name escaped, light and dark, nothing loaded from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

STYLE = """
:root { color-scheme: light dark; --ground:#ffffff; --ink:#1c1c22; --soft:#5b5e69; --line:#d9dbe2; --band:#f4f5f8;
  --good:#00734f; --bad:#b34700; --heat:0,114,178; }
@media (prefers-color-scheme: dark) { :root { --ground:#16181d; --ink:#e8e8ea; --soft:#a5a8b4; --line:#363943;
  --band:#1f2229; --good:#3ecf9a; --bad:#ff9a52; --heat:86,180,233; } }
* { box-sizing:border-box }
body { margin:0; background:var(--ground); color:var(--ink); font:18px/1.5 system-ui,"Segoe UI",Roboto,sans-serif }
main { max-width:1240px; margin:0 auto; padding:1.6rem 1.4rem 3rem }
h1 { font-size:2rem; line-height:1.2; margin:0 0 .3rem } h2 { font-size:1.35rem; margin:2.4rem 0 .6rem }
p { max-width:62rem; margin:.4rem 0 } .soft { color:var(--soft) } .small { font-size:.86em }
.scroll { overflow-x:auto } table { border-collapse:collapse; font-variant-numeric:tabular-nums; margin:.4rem 0 }
th,td { padding:.34rem .8rem; text-align:right; border-bottom:1px solid var(--line); white-space:nowrap }
th { font-weight:600; color:var(--soft); font-size:.86em; border-bottom:2px solid var(--line) }
th:first-child,td:first-child { text-align:left } tr.base td { background:var(--band) }
.good { color:var(--good); font-weight:600 } .bad { color:var(--bad); font-weight:600 } .big { font-weight:700 }
img { max-width:100%; height:auto; display:block; margin:.4rem 0 }
code,pre { font:.84em/1.5 ui-monospace,Consolas,monospace; background:var(--band); border-radius:6px }
code { padding:.1em .35em } pre { padding:.8rem 1rem; white-space:pre-wrap; word-break:break-word }
details summary { cursor:pointer; color:var(--soft) }
@media print { body { font-size:11pt } h2 { break-after:avoid } }
"""


def page(title: str, body: str) -> str:
    """A whole document; `body` is HTML, `title` is text."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def cell(value: object, kind: str = "", style: str = "") -> str:
    """One table cell with escaped text."""
    of = (f' class="{kind}"' if kind else "") + (f' style="{style}"' if style else "")
    return f"<td{of}>{escape(str(value))}</td>"


def link(text: str, page: str) -> str:
    """One table cell that leads to a page beside this one, its path relative to it."""
    return f'<td><a href="{escape(quote(page))}">{escape(text)}</a></td>'


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table from escaped cells (`cell`); each row comes with its class or ""."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = (f'<tr class="{kind}">' + "".join(cells) + "</tr>" for kind, cells in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def picture(light: Path, dark: Path | None, words: str) -> str:
    """An embedded PNG, with another one for dark screens; `words` describe it for those who do not see it."""
    other = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">' if dark else ""
    return f'<picture>{other}<img src="{_data(light)}" alt="{escape(words)}"></picture>'


def _data(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def heat(value: float | None) -> str:
    """A background for a share in [0, 1]: the stronger the higher."""
    return "" if value is None else f"background:rgba(var(--heat),{0.5 * max(0.0, min(1.0, value)):.2f})"
