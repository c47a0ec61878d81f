"""The embedded data set."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

import s4kit.data as data
from s4kit.data.embedded.scenes_paint import HUES, SPREAD, paint
from s4kit.errors import S4Error


def test_a_scene_is_a_function_of_seed_and_index():
    image, label = paint(0, 3, 48)
    again = paint(0, 3, 48)
    assert image.shape == (48, 48, 3) and label.shape == (48, 48)
    assert image.dtype == label.dtype == np.uint8
    assert (image == again[0]).all() and (label == again[1]).all()
    assert (image != paint(0, 4, 48)[0]).any() and (image != paint(1, 3, 48)[0]).any()


def test_a_scene_is_the_same_at_every_size():
    """Shrunk, a large painting is the small one but for the grain of the sensor and the rims."""
    small, label = paint(0, 5, 48)
    large, fine = paint(0, 5, 192)
    shrunk = large.reshape(48, 4, 48, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 10 < 20 < np.abs(shrunk - paint(0, 6, 48)[0]).mean()
    both = (label != 255) & (fine[2::4, 2::4] != 255)
    assert both.mean() > 0.85 and (label == fine[2::4, 2::4])[both].mean() > 0.995


def test_what_people_see_is_larger(tmp_path):
    task = data.load("scenes", n_train=100, n_val=4, side=32, cover=0)
    seen, read = task.train.view(3), task.train.read(3)
    assert seen.image.shape == (3, 128, 128) and seen.label.shape == (128, 128) and seen.id == read.id
    assert task.val.view(0).image.shape == (3, 128, 128), "painted when read and kept in memory, it is a scene, too"


@pytest.mark.slow
def test_another_process_paints_the_same():
    code = "import zlib; from s4kit.data.embedded.scenes_paint import paint; print(zlib.crc32(paint(0, 1, 48)[0]))"
    import zlib

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == zlib.crc32(paint(0, 1, 48)[0])


def test_what_is_in_them():
    labels = np.stack([paint(0, i)[1] for i in range(60)])
    pixels = np.bincount(labels.ravel(), minlength=256)
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, 6, 255}
    assert 0.5 < pixels[0] / labels.size < 0.85
    assert 0.02 < pixels[255] / labels.size < 0.09
    assert pixels[6] < pixels[1:6].min() / 2, "pegs are small"


def test_void_ring_is_thin_and_closed():
    """No two different classes touch, and the void is a line: it vanishes under one erosion."""
    for index in range(8):
        label = paint(0, index)[1].astype(int)
        for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            touching = (a != b) & (a != 255) & (b != 255)
            assert touching.mean() < 2e-3
        void = label == 255
        block = void[1:-1, 1:-1] & void[:-2, 1:-1] & void[2:, 1:-1] & void[1:-1, :-2] & void[1:-1, 2:]
        assert block.sum() < 0.1 * max(1, void.sum())


def test_colour_is_only_a_hint():
    """Every hue is that of three classes at least."""
    for hue in np.linspace(0, 1, 49, endpoint=False):
        assert sum(abs((hue - HUES[c] + 0.5) % 1 - 0.5) <= SPREAD for c in range(1, 7)) >= 3


@pytest.mark.slow
def test_defaults():
    task = data.load("scenes")
    assert (len(task.train), len(task.val), len(task.labelled), task.crop) == (512, 128, 16, 80)
    assert task.scale == (0.85, 1.4) and task.num_classes == 7 and "cover" in task.config
    sample = task.val.read(0)
    assert sample.image.shape == (3, 96, 96) and sample.label.shape == (96, 96)
    assert sample.image.dtype == torch.uint8 and sample.id == "val_0000"
    assert task.val.read(0, label=False).label is None


def test_stored_scenes_are_the_painted_ones(tmp_path):
    one = data.load("scenes", n_train=100, n_val=4, side=32, cover=0)
    files = list((tmp_path / "cache").glob("scenes-v*-100-32.npy"))
    assert len(files) == 1
    painted = data.load("scenes", n_train=100, n_val=4, side=32, cover=0, cache=False)
    for row in (0, 57, 99):
        assert torch.equal(one.train.read(row).image, painted.train.read(row).image)
        assert torch.equal(one.train.read(row).label, painted.train.read(row).label)
    copy = pickle.loads(pickle.dumps(one.train))
    assert torch.equal(copy.read(57).image, one.train.read(57).image)
    assert len(pickle.dumps(one.train)) < 10_000
    files[0].write_bytes(files[0].read_bytes()[:1000])  # a damaged store is made again
    assert torch.equal(
        data.load("scenes", n_train=100, n_val=4, side=32, cover=0).train.read(57).image, one.train.read(57).image
    )


def test_no_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("S4KIT_CACHE", "off")
    assert data.load("scenes", n_train=100, n_val=4, side=32, cover=0).train.read(0).label is not None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("S4KIT_CACHE", str(tmp_path / "file"))
    assert data.load("scenes", n_train=100, n_val=4, side=32, cover=0).train.read(0).label is not None


def test_what_is_read_may_be_changed():
    task = data.load("scenes", n_train=4, n_val=2, side=48, labelled=2)
    first = task.train.read(0)
    kept = first.image.clone()
    first.image.zero_()
    first.label.zero_()
    assert torch.equal(task.train.read(0).image, kept)


@pytest.mark.parametrize("bad", [{"side": 8}, {"n_val": 0}, {"size": 48}])
def test_errors(bad):
    with pytest.raises(S4Error):
        data.load("scenes", **bad)
