"""GTA5 and SYNTHIA in their true layouts, as data sets and as second domains of Cityscapes."""

import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import s4kit as s4
from s4kit import cli
from s4kit.data.outline import outline
from s4kit.data.palettes import CITYSCAPES
from s4kit.data.sets import rendered
from s4kit.errors import S4Error

from .conftest import picture

pytestmark = pytest.mark.filterwarnings("ignore::s4kit.errors.S4Warning")  # tiny maps lack most classes

ROAD, CAR, PLATE, RAIL = 7, 26, 34, 10  # label ids of Cityscapes, as GTA5 has them


def gta5(root, count=5, classes=(ROAD, CAR, PLATE, RAIL)):
    for k in range(1, count + 1):
        picture(root / f"images/{k:05d}.png", 16, 32, seed=k)
        ids = np.array(classes, np.uint8)[np.random.default_rng(k).integers(0, len(classes), (16, 32))]
        indexed = Image.fromarray(ids).convert("P")
        indexed.putpalette([3 * c % 256 for c in range(256) for _ in range(3)])
        (root / "labels").mkdir(exist_ok=True)
        indexed.save(root / f"labels/{k:05d}.png")
    return root


def deep_colour(path, channels):
    """A 16-bit RGB PNG, which Pillow cannot write: (H, W, 3) uint16, rows filtered by turns in two ways."""
    height, width, _ = channels.shape
    rows, above = [], bytes(6 * width)
    for y, row in enumerate(channels.astype(">u2")):
        row = row.tobytes()
        filtered = bytes((a - b) % 256 for a, b in zip(row, above)) if y % 2 else row
        rows.append(bytes([2 if y % 2 else 0]) + filtered)
        above = row
    parts = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"".join(rows)))
    chunks = [
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in (*parts, (b"IEND", b""))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def synthia(root, count=4):
    classes = {}
    for k in range(count):
        picture(root / f"RGB/{k:07d}.png", 12, 20, seed=k)
        draw = np.random.default_rng(k)
        channels = draw.integers(0, 60_000, (12, 20, 3))
        channels[..., 0] = classes[k] = draw.integers(0, 23, (12, 20))
        deep_colour(root / f"GT/LABELS/{k:07d}.png", channels)
    return classes


def test_gta5(tmp_path):
    task = s4.load("gta5", root=gta5(tmp_path / "gta5"), labelled="all", held_out=2)
    assert task.train.ids == ["00002", "00004", "00005"] and task.val.ids == ["00001", "00003"]
    assert task.classes == tuple(CITYSCAPES) and "2 held out" in task.protocol
    stored = np.array(Image.open(tmp_path / "gta5/labels/00002.png"))
    label = task.train.read(0).label.numpy()
    for of, train in ((ROAD, 0), (CAR, 13), (PLATE, 255), (RAIL, 255)):
        assert (label[stored == of] == train).all() and (stored == of).any()
    assert s4.load(**json.loads(json.dumps(task.config))).val.ids == task.val.ids


def test_gta5_as_a_second_domain_of_cityscapes(tmp_path, cityscapes_root, capsys):
    root = gta5(tmp_path / "gta5")
    more = {"domain": f"gta5(root={str(root)!r}, size=8)"}
    task = s4.load("cityscapes", root=cityscapes_root, labelled=2, more=more)
    assert len(task.rows("domain")) == 5 and "domain: 5 of gta5" in str(task)
    assert task.source("domain").read(0).image.shape == (3, 8, 16)
    again = s4.load(**json.loads(json.dumps(task.config)))
    assert torch.equal(again.source("domain").read(4).image, task.source("domain").read(4).image)
    flags = ["--root", str(cityscapes_root), "--labelled", "2", "--more", f"domain={more['domain']}"]
    assert cli.main(["data", "check", "cityscapes", *flags]) == 0 and "5 domain" in capsys.readouterr().out
    planned = outline("cityscapes", labelled=100, more={"domain": "gta5(size=720)"})
    assert len(planned.rows("domain")) == 24_966 and planned.source("domain").size == (720, 1310)


def test_a_map_of_another_size_is_brought_to_its_image(tmp_path):
    root = gta5(tmp_path / "gta5", 2)
    Image.fromarray(np.full((8, 16), ROAD, np.uint8)).save(root / "labels/00001.png")
    label = rendered.open_gta5(root).train.read(0).label
    assert label.shape == (16, 32) and (label == 0).all()


def test_what_is_wrong_with_gta5(tmp_path, capsys):
    root = gta5(tmp_path / "gta5", 3)
    with pytest.raises(S4Error, match=r"no list of its own to score on.*held_out=500.*more=.*gta5"):
        s4.load("gta5", root=root)
    with pytest.raises(S4Error, match="gta5 has 3 images; hold out fewer"):
        s4.load("gta5", root=root, held_out=3)
    (root / "labels/00002.png").unlink()
    with pytest.raises(S4Error, match=r"1 files of .*images have none of the same name in labels \(00002\)"):
        s4.load("gta5", root=root, held_out=1)
    with pytest.raises(S4Error, match="these are train ids"):
        s4.load("gta5", root=gta5(tmp_path / "train_ids", 2, (0, 1, 18)), held_out=1)
    with pytest.raises(S4Error, match="label id 40 at row"):
        s4.load("gta5", root=gta5(tmp_path / "strange", 2, (40, ROAD)), held_out=1).train.read(0)
    with pytest.raises(S4Error, match=r"is not a folder. Expected: ROOT/images"):
        s4.load("gta5", root=tmp_path / "nothing", held_out=1)
    assert cli.main(["data", "get", "gta5", "--root", str(tmp_path / "empty")]) == 2
    said = capsys.readouterr().err
    assert "from_games" in said and "01_images.zip" in said and str(tmp_path / "empty") in said


def test_archives_of_gta5_that_lie_there_are_unpacked(tmp_path):
    made = gta5(tmp_path / "made", 2)
    root = tmp_path / "gta5"
    root.mkdir()
    for what in ("images", "labels"):
        with zipfile.ZipFile(root / f"01_{what}.zip", "w") as archive:
            for file in sorted((made / what).iterdir()):
                archive.write(file, f"{what}/{file.name}")
            archive.writestr("readme.txt", "not wanted")
    assert s4.data.get("gta5", root) == root and not (root / "readme.txt").exists()
    assert rendered.open_gta5(root).train.ids == ["00001", "00002"]


def test_synthia(tmp_path):
    classes = synthia(tmp_path / "synthia/RAND_CITYSCAPES")
    task = s4.load("synthia", root=tmp_path / "synthia", labelled="all", held_out=1)
    assert len(task.train) == 3 and task.classes == tuple(CITYSCAPES)
    names = {1: "sky", 2: "building", 3: "road", 6: "vegetation", 8: "car", 10: "person", 12: "motorcycle", 21: "wall"}
    for row, name in enumerate(task.train.ids):
        label, stored = task.train.read(row).label.numpy(), classes[int(name)]
        for of, called in names.items():
            assert (label[stored == of] == task.classes.index(called)).all()
        assert (label[np.isin(stored, (0, 13, 14, 22))] == 255).all()
    named = {c for c in rendered.SYNTHIA_IDS if c != 255}
    assert named == set(range(19))
    same = s4.load("synthia", root=tmp_path / "synthia/RAND_CITYSCAPES", labelled="all", held_out=1)
    assert same.train.ids == task.train.ids


def test_what_is_wrong_with_synthia(tmp_path, capsys):
    root = tmp_path / "synthia"
    synthia(root, 2)
    picture(root / "GT/LABELS/0000001.png", 12, 20)  # one of GT/COLOR
    source = rendered.open_synthia(root).train
    with pytest.raises(S4Error, match=r"8-bit colour.*GT/COLOR has pictures"):
        source.read(1)
    whole = (root / "GT/LABELS/0000000.png").read_bytes()
    (root / "GT/LABELS/0000000.png").write_bytes(whole[:200])
    with pytest.raises(S4Error, match=r"0000000.png cannot be read"):
        source.read(0)
    Image.fromarray(np.full((12, 20), 8, np.uint8)).save(root / "GT/LABELS/0000000.png")
    assert (source.read(0).label == 13).all()  # grey maps of the same ids
    assert cli.main(["data", "get", "synthia", "--root", str(tmp_path / "empty")]) == 2
    assert "SYNTHIA-RAND-CITYSCAPES" in capsys.readouterr().err
    assert s4.data.get("synthia", root) == root
