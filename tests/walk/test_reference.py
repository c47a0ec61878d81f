"""The reference: docstrings become pages on which equations stand in lines."""

from __future__ import annotations

import sys

import pytest

from s4kit import methods
from s4kit.errors import S4Error
from s4kit.walk import reference


def test_a_page_has_the_docstring_as_it_is_written(tmp_path):
    pytest.importorskip("pdoc")
    from s4kit.methods.consistency.fixmatch import FixMatch

    first = reference.write(tmp_path, "s4kit.methods.consistency.fixmatch", "s4kit.data.task")
    assert first.is_file() and (tmp_path / "search.js").is_file()
    page = (tmp_path / "s4kit" / "methods" / "consistency" / "fixmatch.html").read_text(encoding="utf-8")
    equation = next(line for line in FixMatch.__doc__.splitlines() if "L_u = 1/N sum" in line).strip()
    assert f"\n    {equation.replace('>', '&gt;')}\n" in page
    assert 'id="FixMatch.losses"' in page and "view_source" not in page
    assert methods.release("fixmatch")[:60] in page


def test_without_pdoc_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pdoc", None)
    with pytest.raises(S4Error, match=r"pip install 's4kit\[docs\]'"):
        reference.write(tmp_path)
