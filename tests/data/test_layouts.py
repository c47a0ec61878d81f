"""VOC, Cityscapes, CamVid and folders in their true layouts: right, and wrong in every way we know."""

import json
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.optical_flow import raft_small

import s4kit.data as data
from s4kit.data import raft
from s4kit.data.palettes import distinct, voc_palette
from s4kit.data.raft import agree
from s4kit.data.sets.camvid import clips_of
from s4kit.errors import S4Error

from .conftest import index_map, picture


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc(voc_root, below):
    task = data.load("voc", root=voc_root / below, labelled="1/2")
    assert len(task.train) == 6 and len(task.labelled) == 3 and len(task.val) == 2 and task.num_classes == 21
    assert task.crop == 321 and task.evaluation.mode == "whole" and "trainaug.txt" in task.protocol
    assert task.train.read(5).label is not None  # from SegmentationClassAug
    assert (task.val.read(0).label[0] == 255).all() and task.val.read(0).label.max() == 255
    again = data.load(**json.loads(json.dumps(task.config)))
    assert again.labelled == task.labelled and again.protocol == task.protocol


def test_voc_without_sbd_uses_unmasked_images_unlabelled(voc_root):
    shutil.rmtree(voc_root / "VOCdevkit/VOC2012/SegmentationClassAug")
    task = data.load("voc", root=voc_root, labelled="all")
    assert task.labelled == (0, 1, 2, 3) and task.unlabelled == (4, 5)
    with pytest.raises(S4Error, match="2007_000004 is listed as labelled but has no label map"):
        data.load("voc", root=voc_root, labelled=["2007_000004"])


def test_voc_lists_of_paths(voc_root, tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("JPEGImages/2007_000002.jpg SegmentationClass/2007_000002.png\n")
    assert data.load("voc", root=voc_root, labelled=path).labelled == (2,)
    path.write_text("2007_000006\n")
    with pytest.raises(S4Error, match="validation images"):
        data.load("voc", root=voc_root, labelled=path)


def test_voc_errors(voc_root, tmp_path):
    base = voc_root / "VOCdevkit/VOC2012"
    with pytest.raises(S4Error, match="lists there: train, trainaug, val"):
        data.load("voc", root=voc_root, train="trainval")
    (base / "JPEGImages/2007_000001.jpg").unlink()
    with pytest.raises(S4Error, match=r"1 of the 6 images.*2007_000001\.jpg"):
        data.load("voc", root=voc_root)
    picture(base / "JPEGImages/2007_000001.jpg")
    (base / "SegmentationClass/2007_000007.png").unlink()
    with pytest.raises(S4Error, match=r"val.txt have no mask"):
        data.load("voc", root=voc_root)
    with pytest.raises(S4Error, match=r"is not a folder. Expected: .*Found in .*: split"):
        (tmp_path / "other/split").mkdir(parents=True)
        data.load("voc", root=tmp_path / "other")


def test_missing_root_says_how_to_get_it(tmp_path):
    for name, hint in (("camvid", "s4kit data get camvid"), ("voc", "s4kit data get voc"), ("cityscapes", "by hand")):
        with pytest.raises(S4Error, match=f"{name} is not at .*{hint}"):
            data.load(name)
        with pytest.raises(S4Error, match=r"gone.*not a folder"):
            data.load(name, root=tmp_path / "gone")
    with pytest.raises(S4Error, match="not a folder"):
        data.load("folder", root=tmp_path / "gone")


def test_default_root(camvid_root, monkeypatch):
    monkeypatch.setenv("S4KIT_DATA", str(camvid_root.parent))
    assert len(data.load("camvid").train) == 33
    assert {row["name"]: row["found"] for row in data.table()}["camvid"] == str(camvid_root)


def test_cityscapes(cityscapes_root):
    task = data.load("cityscapes", root=cityscapes_root, labelled=2)
    assert task.train.ids[0] == "aachen/aachen_000000_000019" and len(task.train) == 5
    assert (task.crop, task.evaluation.mode, task.evaluation.window) == (801, "sliding", 801)
    assert data.load("cityscapes", root=cityscapes_root, crop=65).evaluation.window == 65
    stored = np.array(Image.open(cityscapes_root / task.train.labels[1]))
    label = task.train.read(1).label.numpy()
    assert (label[stored == 7] == 0).all() and (label[stored == 33] == 18).all() and (label[stored == 29] == 255).all()
    listed = "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png"
    assert data.load("cityscapes", root=cityscapes_root, labelled=[listed]).labelled == (4,)


def test_cityscapes_prefers_train_ids(cityscapes_root):
    frame = cityscapes_root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelTrainIds.png"
    index_map(frame, 19, 16, 32, seed=9)
    task = data.load("cityscapes", root=cityscapes_root, labelled=1)
    assert (task.train.read(3).label.numpy() == np.array(Image.open(frame))).all()


def sequences_of(root, first=0, last=29):
    """The clip about each labelled training frame, of other pictures than the frame itself."""
    for label in sorted((root / "gtFine/train").glob("*/*_labelIds.png")):
        frame = label.name.removesuffix("000019_gtFine_labelIds.png")
        for k in range(first, last + 1):
            picture(root / f"leftImg8bit_sequence/train/{label.parent.name}/{frame}{k:06d}_leftImg8bit.png", 16, 32, k)


def test_cityscapes_sequences(cityscapes_root):
    sequences_of(cityscapes_root)
    task = data.load("cityscapes", root=cityscapes_root, sequences=True, labelled=2, cache=False)
    assert len(task.train) == 5 * 30 and len(task.val) == 2 and len(task.labelled) == 2
    assert all(task.train.ids[row].endswith("_000019") for row in task.labelled) and len(task.unlabelled) == 148
    row = task.train.ids.index("ulm/ulm_000001_000004")
    clip = [task.train.ids[k] for k in task.train.clip(row)]
    assert clip == [f"ulm/ulm_000001_{k:06d}" for k in range(30)]
    assert task.train.read(row).label is None and task.train.read(task.labelled[0]).label is not None
    again = data.load(**json.loads(json.dumps(task.config)))
    assert again.labelled == task.labelled and again.train.clip(row) == task.train.clip(row)
    with pytest.raises(S4Error, match=r"000004 moves to .*000005 is not known"):
        task.train.flow(row, row + 1)
    with pytest.raises(S4Error, match="of two clips"):
        task.train.flow(row, 0)


def test_cityscapes_sequences_errors(cityscapes_root):
    with pytest.raises(S4Error, match=r"sequences.*csDownload.*324 GB"):
        data.load("cityscapes", root=cityscapes_root, sequences=True)
    sequences_of(cityscapes_root, 15, 22)
    task = data.load("cityscapes", root=cityscapes_root, sequences=True, labelled=1)
    assert len(task.train.clip(0)) == 8, "a clip that was thinned out"
    (cityscapes_root / "leftImg8bit_sequence/train/ulm/ulm_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(S4Error, match="has no frame ulm_000000_000019, which gtFine labels"):
        data.load("cityscapes", root=cityscapes_root, sequences=True)


def test_cityscapes_errors(cityscapes_root):
    (cityscapes_root / "gtFine/val/frankfurt/frankfurt_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(S4Error, match="1 val images have no label"):
        data.load("cityscapes", root=cityscapes_root)
    shutil.rmtree(cityscapes_root / "leftImg8bit/train/aachen")
    shutil.rmtree(cityscapes_root / "leftImg8bit/train/ulm")
    with pytest.raises(S4Error, match="holds no"):
        data.load("cityscapes", root=cityscapes_root)


def test_camvid(camvid_root):
    task = data.load("camvid", root=camvid_root)
    assert len(task.train) == 33 and len(task.labelled) == 3 and len(task.val) == 3
    values = set(task.train.read(0).label.unique().tolist())
    assert 11 not in values and 255 in values
    half = data.load("camvid", root=camvid_root, size=0.5)
    assert half.train.read(0).image.shape == (3, 6, 8) and half.val.read(0).label.shape == (6, 8)
    assert "scored at that size" in half.protocol and half.config["size"] == 0.5
    assert half.class_pixels.sum() > 0


def test_camvid_errors(camvid_root):
    (camvid_root / "valannot/0001TP_val_000001.png").unlink()
    with pytest.raises(S4Error, match=r"1 of 3 files of val\.txt .*0001TP_val_000001\.png.*data get camvid"):
        data.load("camvid", root=camvid_root)
    (camvid_root / "train.txt").unlink()
    with pytest.raises(S4Error, match=r"train\.txt is missing"):
        data.load("camvid", root=camvid_root)


def test_camvid_frames_are_in_clips(camvid_root):
    names = ["0006R0_f00930", "0006R0_f00960", "0006R0_f00990", "0006R0_f01021", "0006R0_f01200", "0001TP_000960", "x"]
    assert clips_of(names) == [(0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3), (1, 2, 3), (4,), (5,), (6,)]
    assert clips_of([names[k] for k in (2, 0, 1)]) == [(1, 2, 0)] * 3, "in the order of the film"
    task = data.load("camvid", root=camvid_root)
    assert task.train.clip(0) == (0, 1, 2) and task.train.clip(9) == (7, 8, 9, 10, 11)
    with pytest.raises(S4Error, match=r'flow="raft_small.pth"'):
        task.train.flow(0, 1)


def test_camvid_motion_is_estimated(camvid_root, tmp_path, monkeypatch):
    weights = camvid_root / "weights.pth"
    with pytest.raises(S4Error, match=r"no such file of RAFT weights.*raft_small\(weights"):
        data.load("camvid", root=camvid_root, flow=str(weights))
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), weights)
    task = data.load("camvid", root=camvid_root, flow=str(weights))
    flow, seen = task.train.flow(3, 4)
    assert flow.shape == (12, 16, 2) and flow.dtype == torch.float32 and flow.any() and seen.shape == (12, 16)
    flow.zero_()
    assert task.train.flow(3, 4)[0].any(), "what is remembered is nobody's to write to"
    first = task.train.flow(3, 4)
    (file,) = (tmp_path / "cache").glob("flow-*.npy")
    for damage in (lambda: None, lambda: file.write_bytes(file.read_bytes()[:90]), file.unlink):
        damage()
        raft._moved.cache_clear()  # another process
        assert all(map(torch.equal, first, task.train.flow(3, 4))) and file.is_file()
    raft._moved.cache_clear()
    with monkeypatch.context() as without:
        without.setattr(raft, "estimate", None)
        assert all(map(torch.equal, first, task.train.flow(3, 4))), "read, not estimated again"
    assert data.load(**json.loads(json.dumps(task.config))).train.flow(3, 4)[1].dtype == torch.bool
    with pytest.raises(S4Error, match="of two clips"):
        task.train.flow(3, 6)
    torch.save({"weight": torch.zeros(2)}, camvid_root / "other.pth")
    with pytest.raises(S4Error, match="holds no weights of torchvision's RAFT"):
        data.load("camvid", root=camvid_root, flow=str(camvid_root / "other.pth")).train.flow(3, 4)


def test_motion_is_believed_where_the_way_back_leads_home():
    there, back = torch.zeros(2, 8, 8), torch.zeros(2, 8, 8)
    there[0], back[0] = 2, -2
    back[:, 4:] = 0  # of the lower half it leads elsewhere
    assert agree(there, back).tolist() == [[x < 6 and y < 4 for x in range(8)] for y in range(8)]


def test_folder(own_folder):
    task = data.load("folder", root=own_folder, labelled="1/4", cover=2)
    assert task.classes == ("sky", "high tree", "car") and task.palette[0] == (10, 20, 30)
    assert task.palette[1] == distinct(3)[1] and len(task.labelled) == 5 and len(task.unlabelled) == 15
    assert task.name == "mine" and task.train.ids[0] == "train/t00"
    assert data.load("folder", root=own_folder, labelled=["t03", "train/t01"]).labelled == (3, 1)


def test_folder_with_unlabelled(own_folder):
    for i in range(5):
        picture(own_folder / f"images/unlabelled/t{i:02d}.bmp", seed=50 + i)
    task = data.load("folder", root=own_folder)
    assert len(task.labelled) == 20 and len(task.unlabelled) == 5 and task.train.ids[20] == "unlabelled/t00"
    assert task.train.read(20).label is None
    assert data.load("folder", root=own_folder, labelled=5).unlabelled[-1] == 24


def test_folder_scans_classes(own_folder):
    (own_folder / "classes.txt").unlink()
    task = data.load("folder", root=own_folder)
    assert task.classes == ("class0", "class1", "class2") and task.config["classes"] == 3
    assert data.load("folder", root=own_folder, classes=["x", "y", "z"]).classes == ("x", "y", "z")
    for file in (own_folder / "labels").rglob("*.png"):
        Image.fromarray((np.array(Image.open(file)) > 1).astype(np.uint8) * 255).save(file)
    with pytest.raises(S4Error, match=r"ids=\{0: 0, 255: 1\}"):
        data.load("folder", root=own_folder)
    task = data.load("folder", root=own_folder, ids={0: 0, 255: 1})
    assert task.num_classes == 2 and set(task.train.read(0).label.unique().tolist()) == {0, 1}
    assert data.load(**json.loads(json.dumps(task.config))).train.read(0).label.max() == 1


def test_folder_by_explicit_paths(own_folder):
    task = data.load(
        "folder",
        images=str(own_folder / "images/train"),
        labels=str(own_folder / "labels/train"),
        holdout="1/4",
        classes=3,
        labelled=3,
    )
    assert len(task.train) == 15 and len(task.val) == 5 and not set(task.train.ids) & set(task.val.ids)
    with pytest.raises(S4Error, match="leaves no labelled"):
        data.load("folder", root=own_folder, holdout=20)


def test_folder_errors(own_folder):
    (own_folder / "labels/train/t07.png").unlink()
    with pytest.raises(S4Error, match=r"1 of the 20 images .*t07\.png.*partial=True"):
        data.load("folder", root=own_folder)
    task = data.load("folder", root=own_folder, partial=True)
    assert len(task.labelled) == 19 and task.unlabelled == (7,)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(own_folder / "labels/train/t07.jpg")
    with pytest.raises(S4Error, match="JPEG maps are not read"):
        data.load("folder", root=own_folder)
    picture(own_folder / "images/train/t01.bmp")
    with pytest.raises(S4Error, match=r"t01\.\w+ and t01\.\w+: which"):
        data.load("folder", root=own_folder)
    shutil.rmtree(own_folder / "images/train")
    (own_folder / "images/train/deeper").mkdir(parents=True)
    with pytest.raises(S4Error, match="holds no image"):
        data.load("folder", root=own_folder)
    shutil.rmtree(own_folder / "images")
    with pytest.raises(S4Error, match=r"Found in .*mine: classes.txt, labels"):
        data.load("folder", root=own_folder)


def test_classes_file_errors(own_folder):
    for text, message in (("\n", "names 0 classes"), ("a 1 2 300\n", "each part is 0..255")):
        (own_folder / "classes.txt").write_text(text)
        with pytest.raises(S4Error, match=message):
            data.load("folder", root=own_folder)


def test_palettes():
    voc = voc_palette()
    assert voc[1] == (128, 0, 0) and voc[15] == (192, 128, 128) and voc[20] == (0, 64, 128)
    assert len(set(distinct(40))) == 40 and distinct(1) == distinct(5)[:1]


def test_ten_thousand_images_start_fast(tmp_path):
    for part, count in (("train", 10_000), ("val", 3)):
        for kind in ("images", "labels"):
            folder = tmp_path / kind / part
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"a{i:05d}.png").touch()  # empty: a decode would fail
    started = time.process_time()
    task = data.load("folder", root=tmp_path, classes=3)
    seconds = time.process_time() - started  # of this process: the machine may be busy with others
    assert len(task.labelled) == 625 and seconds < 2, seconds


def test_real_camvid(real_data):
    task = data.load("camvid", root=real_data / "data/camvid", labelled="1/16", size=0.5)
    assert (len(task.train), len(task.val), len(task.labelled)) == (367, 101, 23)
    assert task.train.read(0).image.shape == (3, 180, 240)
    assert (task.class_pixels > 0).all() and task.class_pixels.sum() < 23 * 180 * 240


def test_real_samples(real_data):
    voc = data.load("voc", root=real_data / "samples/voc", labelled=1)
    assert data.check(voc).ok
    assert data.load("cityscapes", root=real_data / "samples/cityscapes", labelled=1).val.read(0).label.max() == 255


def test_real_camvid_is_the_pinned_one(real_data):
    from s4kit.data.sets.camvid import get_camvid

    assert get_camvid(real_data / "data/camvid", mirrors=()) == real_data / "data/camvid"
    assert torch.is_tensor(data.load("camvid", root=real_data / "data/camvid", cache=False).val.read(0).label)
