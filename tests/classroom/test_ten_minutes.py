"""Ten more minutes of labelling: what is known before, what it costs, what the next training makes of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from explored import train_runs
from PIL import Image

import s4kit as s4
from s4kit.classroom.ten_minutes import LOOK, SPEED, label_more, sights, what_it_brought
from s4kit.errors import S4Error


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return s4.open_run(train_runs(tmp_path_factory.mktemp("ten"), "fixmatch")["fixmatch"])


def test_what_is_known_before_holds_no_truth(run):
    found = sights(run)
    assert [one.id for one in found] == run.snapshots().ids and len(found) == 5
    maps = run.snapshots().read(5, "pseudo", 3)
    assert found[3].sure == pytest.approx(maps["confidence"].mean() / 255)
    assert found[3].kept == (maps["weight"] > 0).mean() and sum(found[3].shares.values()) == pytest.approx(1)
    assert {field.name for field in dataclasses.fields(found[0])} == {"id", "kept", "sure", "entropy", "shares"}


def test_the_hand_paints_what_is_wrong_until_the_time_is_up(run, tmp_path):
    snapshots, ids = run.snapshots(), [one.id for one in sights(run)]
    scenes, labels = ([read(k) for k in range(5)] for read in (
        snapshots.image, lambda k: snapshots.read(5, "pseudo", k)["label"]))  # fmt: skip
    wrong = [int(((s["truth"] != label) & (s["truth"] != 255)).sum()) for s, label in zip(scenes, labels)]
    order = [4, 2, 0]
    prices = np.cumsum([LOOK + wrong[k] / SPEED for k in order])
    done = label_more(run, [ids[k] for k in order], tmp_path / "more", seconds=prices[1] + 1)
    assert done.ids == (ids[4], ids[2]) and done.seconds == pytest.approx(prices[1])
    assert done.painted == wrong[4] + wrong[2]
    task = s4.load(**run.config["task"] | {"labelled": str(done.folder)})
    label = task.train.read(task.labelled[-1]).label.numpy()[4:36, 4:36]
    scene = snapshots.image(ids.index(task.train.ids[task.labelled[-1]]))
    assert np.array_equal(label[scene["truth"] != 255], scene["truth"][scene["truth"] != 255]), (
        "the hand is never wrong"
    )
    assert len(list((tmp_path / "more").glob("*.png"))) == 2
    assert Image.open(next((tmp_path / "more").glob("*.png"))).mode == "P"
    again = label_more(run, [ids[1]], tmp_path / "more", seconds=1e4)
    assert again.ids == (ids[1],) and "2 labelled" not in str(again)
    with pytest.raises(S4Error, match="not enough"):
        label_more(run, ids, tmp_path / "none", seconds=LOOK)
    with pytest.raises(S4Error, match="no watched unlabelled"):
        label_more(run, ["train/x"], tmp_path / "none")


def test_both_trainings_are_set_beside_each_other(run, tmp_path):
    done = label_more(run, [sights(run)[0].id], tmp_path / "more", seconds=1e4)
    table = what_it_brought(run, done, tmp_path / "after")
    after = s4.open_run(tmp_path / "after")
    assert after.config["fit"] == run.config["fit"] and after.config["options"] == run.config["options"]
    assert "1 corrected by hand" in table.note and table.rows[0][0] == "mIoU" and len(table) == 5
    assert table.rows[0][2] == f"{100 * after.last['miou']:.1f}"
