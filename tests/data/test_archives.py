"""Archives: unpacked without trust, fetched from a local server, and made into data sets."""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import s4kit.data as data
from s4kit.data.fetching import archives, unpack
from s4kit.data.fetching.archives import Archive, obtain
from s4kit.data.sets import ade20k, cityscapes, coco, voc
from s4kit.errors import S4Error

from .conftest import index_map, picture


def tar_of(path, members, mode="w"):
    """A tar of {name: bytes | TarInfo}."""
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            body = content if isinstance(content, bytes) else b""
            info.size = len(body)
            file.addfile(info, io.BytesIO(body))
    return path


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tree(folder):
    """{relative path: bytes} of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_only_what_is_wanted_is_unpacked_and_once(tmp_path, make):
    archive = make(tmp_path / "a.bin", {"x/1.txt": b"one", "x/deep/2.txt": b"two", "y/3.txt": b"three"})
    out, told = tmp_path / "out", []
    assert unpack.unpack(archive, out, ("x/",), progress=lambda *t: told.append(t)) == 2
    assert tree(out) == {"x/1.txt": b"one", "x/deep/2.txt": b"two"} and told == [(2, 2, "files of a.bin")]
    (out / "x/1.txt").write_bytes(b"ONE")  # of the right size: left alone
    (out / "x/deep/2.txt").write_bytes(b"t")  # cut off: written anew
    unpack.unpack(archive, out, ("x/",))
    assert tree(out) == {"x/1.txt": b"ONE", "x/deep/2.txt": b"two"}


EVIL = ["../evil", "x/../../evil", "/tmp/evil", "x\\..\\..\\evil", "C:/evil", "x/\\\\host\\evil"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_no_name_leaves_the_folder(tmp_path, make, name):
    archive = make(tmp_path / "a.bin", {name: b"evil"})
    with pytest.raises(S4Error, match="outside of the folder"):
        unpack.unpack(archive, tmp_path / "in/out", ("x/",))  # not even where it is not wanted
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_no_links_and_devices(tmp_path, kind):
    link = tarfile.TarInfo("x/link")
    link.type, link.linkname = kind, "../../outside"
    archive = tar_of(tmp_path / "a.tar", {"x/link": link, "x/link/2.txt": b"through"})
    with pytest.raises(S4Error, match="'x/link', which is a link or device"):
        unpack.unpack(archive, tmp_path / "out")
    info = zipfile.ZipInfo("x/link")
    info.external_attr = 0o120777 << 16
    archive = zip_of(tmp_path / "a.zip", {info: b"../../outside"})
    with pytest.raises(S4Error, match="is a link or device"):
        unpack.unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {}


def test_the_size_is_bounded(tmp_path):
    bomb = zip_of(tmp_path / "bomb.zip", {f"{k}": bytes(1_000_000) for k in range(5)})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(S4Error, match=r"more than 1000000 files or 0\.0 GB: stopped at '2'"):
        unpack.unpack(bomb, tmp_path / "out", limit=2_500_000)
    with pytest.raises(S4Error, match="more than 3 files"):
        unpack.unpack(bomb, tmp_path / "out2", files=3)
    small = zip_of(tmp_path / "lies.zip", {"a": bytes(100_000)})
    raw = small.read_bytes()
    lied = raw.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))  # it claims 10 bytes
    assert lied != raw
    small.write_bytes(lied)
    with pytest.raises(S4Error, match="damaged"):
        unpack.unpack(small, tmp_path / "out3")
    assert sum(map(len, tree(tmp_path / "out3").values())) <= 11


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.zip"])
def test_a_damaged_archive_is_told(tmp_path, name):
    noise = {f"{k}": np.random.default_rng(k).bytes(50_000) for k in range(4)}
    modes = {"a.tar": "w", "a.tgz": "w:gz"}
    path = tar_of(tmp_path / name, noise, modes[name]) if name in modes else zip_of(tmp_path / name, noise)
    whole = path.read_bytes()
    flipped = whole[:60_000] + bytes(4000) + whole[64_000:]  # only a zip has a checksum of each file
    for broken in (whole[: len(whole) // 2], b"<html>404</html>", b"", *([flipped] if name == "a.zip" else [])):
        path.write_bytes(broken)
        with pytest.raises(S4Error, match=rf"{name} is damaged .*Remove it"):
            unpack.unpack(path, tmp_path / "out")
    assert all(noise[name] == content for name, content in tree(tmp_path / "out").items() if not name.endswith(".part"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to play a full disk")
def test_a_full_disk_while_unpacking(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"x/1": bytes(100_000)})
    (tmp_path / "out/x").mkdir(parents=True)
    (tmp_path / "out/x/1.part").symlink_to("/dev/full")
    with pytest.raises(
        S4Error, match=r"The disk is full: .*/out cannot be written. Free space.*goes on where it stopped"
    ):
        unpack.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out/x/1").exists()


def served(server, path, **fields):
    """An Archive of a file that the server hands out."""
    body = path.read_bytes()
    server.files[f"/{path.name}"] = body
    mirrors = (f"{server.url}/dead/{path.name}", f"{server.url}/{path.name}")
    return Archive(path.name, mirrors, size=len(body), checksum=hashlib.sha256(body).hexdigest(), **fields)


def test_obtain_goes_on_after_a_cut_and_cleans_up(server, tmp_path):
    made = tar_of(tmp_path / "a.tgz", {f"x/{k}": np.random.default_rng(k).bytes(9000) for k in range(9)}, "w:gz")
    archive = served(server, made, wanted=("x/",), holds={"x": 9}, unpacked=100_000)
    out = tmp_path / "out"
    server.cuts = [40_000, 1, 1, 1]
    with pytest.raises(S4Error, match=r"could not be downloaded:\n.*HTTP 404\n.*the connection broke after"):
        obtain(out, [replace(archive, mirrors=archive.mirrors)])
    assert (out / "a.tgz.part").stat().st_size > 40_000
    server.cuts = []
    obtain(out, [archive])
    assert server.log[-1][1].startswith("bytes=4") and len(tree(out)) == 9  # the archive itself is gone
    asked = len(server.log)
    obtain(out, [archive])
    assert len(server.log) == asked  # all there
    (out / "x/3").unlink()
    (out / "a.tgz").write_bytes(made.read_bytes())  # by hand
    obtain(out, [archive])
    assert len(server.log) == asked and (out / "x/3").is_file() and (out / "a.tgz").is_file()


def test_obtain_says_how_by_hand_and_what_is_missing(server, tmp_path):
    made = tar_of(tmp_path / "a.tar", {"x/1": b"1"})
    archive = served(server, made, wanted=("x/",), holds={"x": 2}, unpacked=10)
    with pytest.raises(S4Error, match=r"x has 1 of 2 files"):
        obtain(tmp_path / "out", [archive])
    by_hand = r"By hand: get a.tar \(sha256 [0-9a-f]{64}\) with a browser.*save it as .*/b/a.tar and run the command ag"
    with pytest.raises(S4Error, match=by_hand):
        obtain(tmp_path / "b", [replace(archive, mirrors=archive.mirrors[:1])])
    with pytest.raises(S4Error, match=r"a.tar needs .* GB below"):
        obtain(tmp_path / "c", [replace(archive, unpacked=10**18)])


def sbd_mask(path, seed, shape=(24, 32)):
    from scipy.io import savemat
    from scipy.sparse import csc_matrix

    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.random.default_rng(seed).integers(0, 21, shape, dtype=np.uint8)
    lines = np.empty((20, 1), object)  # a cell of sparse matrices, as in the true files
    for k in range(20):
        lines[k, 0] = csc_matrix(ids == k + 1)
    record = {"Boundaries": lines, "Segmentation": ids, "CategoriesPresent": np.unique(ids)}
    savemat(path, {"GTcls": record}, do_compression=True)
    return ids


@pytest.fixture
def published_voc(server, tmp_path, voc_root):
    """VOC and SBD as archives: 4 train and 2 val images of VOC, SBD draws 3 of them and 2 others."""
    base = voc_root / "VOCdevkit/VOC2012"
    (base / "ImageSets/Segmentation/trainaug.txt").unlink()
    for old in (base / "SegmentationClassAug").iterdir():
        old.unlink()
    members = {f"VOCdevkit/VOC2012/{name}": content for name, content in tree(base).items()}
    members["VOCdevkit/VOC2012/Annotations/1.xml"] = b"not wanted"
    drawn = {}
    for k in (0, 2, 4, 5, 6):  # 6 is a validation image
        drawn[f"2007_{k:06d}"] = sbd_mask(tmp_path / f"sbd/2007_{k:06d}.mat", 50 + k)
    inner = {f"benchmark_RELEASE/dataset/cls/{p.name}": p.read_bytes() for p in (tmp_path / "sbd").iterdir()}
    small = replace(archives.VOC, holds={"VOCdevkit/VOC2012/JPEGImages": 8}, unpacked=10**6)
    first = served(
        server, tar_of(tmp_path / "VOC.tar", members), wanted=small.wanted, holds=small.holds, unpacked=10**6
    )
    second = tar_of(tmp_path / "benchmark.tgz", inner, "w:gz")
    second = served(
        server, second, wanted=archives.SBD.wanted, holds={"benchmark_RELEASE/dataset/cls": 5}, unpacked=10**6
    )
    return (first, second), drawn


def test_voc_and_sbd(published_voc, tmp_path):
    both, drawn = published_voc
    root, told = tmp_path / "got", []
    data.get("voc", root, lambda *t: told.append(t), archives=both, all_masks=8)
    base = root / "VOCdevkit/VOC2012"
    assert not (base / "Annotations").exists() and told[-1] == (8, 8, "masks")
    task = data.load("voc", root=root, labelled="all")
    assert task.train.ids == [f"2007_{k:06d}" for k in range(6)] and task.unlabelled == ()  # without the val image
    assert "masks voc-first" in task.protocol
    own = np.array(Image.open(base / "SegmentationClass/2007_000000.png"))
    assert (np.array(Image.open(base / "SegmentationClassAug/2007_000000.png")) == own).all()
    assert (task.train.read(0).label.numpy() == own).all() and (own[0] == 255).all()
    assert (task.train.read(4).label.numpy() == drawn["2007_000004"]).all()
    held_out = np.array(Image.open(base / "SegmentationClassAug/2007_000006.png"))
    assert (held_out == np.array(Image.open(base / "SegmentationClass/2007_000006.png"))).all()
    asked, at = len(told), (base / "SegmentationClassAug/2007_000004.png").stat().st_mtime_ns
    data.get("sbd", root, lambda *t: told.append(t), archives=both, all_masks=8)
    assert len(told) == asked and (base / "SegmentationClassAug/2007_000004.png").stat().st_mtime_ns == at


def test_sbd_first_and_other_orders(published_voc, tmp_path):
    both, drawn = published_voc
    root = data.get("voc", tmp_path / "got", archives=both, all_masks=8)
    with pytest.raises(S4Error, match=r"SegmentationClassSBD is not a folder.*merge_sbd"):
        data.load("voc", root=root, masks="sbd-first")
    merged = data.merge_sbd(root / "VOCdevkit/VOC2012", root, masks="sbd-first", workers=2)
    assert (merged.made, merged.voc, merged.sbd, merged.listed, merged.published) == (5, 0, 5, 6, False)
    task = data.load("voc", root=root, masks="sbd-first", labelled="all")
    assert (task.train.read(0).label.numpy() == drawn["2007_000000"]).all()
    assert task.train.labels[1] == "SegmentationClass/2007_000001.png"  # SBD has none
    assert task.val.labels[0] == "SegmentationClass/2007_000006.png"
    assert data.load(**json.loads(json.dumps(task.config))).train.labels == task.train.labels
    assert data.load("voc", root=root, masks="voc", labelled="all").unlabelled == (4, 5)
    assert data.load("voc", root=root, masks="aug").train.labels[0] == "SegmentationClassAug/2007_000000.png"
    with pytest.raises(S4Error, match=r"masks='best': VOC's masks are taken voc-first, aug, sbd-first, voc"):
        data.load("voc", root=root, masks="best")


def test_a_merge_names_broken_masks_and_goes_on(published_voc, tmp_path):
    both, _ = published_voc
    root = tmp_path / "got"
    obtain(root, both)
    cls = root / "benchmark_RELEASE/dataset/cls"
    whole = (cls / "2007_000004.mat").read_bytes()
    (cls / "2007_000004.mat").write_bytes(whole[:100])
    sbd_mask(cls / "2007_000005.mat", 1, (10, 10))
    with pytest.raises(S4Error) as caught:
        data.get("voc", root, archives=both, all_masks=8)
    text = str(caught.value)
    assert text.startswith("2 of 8 masks could not be made") and "2007_000004.mat cannot be read" in text
    assert "2007_000005.mat is 10 x 10 but" in text and "2007_000005.jpg is 32 x 24" in text
    assert len(list((root / "VOCdevkit/VOC2012/SegmentationClassAug").iterdir())) == 6
    (cls / "2007_000004.mat").write_bytes(whole)
    sbd_mask(cls / "2007_000005.mat", 1)
    merged = data.merge_sbd(root / "VOCdevkit/VOC2012", root / "benchmark_RELEASE")
    assert merged.made == 2 and "NOT the published list" in str(merged)


def test_a_voc_that_was_laid_out_by_hand_with_ready_masks_needs_nothing(voc_root):
    base = voc_root / "VOCdevkit/VOC2012"
    none = (Archive("no.tar", (), ()), Archive("no.tgz", (), ()))
    assert voc.get_voc(base, archives=none, all_masks=2) == base


def test_ade20k_and_cityscapes_archives(server, tmp_path, cityscapes_root):
    for split, name, n in (("training", "train", 3), ("validation", "val", 2)):
        for k in range(n):
            picture(tmp_path / f"ADEChallengeData2016/images/{split}/ADE_{name}_{k:08d}.jpg")
            index_map(tmp_path / f"ADEChallengeData2016/annotations/{split}/ADE_{name}_{k:08d}.png", 151)
    members = {f"ADEChallengeData2016/{n}": c for n, c in tree(tmp_path / "ADEChallengeData2016").items()}
    holds = {"ADEChallengeData2016/images/training": 3, "ADEChallengeData2016/annotations/validation": 2}
    made = zip_of(tmp_path / "ade.zip", members)
    archive = served(server, made, wanted=archives.ADE20K.wanted, holds=holds, unpacked=10**6)
    root = ade20k.get_ade20k(tmp_path / "got", (archive,))
    assert len(data.load("ade20k", root=root).train) == 3

    city = tmp_path / "city"
    city.mkdir()
    parts = {"gtFine": {}, "leftImg8bit": {}}
    for name, content in tree(cityscapes_root).items():
        parts[name.split("/")[0]][name] = content
    parts["leftImg8bit"]["leftImg8bit/test/berlin/x.png"] = b"not wanted"
    zips = []
    for (name, members), archive in zip(parts.items(), archives.CITYSCAPES):
        zips.append(replace(archive, holds={f"{name}/train": 2, f"{name}/val": 1}, unpacked=10**6))
        with pytest.raises(S4Error, match=rf"{name}_trainvaltest.zip is not there"):
            cityscapes.get_cityscapes(city, zips)
        zip_of(city / archive.name, members)
    cityscapes.get_cityscapes(city, zips)
    assert len(data.load("cityscapes", root=city, labelled=1).train) == 5
    assert not (city / "leftImg8bit/test").exists() and (city / "gtFine_trainvaltest.zip").exists()


def test_every_archive_says_enough():
    for archive in (archives.VOC, archives.SBD, archives.ADE20K, *archives.COCO):
        assert len(archive.mirrors) >= 2 and len(archive.checksum) in (32, 40, 64) and archive.holds
        assert all(m.startswith("http") and m.endswith(f"/{archive.name}") for m in archive.mirrors)
    assert coco.COCO is archives.COCO and [a.size is None for a in archives.CITYSCAPES] == [True, True]
