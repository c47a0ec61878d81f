"""Which images a classifier of whole images asks for."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import toy_task

import s4kit as s4
from s4kit.cli import main
from s4kit.engine.query import Asker
from s4kit.errors import S4Error
from s4kit.methods.parts.queries import Rounds, doubt, rounds_of
from s4kit.views.weak_labels import tags_of

QUICK = {"net": "tiny(norm='group')", "epochs": 2, "alpha": 0.5, "beta": 0.5, "device": "cpu"}


def test_a_budget_is_spent_as_published():
    # UC Merced: 1679 images; 2, 5 and 12.5 % of them
    for share, expected in ((0.02, (3, 2, 17)), (0.05, (8, 4, 21)), (0.125, (21, 11, 20))):
        assert rounds_of(math.ceil(share * 1679), 0.1, 0.5) == Rounds(*expected)
    assert rounds_of(4, 0.1, 0.5) == (1, 1, 4)
    for shares in ((0.0, 0.5), (0.1, 1.5)):
        with pytest.raises(S4Error, match=r"within 0\.\.1"):
            rounds_of(4, *shares)


def test_doubt_by_loops_and_ties_first():
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    z[3, 1] = z[3, 4] = 9.0  # two ways, equally likely
    for k in range(6):
        p = np.exp(z[k].double().numpy())
        p /= p.sum()
        first, second = sorted(p)[-1], sorted(p)[-2]
        assert doubt(z, "margin", True)[k] == pytest.approx(second - first)
        assert doubt(z, "entropy", True)[k] == pytest.approx(-sum(q * math.log(q) for q in p))
        q = 1 / (1 + np.exp(-z[k].double().numpy()))
        assert doubt(z, "margin", False)[k] == pytest.approx(-np.mean([abs(2 * a - 1) for a in q]))
        assert doubt(z, "entropy", False)[k] == pytest.approx(
            -np.mean([a * math.log(a) + (1 - a) * math.log(1 - a) for a in q])
        )
    assert doubt(z, "margin", True).argmax() == 3 and doubt(z, "margin", True)[3] == 0
    assert doubt(torch.full((1, 3), 500.0), "entropy", False) == 0
    with pytest.raises(S4Error, match="entropy"):
        doubt(z, "entropi", True)


@pytest.fixture(scope="module")
def task():
    return toy_task()


def test_a_query_is_a_split(task, monkeypatch):
    told, rounds = [], []
    teach = Asker.teach
    monkeypatch.setattr(Asker, "teach", lambda self, rows: told.append(list(rows)) or teach(self, rows))
    before = torch.get_rng_state()
    ids = s4.query(task, 6, tell=lambda asked, of: rounds.append((asked, of)), **QUICK)
    assert torch.equal(before, torch.get_rng_state())
    assert len(ids) == len(set(ids)) == 6 and rounds == [(2, 6), (4, 6), (6, 6)]
    first, *later = [[task.train.ids[row] for row in rows] for rows in told]
    assert len(first) == 3 and not set(first) & set(ids), "the first images only start the classifier"
    assert later == [ids[:2], ids[2:4]], "each round's answers are taught before the next"
    assert s4.query(task, "1/4", **QUICK) == ids and s4.query(task, 6, seed=1, **QUICK) != ids
    assert set(s4.query(task, 24, **QUICK)) == set(task.train.ids), "all, the first ones as well"


def test_it_asks_for_what_its_classifier_is_unsure_of(task):
    asker = Asker(task, "tiny(norm='group')", 0.05, 4, 10, 0, torch.device("cpu"))
    asker.teach(list(range(12)))
    rest = list(range(12, 24))
    doubts = {}
    with torch.no_grad():
        for row in rest:
            image = task.train.read(row).image[None] / 255
            p = asker.net.eval()(image).sigmoid()[0]
            doubts[row] = -(2 * p - 1).abs().mean().item()
    assert asker.most_doubtful(rest, 4, "margin") == sorted(rest, key=lambda row: -doubts[row])[:4]


def test_it_is_told_tags_and_nothing_else(task, monkeypatch):
    asker = Asker(task, "tiny", 0.01, 2, 1, 0, torch.device("cpu"))
    seen = []
    monkeypatch.setattr(asker, "_loss", lambda logits, x: seen.append(x) or logits.sum())
    asker.teach([3, 20])
    (x,) = seen
    for row, tags in zip(x.index.tolist(), x.tags):
        assert np.array_equal(tags.numpy(), tags_of(task.train.label(row), 4))


def test_scenes_are_one_tag_each(task, monkeypatch):
    source = task.train
    monkeypatch.setattr(type(source), "scenes", ("left", "right", "other"), raising=False)
    monkeypatch.setattr(type(source), "scene", lambda self, row: row % 3)
    monkeypatch.setattr(type(source), "label", lambda self, row: pytest.fail("no mask is opened"))
    read = type(source).read
    monkeypatch.setattr(type(source), "read", lambda self, row, label=True: read(self, row, False))
    asker = Asker(task, "tiny", 0.01, 3, 1, 0, torch.device("cpu"))
    assert asker.single and asker.net.last.out_channels == 3 and asker.plan["x"].reveal is None
    z = torch.randn(2, 3)
    view = replace_index(task, [7, 11])
    expected = -(z[0].log_softmax(0)[1] + z[1].log_softmax(0)[2]) / 2
    assert asker._loss(z, view).item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(s4.query(task, 3, **QUICK)) == 3


@pytest.mark.parametrize("words", [1, 2])
def test_tags_of_ones_own_need_no_mask(task, monkeypatch, words):
    read = type(task.train).read
    monkeypatch.setattr(type(task.train), "read", lambda self, row, label=True: read(self, row, False))
    tags = {name: ("wood", "meadow", "shore")[k % 3 : k % 3 + words] for k, name in enumerate(task.train.ids)}
    asker = Asker(task, "tiny", 0.01, 3, 1, 0, torch.device("cpu"), tags)
    assert asker.names == ["meadow", "shore", "wood"] and asker.single == (words == 1)
    assert asker._said_of(1).tolist() == [1.0, float(words == 2), 0.0]
    assert len(s4.query(task, 3, tags=tags, **QUICK)) == 3
    with pytest.raises(S4Error, match="the tags that are given have none of it"):
        s4.query(task, 3, tags={task.train.ids[0]: ["wood"]}, **QUICK)


def replace_index(task, rows):
    class View:
        index, tags = torch.tensor(rows), None

    return View


def test_an_image_without_a_mask_has_no_tags(task, monkeypatch):
    read = type(task.train).read
    monkeypatch.setattr(
        type(task.train), "read", lambda self, row, label=True: replace(read(self, row, label), label=None)
    )
    with pytest.raises(S4Error, match="its tags are not known"):
        s4.query(task, 4, **QUICK)
    with pytest.raises(S4Error, match="only 24 have a label"):
        s4.query(task, 25, **QUICK)


def test_the_command_writes_a_list_that_load_reads(tmp_path, capsys):
    file, tags = tmp_path / "asked.txt", tmp_path / "tags.csv"
    tags.write_text("".join(f"train_{k:04d}, {'left' if k % 2 else 'right'}\n" for k in range(12)))
    words = "query --data scenes --data-option n_train=12 --data-option n_val=2 --data-option side=32 --budget 3"
    options = ["--passes", "1", "--alpha", "0.5", "--backbone", "tiny", "--device", "cpu", "--out", str(file), "--json"]
    assert main([*words.split(), *options]) == 0
    ids = json.loads(capsys.readouterr().out.splitlines()[-1])["ids"]
    assert file.read_text().startswith("# 3 of 12 images of scenes, asked for by margin, seed 0\n")
    task = s4.load("scenes", labelled=file, n_train=12, n_val=2, side=32)
    assert [task.train.ids[row] for row in task.labelled] == ids and len(task.unlabelled) == 9
    assert "asked.txt" in task.protocol
    assert main([*words.split(), *options, "--tags", str(tags)]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["ids"]) == 3
