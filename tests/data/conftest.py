"""Tiny data sets in their true layouts, made on the spot."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .server import Server


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """Neither the user's cache nor the user's data is touched."""
    monkeypatch.setenv("S4KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("S4KIT_DATA", str(tmp_path / "nowhere"))


@pytest.fixture
def server():
    one = Server()
    yield one
    one.shutdown()
    one.server_close()


def picture(path: Path, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(path)
    return path


def index_map(path: Path, classes: int = 3, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.random.default_rng(seed).integers(0, classes, (height, width), dtype=np.uint8)
    Image.fromarray(ids).save(path)
    return path


@pytest.fixture
def own_folder(tmp_path) -> Path:
    """images/{train,val}, labels/{train,val}: 20 training images, 4 val images, 3 classes."""
    root = tmp_path / "mine"
    for i in range(20):
        picture(root / f"images/train/t{i:02d}.png", seed=i)
        index_map(root / f"labels/train/t{i:02d}.png", seed=i)
    for i in range(4):
        picture(root / f"images/val/v{i}.jpg", seed=100 + i)
        index_map(root / f"labels/val/v{i}.png", seed=100 + i)
    (root / "classes.txt").write_text("sky 10 20 30\nhigh tree\ncar 1 2 3\n")
    return root


@pytest.fixture
def voc_root(tmp_path) -> Path:
    """VOCdevkit/VOC2012 with 4 train, 6 trainaug and 2 val images; palette masks."""
    base = tmp_path / "voc" / "VOCdevkit" / "VOC2012"
    names = [f"2007_{i:06d}" for i in range(8)]
    lists = {"train": names[:4], "trainaug": names[:6], "val": names[6:]}
    (base / "ImageSets/Segmentation").mkdir(parents=True)
    for name, ids in lists.items():
        (base / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(ids) + "\n")
    (base / "SegmentationClass").mkdir()
    (base / "SegmentationClassAug").mkdir()
    for i, name in enumerate(names):
        picture(base / f"JPEGImages/{name}.jpg", seed=i)
        ids = np.random.default_rng(i).integers(0, 21, (24, 32), dtype=np.uint8)
        ids[0] = 255
        mask = Image.fromarray(ids)
        folder = "SegmentationClassAug" if name in names[4:6] else "SegmentationClass"
        if folder == "SegmentationClass":
            mask = mask.convert("P")
            mask.putpalette([(7 * v) % 256 for v in range(768)])
        mask.save(base / folder / f"{name}.png")
    return tmp_path / "voc"


@pytest.fixture
def cityscapes_root(tmp_path) -> Path:
    """Two cities: label ids everywhere, train ids for one frame."""
    root = tmp_path / "cityscapes"
    for split, city, count in (("train", "aachen", 3), ("train", "ulm", 2), ("val", "frankfurt", 2)):
        for i in range(count):
            frame = f"{city}_{i:06d}_000019"
            picture(root / f"leftImg8bit/{split}/{city}/{frame}_leftImg8bit.png", 16, 32, seed=i)
            index_map(root / f"gtFine/{split}/{city}/{frame}_gtFine_labelIds.png", 34, 16, 32, seed=i)
    return root


@pytest.fixture
def camvid_root(tmp_path) -> Path:
    root = tmp_path / "camvid"
    for split, count in (("train", 33), ("val", 3)):
        lines = []
        for i in range(count):
            name = f"0001TP_{split}_{i:06d}.png"
            picture(root / split / name, 12, 16, seed=i)
            index_map(root / f"{split}annot" / name, 12, 12, 16, seed=i)
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root
