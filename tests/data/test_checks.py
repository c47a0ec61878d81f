"""The report on a whole data set."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import s4kit.data as data

from .conftest import index_map, picture


def test_a_clean_set(own_folder):
    report = data.check(data.load("folder", root=own_folder, labelled=5, crop=16))
    assert report.ok and report.images == {"labelled": 5, "unlabelled": 15, "val": 4} and not report.warnings
    assert sum(report.class_pixels["val"]) == 4 * 24 * 32 and report.sizes == [(24, 32), (24, 32)]
    json.dumps(report.to_dict())
    assert "high tree" in str(report) and "0 broken" in str(report)


@pytest.mark.parametrize("workers", [1, 3])
def test_all_problems_are_listed(own_folder, workers):
    task = data.load("folder", root=own_folder, labelled=["t00", "t01", "t02"], crop=16)
    (own_folder / "images/train/t00.png").write_bytes(b"x")
    index_map(own_folder / "labels/train/t01.png", 3, 9, 9)
    index_map(own_folder / "labels/train/t12.png", 9)
    Image.fromarray(np.full((24, 32, 3), (9, 0, 0), np.uint8)).save(own_folder / "labels/val/v2.png")
    report = data.check(task, workers)
    assert [(p["part"], p["id"]) for p in report.problems] == [
        ("labelled", "train/t00"),
        ("labelled", "train/t01"),
        ("unlabelled", "train/t12"),
        ("val", "val/v2"),
    ]
    assert not report.ok and str(report).count("BROKEN") == 4


def test_leaks_and_oddities(own_folder):
    shutil.copy(own_folder / "images/train/t03.png", own_folder / "images/train/t04.png")
    shutil.copy(own_folder / "images/train/t05.png", own_folder / "images/val/v9.png")
    shutil.copy(own_folder / "labels/train/t05.png", own_folder / "labels/val/v9.png")
    task = data.load("folder", root=own_folder, labelled=["t00"], crop=16, overlap=True)
    picture(own_folder / "images/train/t00.png", 8, 8)
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(own_folder / "labels/train/t00.png")
    report = data.check(task)
    text = " | ".join(report.warnings)
    assert report.ok and report.overlap == 1
    assert "1 val images are also training images" in text and "occur twice" in text
    assert "no labelled image shows sky, high tree, car" in text and "void everywhere" in text
    assert "1 training images are smaller than the crop" in text
    assert ["unlabelled:train/t03", "unlabelled:train/t04"] in report.duplicates


def test_table():
    rows = data.table()
    assert [row["name"] for row in rows] == data.names()
    assert all(set(row) == {"name", "about", "classes", "images", "get", "found"} for row in rows)
    json.dumps(rows)
