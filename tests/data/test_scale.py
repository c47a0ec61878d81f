"""COCO's 118287 images: the list is read in seconds, memory stays bounded, and broken files are named."""

import os
import resource
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import s4kit.data as data
from s4kit.data import catalog
from s4kit.data.checking import checks
from s4kit.data.sources import FileSource
from s4kit.engine.reading import loaded
from s4kit.errors import S4Error
from s4kit.views import Steps, Stream, ViewPlan

from .conftest import index_map, picture

TRAIN, VAL = 118287, 5000


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A COCO whose folders say that they hold all images; there are three real files behind every row."""
    names = {"train2017": [f"{i:012d}" for i in range(TRAIN)], "val2017": [f"{TRAIN + i:012d}" for i in range(VAL)]}
    names["masks"] = names["train2017"] + names["val2017"]
    for name in names:
        (tmp_path / "coco" / name).mkdir(parents=True)
    for k in range(3):
        picture(tmp_path / f"real/{k}.jpg", 48, 64, seed=k)
        index_map(tmp_path / f"real/{k}.png", 81, 48, 64, seed=k)
    true = os.listdir

    def listdir(folder):
        name = os.path.basename(folder)
        suffix = ".png" if name == "masks" else ".jpg"
        return [stem + suffix for stem in reversed(names[name])] if name in names else true(folder)

    monkeypatch.setattr(catalog.os, "listdir", listdir)
    monkeypatch.setattr(FileSource, "image_path", lambda self, row: str(tmp_path / f"real/{row % 3}.jpg"))
    monkeypatch.setattr(FileSource, "label_path", lambda self, row: str(tmp_path / f"real/{row % 3}.png"))
    return tmp_path / "coco"


def resident(pid):
    """Bytes of a process that no file or other process backs."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = dict(line.split(":", 1) for line in lines)
    return 1024 * sum(int(fields[f"Private_{kind}"].split()[0]) for kind in ("Clean", "Dirty"))


def test_a_list_of_118287_images_starts_within_three_seconds(listed):
    begun, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    task = data.load("coco", root=listed, labelled="1/512")
    seconds = time.process_time() - begun  # of this process: the machine may be busy with others
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    print(f"load: {seconds:.2f} s, {grown:.0f} MB")
    assert (len(task.train), len(task.val), len(task.labelled)) == (TRAIN, VAL, 232)
    assert task.train.read(TRAIN - 1).id == f"{TRAIN - 1:012d}"
    assert seconds < 3 and grown < 250


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux to see a process's memory")
def test_workers_keep_their_memory_over_a_long_list(listed):
    task = data.load("coco", root=listed, labelled="1/512", crop=32)
    plan = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled"))
    loader = iter(DataLoader(Steps(task, plan, 4), batch_size=None, sampler=range(60), num_workers=2))
    pids = [worker.pid for worker in loader._workers]
    seen = []
    for step in range(60):
        assert next(loader)["u"].image.shape == (4, 32, 32, 3)
        if step in (15, 59):
            seen.append(max(resident(pid) for pid in pids) / 1e6)
    print(f"a worker's own memory: {seen[0]:.0f} MB after 15 steps, {seen[1]:.0f} MB after 60")
    assert seen[1] < seen[0] + 40


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_picture_is_named_by_the_training_whoever_decodes(own_folder, workers):
    path = own_folder / "images/train/t07.png"
    path.write_bytes(path.read_bytes()[:500])
    task = data.load("folder", root=own_folder, labelled=["t00", "t01"], crop=16)
    plan = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled"))
    steps = loaded(Steps(task, plan, 2), range(50), workers, torch.device("cpu"), timeout=60 * (workers > 0))
    with pytest.raises(S4Error, match=r"t07\.png cannot be read: it is empty, corrupted, truncated"), closing(steps):
        list(steps)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_check_names_broken_files_but_prints_few(own_folder, monkeypatch, workers):
    monkeypatch.setattr(checks, "SHOWN", 5)
    for k in range(12):
        picture(own_folder / f"images/train/b{k:03d}.png", 8, 8)
        if k < 8:
            Image.fromarray(np.full((8, 8), 77, np.uint8)).save(own_folder / f"labels/train/b{k:03d}.png")
    task = data.load("folder", root=own_folder, labelled=["t00"], crop=8, partial=True)
    report = data.check(task, workers, expected={"train": (300, 400), "val": (4,)})
    assert report.broken == len(report.problems) == 8 and not report.ok
    text = str(report)
    assert text.count("BROKEN") == 5 and "... and 3 more" in text and "label id 77" in text
    assert "32 train images, where the whole mine has 300 or 400" in text and "val images, where" not in text
    assert "4 training images have no label map and can only be unlabelled (train/b008, train/b009" in text
    assert report.to_dict()["broken"] == 8 and report.sizes == [(8, 8), (24, 32)]
    assert report.duplicates == [[f"unlabelled:train/b{k:03d}" for k in range(8, 12)]]


def dies(job):
    if job == 70:
        os._exit(9)
    return job


def test_a_killed_process_ends_with_a_sentence():
    from s4kit.data.reading.parallel import each

    assert list(each(abs, range(100), workers=2)) == list(range(100))
    with pytest.raises(S4Error, match="One of 2 processes was killed"):
        list(each(dies, range(100), workers=2))
