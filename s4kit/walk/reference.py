"""The reference: all public docstrings as pages, `python -m s4kit.walk.reference OUT`; it needs the extra `docs`."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

from .. import __version__, methods
from ..errors import S4Error

# Docstrings are shown as they are written: Markdown would join the lines of equations.
TEMPLATE = """{% extends "default/module.html.jinja2" %}
{% macro docstring(of) %}
  {% if of.docstring %}<div class="docstring"><pre>{{ of.docstring | e }}</pre></div>{% endif %}
{% endmacro %}
{% block style %}{{ super() }}<style>
  main, main .module-info, main .docstring { max-width: none }
  .docstring pre { white-space: pre-wrap; padding: 0; border: 0; background: none; font-size: 12px }
</style>{% endblock %}
"""


def write(out: str | Path, *modules: str) -> Path:
    """Write a page for each public module of the kit and for each method, and a search over all of them.

    Args:
        out: folder; what it holds of an earlier call is replaced.
        modules: these alone, by their dotted names.

    Returns:
        The first page; it needs no server.

    Raises:
        S4Error: pdoc is not installed.
    """
    try:
        import pdoc
    except ImportError:
        raise S4Error("The reference is made by pdoc: `pip install 's4kit[docs]'`, or pdoc alone.") from None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Error parsing type annotation")  # of a dataclass: it is shown as written
        (Path(folder) / "module.html.jinja2").write_text(TEMPLATE, encoding="utf-8")
        pdoc.render.configure(show_source=False, footer_text=f"s4kit {__version__}", template_directory=Path(folder))
        pdoc.pdoc(*modules or ("s4kit", *methods.files().values()), output_directory=Path(out))
    return Path(out) / "index.html"


if __name__ == "__main__":
    print(write(*sys.argv[1:]))
