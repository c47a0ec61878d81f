"""Reported results: every row has a source, belongs to a method of the kit, and is shown with what it depends on."""

from __future__ import annotations

import pytest

import s4kit as s4
from s4kit.errors import S4Error
from s4kit.report.literature import entries


def test_every_row_is_complete_and_has_a_source():
    kinds = {"readme", "table_image", "log", "copied_by_other", "leaderboard"}
    names = set(s4.methods.files())
    assert len(entries()) > 300
    for row in entries():
        assert "/" in row["source"] and len(row["source"]) > 8, row
        assert row["name"] in names and row["kind"] in kinds, row
        assert row["dataset"] in ("voc_classic", "voc_blended", "cityscapes") and row["split"] and row["backbone"], row
        assert 20 < row["miou"] < 95 and row.get("last", 0) <= row["miou"] + 1e-9, row


def test_the_table_shows_what_numbers_depend_on():
    table = s4.literature(["cutmix", "cps"], data="voc")
    assert {row[0] for row in table.rows} == {"cutmix", "cps"}
    assert {row[1].split(",")[0] for row in table.rows} == {"voc_classic", "voc_blended"}
    assert "source" in table.head and all(row[-1] for row in table.rows)
    assert "Compare only rows" in table._repr_html_()
    assert all(row[1].startswith("cityscapes") for row in s4.literature("u2pl", "cityscapes").rows)
    with pytest.raises(S4Error, match="not 'coco'"):
        s4.literature(data="coco")
