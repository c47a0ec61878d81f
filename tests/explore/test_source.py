"""`show` and `claim`: true source with its place, sentences with measured values."""

from __future__ import annotations

import linecache

import pytest

import s4kit as s4
from s4kit.errors import S4Error
from s4kit.methods.consistency.unimatch import UniMatch


def test_a_methods_losses_are_shown_as_they_are_in_the_file():
    shown = s4.show(UniMatch.losses)
    file, lines = shown.place.split(", lines ")
    first, last = map(int, lines.split(" to "))
    path = f"{s4.__path__[0]}/../{file}"
    true = [linecache.getline(path, k) for k in range(first, last + 1)]
    assert file == "s4kit/methods/consistency/unimatch.py"
    assert [line.strip() for line in true] == [line.strip() for line in shown.code.splitlines()]
    assert shown.code.startswith("def losses(self, batch")
    assert s4.show("unimatch", only="losses").code == shown.code


def test_several_members_and_properties():
    shown = s4.show("unimatch", only=["teach", "losses"])
    assert shown.code.index("def teach") < shown.code.index("def losses") and shown.place.count("lines") == 2
    assert "@property" in s4.show(s4.engine.Scores, only="miou").code
    html = shown._repr_html_()
    assert "<span style=" in html and "s4kit/methods/consistency/unimatch.py" in html and "/work" not in html


def test_what_has_no_source():
    with pytest.raises(S4Error, match="no Python source of len"):
        s4.show(len)
    with pytest.raises(S4Error, match="no 'loses'"):
        s4.show(UniMatch, only="loses")


def test_a_claim_is_a_sentence_with_values(capsys):
    s4.claim("{} is {:.1f}.", "It", 1.25)
    assert capsys.readouterr().out == "It is 1.2.\n"
    with pytest.raises(IndexError):
        s4.claim("{} and {}", 1)
