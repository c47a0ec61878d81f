"""Single objects: their ids beside the pictures, in the true layouts of Cityscapes and COCO, and kept by a run."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import s4kit.data as data
from s4kit.data.embedded.scenes_paint import paint, paint_objects
from s4kit.data.gathered import Gathered
from s4kit.data.kept import Kept
from s4kit.data.objects import MaskEvaluation, classes_of, split
from s4kit.data.reading.ids import read_ids
from s4kit.data.task import OBJECTS
from s4kit.engine import guards
from s4kit.errors import S4Error
from s4kit.views import Stream, ViewPlan, draw_step, render

from .conftest import picture
from .test_coco_ade20k import coco_root  # noqa: F401 (a fixture)


def test_the_objects_of_a_scene_are_those_of_its_picture():
    for index in range(4):
        label, ids = paint(0, index, 64)[1], paint_objects(0, index, 64)
        known = label != 255
        assert (classes_of(ids)[known] == label[known]).all() and ids.max() > 1000
        numbers = [n % 1000 for n in np.unique(ids) if n]
        assert len(numbers) == len(set(numbers)), "a number is one object"


def test_scenes_with_objects_have_the_same_pictures():
    small = {"n_train": 6, "n_val": 2, "side": 48, "labelled": 2, "cover": 0}
    plain, task = data.load("scenes", **small), data.load("scenes", instances=True, **small)
    assert isinstance(task.evaluation, MaskEvaluation) and task.evaluation.least == 9
    for row in range(6):
        assert torch.equal(plain.train.read(row).image, task.train.read(row).image)
        assert torch.equal(plain.train.read(row).label, task.train.read(row).label)
    assert data.load(**json.loads(json.dumps(task.config))).evaluation == task.evaluation
    assert task.train.objects(1).dtype == torch.int32


def test_split_leaves_out_background_void_and_slivers():
    ids = torch.tensor([[0, 255, 1001, 1001], [2002, 1001, 1003, 999]])
    found, masks = split(ids, least=2)
    assert found.tolist() == [1001] and masks.sum() == 3
    assert split(ids)[0].tolist() == [1001, 1003, 2002] and split(ids * 0)[1].shape == (0, 2, 4)


class Wide(data.MemorySource):
    """Objects that lie side by side, of ids beyond 16 bits."""

    maps = (OBJECTS,)

    def objects(self, row):
        return (80_000 + torch.arange(24) // 4).int().expand(20, 24).contiguous()


def test_ids_go_through_the_geometry_of_labels(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    train = Wide([image] * 3, [np.zeros((20, 24), np.uint8)] * 3, 90)
    task = data.Task("wide", tuple(map(str, range(90))), ((0, 0, 0),) * 90, train, (0,), (1, 2), train, 32, (0.8, 1.2),
                     kept=Kept(str(tmp_path), 0))  # fmt: skip
    task.kept.write(OBJECTS, 1, (80_100 + np.arange(24) // 4).astype(np.int32)[None].repeat(20, 0))
    task.kept.write(OBJECTS, 2, np.full((20, 24), 255, np.int32))
    plan = ViewPlan(x=Stream("labelled", maps=(OBJECTS,)), u=Stream("unlabelled", maps=(OBJECTS,)))
    batch = render(draw_step(task, plan, 4, 0, 0, 0), plan)
    seen = batch.x.maps[OBJECTS]
    assert seen.dtype == torch.long and set(seen.unique().tolist()) == {255, *range(80_000, 80_006)}
    assert torch.equal(seen == 255, batch.x.valid == 0), "padding is void"
    assert batch.u.maps[OBJECTS].unique().tolist()[:2] == [255, 80_100], "the kept ones, never the true ones"
    whole = plan["x"].whole(task, 0)
    assert whole.maps[OBJECTS][0, 0].tolist() == (80_000 + torch.arange(24) // 4).tolist()


def test_kept_ids_are_exact(tmp_path):
    kept, ids = Kept(str(tmp_path), 0), np.random.default_rng(0).integers(0, 1 << 24, (7, 9)).astype(np.int32)
    kept.write(OBJECTS, 3, ids)
    assert (kept.read(OBJECTS, 3) == ids).all() and kept.read(OBJECTS, 3).dtype == np.int32
    with pytest.raises(S4Error, match="uint8 or int32"):
        kept.write(OBJECTS, 3, ids.astype(np.int64))


def test_objects_are_not_known_of_everything():
    clips = data.load("clips", n_train=2, n_val=1, side=32).train
    with pytest.raises(S4Error, match=r"objects .* is not known.*instances=True"):
        clips.objects(0)
    with pytest.raises(S4Error, match=r"no map 'depth' of its own; there is none"):
        clips.map("depth", 0)


def test_a_source_says_which_maps_it_has():
    """The true one goes where the label is shown; those that are made of other sources are asked alike."""
    task = data.load("scenes", n_train=4, n_val=2, side=48, labelled=2, cover=0, instances=True)
    row = task.labelled[0]
    true = task.train.objects(row)
    assert task.train.maps == (OBJECTS,) and torch.equal(task.train.map(OBJECTS, row), true)
    assert (task.map_of(OBJECTS, row, (48, 48), shown=True) == true.numpy()).all()
    assert (task.map_of(OBJECTS, row, (48, 48)) == 255).all() and (task.map_of("own", row, (48, 48), True) == 255).all()
    found = Gathered([task.val.ids[1], task.train.ids[row]], (task.train, task.val))
    assert found.maps == (OBJECTS,) and torch.equal(found.map(OBJECTS, 1), true)
    assert torch.equal(found.objects(0), task.val.objects(1))
    guards.kept_maps(task, ViewPlan(x=Stream("labelled", maps=(OBJECTS,))), "first")
    for source, name in (("unlabelled", OBJECTS), ("all", OBJECTS), ("labelled", "own")):
        with pytest.raises(S4Error, match=rf"reads the map '{name}': no `prepare` .* scenes comes with instance"):
            guards.kept_maps(task, ViewPlan(u=Stream(source, maps=(name,))), "first")


@pytest.fixture
def objects_root(cityscapes_root):
    """Of every image: road, two cars, a group of cars, a licence plate and a person."""
    ids = np.full((16, 32), 7, np.int32)
    ids[2:6, 2:6], ids[2:6, 8:12], ids[2:6, 14:18] = 26_000, 26_001, 26
    ids[0], ids[8:14, 4:7] = 3, 24_000
    for file in cityscapes_root.rglob("*_gtFine_labelIds.png"):
        Image.fromarray(ids.astype(np.uint16)).save(str(file).replace("labelIds", "instanceIds"))
    return cityscapes_root


def test_cityscapes_objects(objects_root):
    task = data.load("cityscapes", root=objects_root, labelled=2, instances=True)
    assert task.classes[:4] == ("background", "person", "rider", "car") and task.num_classes == 9
    sample, ids = task.train.read(0), task.train.objects(0)
    assert ids[0, 0] == 255 and ids[3, 15] == 255, "what is not scored, and a group"
    assert ids[3, 3] == 3000 and ids[3, 9] == 3001 and ids[9, 5] == 1000 and ids[15, 31] == 0
    assert (sample.label.numpy() == classes_of(ids.numpy())).all()
    half = data.load("cityscapes", root=objects_root, labelled=2, instances=True, size=0.5)
    assert half.train.objects(0).shape == half.train.read(0).label.shape == (8, 16)
    with pytest.raises(S4Error, match="sequences=True or instances=True"):
        data.load("cityscapes", root=objects_root, instances=True, sequences=True)
    file = objects_root / "gtFine/train/aachen/aachen_000000_000019_gtFine_instanceIds.png"
    Image.fromarray(np.full((16, 32), 35, np.uint8)).save(file)
    with pytest.raises(S4Error, match=r"no map of Cityscapes' objects: it holds ids up to 35"):
        task.train.objects(0)
    picture(objects_root / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png", 8, 32)
    with pytest.raises(S4Error, match=r"\(16, 32\) but its image .* \(8, 32\)"):
        task.train.objects(1)


def test_cityscapes_without_maps_of_objects(cityscapes_root):
    with pytest.raises(S4Error, match=r"no \*_gtFine_instanceIds.png; gtFine_trainvaltest.zip"):
        data.load("cityscapes", root=cityscapes_root, instances=True)


def test_coco_objects(coco_root):  # noqa: F811
    with pytest.raises(S4Error, match=r"no map of objects in .*make_coco_masks\(.*objects=True\)"):
        data.load("coco", root=coco_root, instances=True)
    assert data.make_coco_masks(coco_root, objects=True) == 5
    task = data.load("coco", root=coco_root, labelled=["000000000009"], instances=True)
    ids = task.train.objects(0)
    assert ids[10, 10] == 1001 and ids[11, 17] == 80_003 and ids[3, 2] == 255 and ids[23, 31] == 0
    assert (task.train.read(0).label.numpy() == classes_of(ids.numpy())).all()
    shutil.copy(coco_root / "train2017/000000000009.jpg", coco_root / "objects/000000000009.png")
    file = coco_root / "objects/000000000025.png"
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(file)
    with pytest.raises(S4Error, match="holds L pixels: ids of objects are stored as R"):
        read_ids(str(file))


def test_scoring_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(S4Error, match=r"scored with pycocotools: pip install pycocotools \(or s4kit\[data\]\)"):
        data.load("scenes", n_train=4, n_val=2, side=32, instances=True)
