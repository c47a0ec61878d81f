"""`s4kit data look`: the page and the picture show what is there, and remark what a person would want to know."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy import toy_task
from toy_folder import write_folder

import s4kit as s4
from s4kit.cli import main
from s4kit.errors import S4Error
from s4kit.report.looking.figure import overlaid
from s4kit.report.looking.look import look, spread, write


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a turned photo, a map that is mostly void, and a class that nothing shows."""
    root = write_folder(tmp_path / "own")
    (root / "classes.txt").write_text("ground\nred <b>\nblue\nyellow\nnever\n")
    label = root / "labels" / "train" / "train_1.png"
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(label)
    file = root / "images" / "train" / "train_2.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(file).save(file, exif=exif)
    return root


def test_what_is_counted_is_what_the_labels_hold(own):
    task = s4.load("folder", root=str(own), labelled="all")
    found = look(task)
    assert np.array_equal(found.parts["labelled"].pixels[:5], task.class_pixels.numpy())
    assert found.parts["labelled"].seen == found.parts["labelled"].total == 12 and found.parts["val"].seen == 3
    assert found.parts["labelled"].images[255] == 12 and 0.08 < found.parts["labelled"].void < 0.2
    assert found.parts["labelled"].shares.sum() == pytest.approx(1)
    assert found.turned == ["train/train_2"] and len(found.sizes) == 15
    assert [name for name, _ in found.samples] == ["labelled"] * 9 + ["val"] * 3
    assert "No pixel of never in the 12 labelled images." in found.remarks
    assert any("1 photos are turned" in words for words in found.remarks)


def test_the_page_is_whole_and_says_everything(own):
    page = look(s4.load("folder", root=str(own), labelled="all")).page()
    for words in ("No pixel of never", "red &lt;b&gt;", "turned", "All 15 images looked at are 40 × 40", "void"):
        assert words in page, words
    assert page.count("<figure>") == 12 and page.count("data:image/jpeg") == 24
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page and "red <b>" not in page


def test_a_large_list_is_looked_at_in_part_and_says_so():
    task = toy_task(n_labelled=70, n_unlabelled=2, n_val=40, size=16).with_(more={})
    found = look(task, images=4)
    assert found.parts["labelled"].seen == 64 and found.parts["val"].seen == 32 and len(found.samples) == 4
    assert "64 labelled images read of 70" in found.page()
    assert spread(range(10), 4) == [0, 2, 5, 7] and spread([3, 4], 4) == [3, 4]


def test_broken_images_are_remarked_and_the_rest_is_shown(own):
    (own / "images" / "val" / "val_0.png").write_bytes(b"no picture")
    found = look(s4.load("folder", root=str(own), labelled="all"))
    assert found.parts["val"].seen == 2 and any("val_0.png" in words for words in found.remarks)


def test_void_is_striped_and_regions_have_their_colour():
    label = np.zeros((60, 60), np.uint8)
    label[:, 20:] = 1
    label[40:] = 255
    out = overlaid(np.full((60, 60, 3), 100, np.uint8), label, [(0, 0, 0), (255, 0, 0)])
    assert out[10, 40, 0] > out[10, 40, 1] + 100 and out[10, 10].max() < 60
    assert len(np.unique(out[45:, :, 0])) > 1 and out[10, 20].min() > 180


def test_the_shell_writes_a_page_or_a_picture(own, tmp_path, capsys):
    page, picture = tmp_path / "deep" / "look.html", tmp_path / "look.png"
    argv = ["data", "look", "folder", "--root", str(own), "--labelled", "all", "--images", "4"]
    assert main([*argv, "--out", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["file"] == str(page) and found["turned"] == ["train/train_2"] and found["shares"]["val"]["never"] == 0
    assert main([*argv, "--out", str(picture)]) == 0
    assert Image.open(picture).width > 1000 and "turned by their EXIF tag" in capsys.readouterr().out
    assert main([*argv, "--out", str(tmp_path / "look.pdf")]) == 2
    assert "call it .html or .png" in capsys.readouterr().err


def test_embedded_sets_have_a_look_too(tmp_path):
    found = look(s4.load("scenes", n_train=8, n_val=2, side=48, labelled=4, cover=0), images=4)
    assert not found.turned and write(found, tmp_path / "scenes.html").is_file()
    with pytest.raises(S4Error, match="page or a picture"):
        write(found, tmp_path / "scenes")
