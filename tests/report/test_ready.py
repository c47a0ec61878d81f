"""The line of versions, and the words for what is missing or too old."""

from __future__ import annotations

import pytest

import s4kit as s4
from s4kit.report import ready as of


def test_all_is_well_in_one_line(capsys):
    s4.ready()
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    "name, version, words",
    [
        ("torch", "2.4.1+cu121", "torch 2.4.1+cu121 is older than 2.6, the oldest that the kit is tested with."),
        ("anywidget", "", "anywidget is not installed: knobs and the explorer stay pictures. Mend: pip install"),
        ("timm", "", "timm is not installed: the kit needs it."),
    ],
)
def test_what_is_wrong_is_said_in_words(name, version, words, monkeypatch, capsys):
    true = of._version
    monkeypatch.setattr(of, "_version", lambda package: version if package == name else true(package))
    s4.ready()
    said = capsys.readouterr().out
    assert words in said and "then restart the kernel" in said and said.count("\n") == 2
