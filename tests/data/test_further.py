"""Further labelled lists of a task: said in any form, opened again, checked, planned; the embedded second domain."""

import json
import warnings

import numpy as np
import pytest
import torch

import s4kit as s4
from s4kit import cli
from s4kit.data.checking import checks
from s4kit.data.embedded.scenes_paint import paint
from s4kit.data.outline import outline
from s4kit.errors import S4Error
from s4kit.report.looking import look
from s4kit.report.planning import feeding
from s4kit.views import Stream, ViewPlan

SMALL = {"n_train": 12, "n_val": 3, "side": 32}
PLAIN = "plain(n_train=6, n_val=1, side=48)"


@pytest.mark.parametrize("given", [PLAIN, {"name": "plain", "n_train": 6, "n_val": 1, "side": 48}])
def test_a_list_is_said_in_any_form_and_opens_again(given):
    task = s4.load("scenes", labelled=4, cover=0, more={"domain": given}, **SMALL)
    assert task.rows("domain") == tuple(range(6)) and "domain: 6 of plain" in str(task)
    assert task.source("domain") is task.more["domain"].source and task.source("all") is task.train
    assert task.shown("domain") == set(range(6)) and task.shown("unlabelled") == frozenset()
    assert task.shown("all") == task.shown("labelled") == set(task.labelled)
    again = s4.load(**json.loads(json.dumps(task.config)))
    one, two = (of.source("domain").read(3) for of in (task, again))
    assert again.config == task.config and torch.equal(one.image, two.image) and torch.equal(one.label, two.label)
    assert task.with_(crop=24).config["more"] == task.config["more"] and not task.with_(more={}).config


def test_part_of_a_list_is_drawn_as_a_split_is():
    part = {"domain": "plain(n_train=8, n_val=1, side=32, labelled=3, seed=1)"}
    more = s4.load("scenes", labelled=4, cover=0, more=part, **SMALL).more["domain"]
    assert len(more.rows) == 3 and "seeded 3 (3 of 8), seed 1" in more.protocol
    named = {"domain": {"name": "plain", "n_train": 8, "n_val": 1, "side": 32, "labelled": ["plain_0002"]}}
    assert s4.load("scenes", labelled=4, cover=0, more=named, **SMALL).rows("domain") == (2,)


def test_what_is_wrong_is_said_with_the_mend():
    task = s4.load("scenes", labelled=4, cover=0, **SMALL)
    with pytest.raises(S4Error, match=r"asks for the list 'domain'.*labelled, unlabelled, all.*--more domain=NAME"):
        task.rows("domain")
    for given in (3, "plain and more", {"side": 32}):
        with pytest.raises(S4Error, match=r"write a data set's name, such as plain"):
            s4.load("scenes", more={"domain": given}, **SMALL)
    with pytest.raises(S4Error, match="No data set is called 'plein'"):
        s4.load("scenes", more={"domain": "plein"}, **SMALL)
    with pytest.raises(S4Error, match="plain has no option"):
        s4.load("scenes", more={"domain": "plain(n=3)"}, **SMALL)
    with pytest.raises(S4Error, match="further list has no image"):
        s4.data.Further(task.train, ())


def test_classes_must_be_the_same(tmp_path):
    from .conftest import index_map, picture

    for part in ("train", "val"):
        picture(tmp_path / f"images/{part}/a.png")
        index_map(tmp_path / f"labels/{part}/a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = {"name": "folder", "root": str(tmp_path), "classes": ["ground", "sky", "tree"]}
        with pytest.raises(S4Error, match=r"of folder, whose classes are not those of the task \(sky, tree\)"):
            s4.load("scenes", more={"domain": folder}, **SMALL)


def test_a_plain_scene_is_the_same_scene_in_another_style():
    (image, label), (plain, same) = paint(0, 3, 64), paint(0, 3, 64, plain=True)
    assert np.array_equal(label, same) and np.abs(image.astype(int) - plain).mean() > 20
    ground = plain[label == 0]
    colours = np.unique(ground.reshape(-1, 3), axis=0, return_counts=True)[1]
    assert colours.max() > 0.9 * len(ground)  # no grain, no clutter, no shadow, no noise
    task = s4.load("plain", **SMALL)
    assert task.name == "plain" and task.classes == s4.load("scenes", **SMALL).classes
    scenes = s4.load("scenes", **SMALL)
    first = scenes.train.read(0).label
    assert not any(torch.equal(task.train.read(row).label, first) for row in range(12))


def test_it_is_checked_looked_at_planned_and_fed(tmp_path, capsys):
    task = s4.load("scenes", labelled=4, cover=0, more={"domain": PLAIN}, **SMALL)
    report = checks.check(task, workers=0)
    assert report.images == {"labelled": 4, "unlabelled": 8, "domain": 6, "val": 3} and report.ok
    assert sum(report.class_pixels["domain"]) and "domain" in str(report)
    found = look.look(task, images=4)
    assert list(found.parts) == ["labelled", "domain", "val"] and found.parts["domain"].seen == 6
    assert "domain" in found.page() and found.figure() is not None
    planned = outline("scenes", labelled=4, more={"domain": "plain"})
    assert planned.source("domain").name == "plain" and len(planned.rows("domain")) == 512
    plan = ViewPlan(x=Stream("labelled"), d=Stream("domain"))
    assert feeding.seconds_per_image(planned.with_(crop=32), plan) > 0
    flags = ["--data-option", "n_train=12", "--data-option", "n_val=3", "--data-option", "side=32"]
    assert cli.main(["data", "check", "scenes", "--labelled", "4", "--more", f"domain={PLAIN}", *flags]) == 0
    assert "6 domain" in capsys.readouterr().out
    assert cli.main(["data", "check", "scenes", "--more", "domain"]) == 2
    assert "write NAME=DATA, such as domain=plain" in capsys.readouterr().err
