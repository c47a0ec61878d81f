"""Reported results: every row has a source, belongs to a method of the kit, and is shown with what it depends on."""

from __future__ import annotations

import pytest

import s4kit as s4
from s4kit.errors import S4Error
from s4kit.report.reproducing.literature import entries


def test_every_row_is_complete_and_has_a_source():
    kinds = {"readme", "table_image", "log", "copied_by_other", "leaderboard"}
    names = set(s4.methods.files())
    datasets = ("voc_classic", "voc_blended", "cityscapes", "coco", "ade20k")
    assert len(entries()) > 800
    assert len({tuple(sorted((k, str(v)) for k, v in row.items())) for row in entries()}) == len(entries()), "twice"
    for row in entries():
        assert "/" in row["source"] and len(row["source"]) > 8, row
        assert row["name"] in names and row["kind"] in kinds, row
        assert row["dataset"] in datasets and row["split"] and row["backbone"], row
        assert 15 < row["miou"] < 95 and row.get("last", 0) <= row["miou"] + 1e-9, row


def test_the_table_shows_what_numbers_depend_on():
    table = s4.literature(["cutmix", "cps"], data="voc")
    assert {row[0] for row in table.rows} == {"cutmix", "cps"}
    assert {row[1].split(",")[0] for row in table.rows} == {"voc_classic", "voc_blended"}
    assert "source" in table.head and all(row[-1] for row in table.rows)
    assert "Compare only rows" in table._repr_html_()
    assert all(row[1].startswith("cityscapes") for row in s4.literature("u2pl", "cityscapes").rows)
    for data in ("coco", "ade20k"):
        rows = s4.literature(["unimatch", "unimatch_v2"], data).rows
        assert {row[0] for row in rows} == {"unimatch", "unimatch_v2"} and {row[1] for row in rows} == {data}
    with pytest.raises(S4Error, match="not 'camvid'"):
        s4.literature(data="camvid")
