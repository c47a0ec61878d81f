"""The gallery: a tree in which nothing lies on anything else, a table that loads nothing, honest numbers."""

from __future__ import annotations

import json
import re
from html import escape

import pytest
import torch

import s4kit as s4
from s4kit.errors import S4Error
from s4kit.explore.gallery import pictures, tables
from s4kit.explore.gallery.family_tree import NODE, Tree
from s4kit.explore.gallery.listing import NONE, headline
from s4kit.report.plots import figure
from s4kit.report.reproducing.literature import entries


def card(name: str, year: int, *extends: str, family: str = "f") -> dict:
    return {
        "name": name,
        "year": year,
        "extends": extends,
        "family": family,
        "venue": "V",
        "parity": "golden",
        "idea": "I",
    }


def test_the_nearest_ancestor_is_the_parent():
    tree = Tree(
        [card("a", 2018), card("m", 2017, "a"), card("c", 2020, "m"), card("u", 2022, "m", "c"), card("z", 2001, "u")]
    )
    assert tree.lineage("u") == ["u", "c", "m", "a"] and tree.nodes["u"].others == ("m",)
    columns = [tree.nodes[name].column for name in "amcuz"]
    assert columns == sorted(set(columns)), "right of its parent, even where its year is earlier"


@pytest.mark.parametrize(
    "rows",
    [None, [card("a", 2018), *(card(f"n{k}", 2019 + k % 5, f"n{k // 3}" if k > 2 else "a") for k in range(1, 90))]],
)
def test_nodes_and_lines_do_not_cross(rows):
    tree = Tree(rows) if rows else s4.gallery.tree()
    nodes = list(tree.nodes.values())
    assert rows or set(tree.nodes) == set(s4.methods.files())
    for i, one in enumerate(nodes):
        for two in nodes[i + 1 :]:
            apart = one.x + one.width < two.x or two.x + two.width < one.x or abs(one.y - two.y) >= NODE
            assert apart, (one.name, two.name)
    for node in nodes:
        if node.parent:
            above = tree.nodes[node.parent]
            assert above.x + above.width < node.x
            between = [
                n.name for n in nodes if above.x < n.x < node.x and abs(n.y - node.y) < NODE / 2 and n is not above
            ]
            assert not between, f"the line to {node.name} runs through {between}"


def test_the_tree_can_be_read_and_heard(tmp_path):
    tree = s4.gallery.tree()
    shown = tree._repr_html_()
    assert "<svg" in shown and "unimatch, CVPR 2023, consistency, golden, extends fixmatch" in shown
    assert re.search(r"^      unimatch \(CVPR 2023\)$", repr(tree), re.M)
    tree.save(tmp_path / "tree.svg")
    import xml.etree.ElementTree as xml

    assert len(xml.parse(tmp_path / "tree.svg").getroot().findall(".//*[@data-node]")) == len(tree.nodes)


def test_the_table_has_every_method_with_its_card():
    shown = s4.gallery.page()._repr_html_()
    for row in s4.methods.table():
        body = re.search(rf'<tbody data-name="{row["name"]}".*?</tbody>', shown, re.S)[0]
        assert row["parity"] in body and str(row["year"]) in body and escape(row["note"]) in body
        assert (f"arxiv.org/abs/{row['arxiv']}" in body) == bool(row["arxiv"])
        known = {r["dataset"].split("_")[0] for r in entries() if r["name"] == row["name"]}
        told = escape(" ".join(s4.methods.release(row["name"]).split()).replace("`", "")[:80])
        assert told in body and ("The release" in body) == bool(told)
        assert body.count(NONE) == 2 - len(known & {"voc", "cityscapes"}), "a number, or that there is none"
    assert not re.search(r'src="(?!data:)|<link|@import|url\(', shown), "nothing is loaded from anywhere"
    assert len(re.findall(r"<tr><td>", shown)) == len(entries()), "every reported number is there"


def test_the_number_in_the_table_is_the_methods_own_before_a_copy():
    row, words = headline("u2pl", "voc")
    assert (row["dataset"], row["split"], words) == ("voc_classic", "183", "classic, 183 labels")
    row, _ = headline("unimatch", "voc")
    assert row["kind"] == "readme" and row["source"].startswith("LiheYoung/UniMatch")
    assert headline("ipixmatch", "voc") is None and headline("cac", "cityscapes") is None


def test_pictures_are_inside_and_described(tmp_path):
    fig = figure((1.2, 1.0))
    fig.subplots().set_title("it is taught")
    file = s4.gallery.page({"cutmix": fig}).save_html(tmp_path / "page.html")
    shown = file.read_text()
    assert "data:image/webp;base64,UklG" in shown
    assert 'alt="A step of cutmix, from left to right: it is taught."' in shown


@pytest.mark.slow
def test_networks_are_borrowed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("S4KIT_RUNS", str(tmp_path))
    monkeypatch.setattr(pictures, "BRIEF", 2)
    lesson = s4.lesson("test", "scenes", quiet=True)
    runs = s4.gallery.networks(lesson)
    assert [run.config["method"] for run in runs] == ["supervised", "supervised_strong"]
    assert "trained here" not in capsys.readouterr().out
    first, second = (run.load("last")[0].student.state_dict() for run in runs)
    method = s4.gallery.borrow(lesson.method("cps"), runs)
    nets = [net.state_dict() for net in method.children()]
    for net, given in zip(nets, (first, second)):
        assert all(torch.equal(net[key], value) for key, value in given.items())
    method = s4.gallery.borrow(lesson.method("cutmix"), runs)
    assert all(
        torch.equal(v, first[k]) for net in (method.student, method.teacher) for k, v in net.state_dict().items()
    )
    drawn = s4.gallery.ideas(lesson, runs, ["fixmatch"])
    assert set(drawn) == {"fixmatch"} and drawn["fixmatch"].axes
    assert s4.gallery.ideas(lesson, runs, ["mllc"])["mllc"].axes
    assert "brief mllc" in lesson.runs(), "its graphs cannot be borrowed"
    method = s4.gallery.borrow(lesson.method("self_correcting"), runs)
    assert torch.equal(method.ancillary.decoder.decoder.aspp.pool[1].weight, second["decoder.aspp.pool.1.weight"])
    monkeypatch.setattr(lesson, "runs", lambda: dict.fromkeys(("supervised", "supervised_strong"), "there"))
    assert s4.gallery.networks(lesson) == ["there", "there"]


def test_stages_that_teach_are_shown():
    lesson = s4.lesson("test", "scenes", quiet=True)
    for name, shown in (
        ("learning_pseudo_label", ["hybrid teaches pseudo", "pseudo teaches hybrid", "kept labels"]),
        ("label_noise", ["noisy labels", "kept labels"]),
        ("st", ["kept labels"]),
        ("one_weird_trick", ["labels alone", "filtered"]),
        ("ssda_dual_mix", ["region mixing", "teachers teach student", "kept labels"]),  # in two rounds
    ):
        rows = s4.gallery.steps(lesson.method(name), lesson.task_of(name), pictures._keep)
        assert [row.name for row in rows] == shown


def test_measured_tables_are_shown_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MEASURED", tmp_path)
    for name, command in (("price", "s4kit bench price"), ("family_camvid", "s4kit compare --family consistency")):
        table = s4.gallery.measured(name)
        assert command in repr(table) and "not measured yet" in repr(table)
    made = {"command": "s4kit bench price", "date": "2030-01-02", "commit": "abcdef0123456", "machine": "a CPU"}
    rows = [{"method": "cps", "time": 1.987, "memory": 2.0}]
    (tmp_path / "price.json").write_text(json.dumps({**made, "reference": "fixmatch", "rows": rows}))
    table = s4.gallery.measured("price")
    assert table.rows == [("cps", "1.99", "2.00")] and "fixmatch = 1" in table.head[1]
    assert all(word in table.note for word in ("bench price", "2030-01-02", "a CPU", "abcdef0123"))
    rows = [{"method": "cps", "miou_last": 0.51, "miou_best": 0.52, "over_supervised": -0.0213, "note": "why"}]
    (tmp_path / "family_camvid.json").write_text(json.dumps({**made, "settings": {"steps": 9}, "rows": rows}))
    table = s4.gallery.measured("family_camvid")
    assert table.rows == [("cps", "51.0", "52.0", "-2.1", "why")] and "steps 9" in table.note
    rows = [{"method": "ucc", "miou": 0.84, "sd": 0.002, "over_supervised": 0.153, "over_strong": 0.099, "closed": 0.8}]
    for name in ("family_cotraining", "family_contrastive_camvid"):
        (tmp_path / f"{name}.json").write_text(json.dumps({**made, "rows": rows}))
        table = s4.gallery.measured(name)
        assert table.rows == [("ucc", "84.0 ± 0.2", "+15.3", "+9.9", "80 %", "")] and "gap closed" in table.head
    rows[0] |= {"method": "label_noise", "told": "weak labels: tags"}
    (tmp_path / "family_self_training.json").write_text(json.dumps({**made, "rows": rows}))
    assert s4.gallery.measured("family_self_training").rows[0][0] == "label_noise (weak labels: tags)"
    rows = [{"method": "twist", "data": "rooms", "score": "PointAP", "end": 0.654, "sd": None, "over": 0.085}]
    (tmp_path / "beyond_points.json").write_text(json.dumps({**made, "rows": rows}))
    assert s4.gallery.measured("beyond_points").rows == [("PointAP, rooms", "twist", "65.4", "+8.5", "")]
    with pytest.raises(S4Error, match="price"):
        s4.gallery.measured("prices")


def test_what_was_told_more_is_marked_in_every_table_of_scores():
    weak = {name for name in s4.methods.names() if "weak labels" in s4.methods.get(name).card.note}
    marked = 0
    for file in (*tables.MEASURED.glob("family_*.json"), *tables.MEASURED.glob("beyond_*.json")):
        for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
            if row["method"] in weak:
                assert row["told"].startswith("weak labels: "), (file.name, row["method"])
                marked += 1
    assert len(weak) >= 6 and marked >= 8
