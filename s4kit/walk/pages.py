"""A notebook as one HTML file that needs no network: pictures inside, formulas as MathML."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

# Notebooks without a number, after those that have one; of a family of methods, and of what is no still image, below a
# folder
PAGES = (
    "gallery", "families/cotraining", "families/contrastive", "families/self_training", "own_data", "beyond/video",
    "beyond/domains", "beyond/instances", "beyond/weak_labels", "beyond/active", "beyond/points",
)  # fmt: skip
BEYOND = "beyond"  # of their own: no page of the walk needs them
FOLDERS = ("families", BEYOND)
# What browsers leave out of MathML 3, said by style sheet; and TeX that the translation does not know
STYLES = {"bold": "font-weight:bold", "monospace": "font-family:monospace"}
TEX = {r"\arg": r"\mathrm{arg}\,"}
LARGER = "<style>math {font-size: 1.1em}</style></head>"  # fonts for formulas are smaller than those for text
MATHJAX = re.compile(r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", re.S)


def write_page(notebook: Any, path: Path) -> None:
    """Write a notebook as one HTML file; its links to notebooks of the walk lead to their pages."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", embed_images=True)
    exporter.register_filter("markdown2html", _markdown())
    for url in ("require_js_url", "jquery_url", "mermaid_js_url", "jupyter_widgets_base_url", "widget_renderer_url"):
        setattr(exporter, url, "")
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": path.stem}})
    body = MATHJAX.sub("", body).replace("</head>", LARGER, 1)
    names = "|".join((r"\d\d_\w+", *PAGES, *(name.rpartition("/")[2] for name in PAGES)))
    body = re.sub(rf'href="((?:\.\./)?(?:{names}))\.ipynb', r'href="\1.html', body)
    path.write_text(body, encoding="utf-8")


def mathml(tex: str, block: bool = False) -> str:
    """A formula of LaTeX as a `<math>` element; as its source where it cannot be translated whole."""
    from latex2mathml.converter import convert

    for name, known in TEX.items():
        tex = tex.replace(name, known)
    try:
        found = convert(tex.strip(), display="block" if block else "inline")
    except Exception:  # the library has no common error; a formula as its source is better than no page
        found = "\\"
    if "\\" in found:  # so it hands on a command that it does not know
        return f"<code>{escape(tex)}</code>"
    for variant, style in STYLES.items():
        found = found.replace(f'mathvariant="{variant}"', f'style="{style}"')
    return found


def _markdown() -> Any:
    """From Markdown to HTML as nbconvert does it, formulas typeset."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        """Formulas are translated instead of being left to a script."""

        def block_math(self, body: str) -> str:
            return mathml(body, block=True)

        def inline_math(self, body: str) -> str:
            return mathml(body)

    return MarkdownWithMath(renderer=Renderer(escape=False, embed_images=True)).render
