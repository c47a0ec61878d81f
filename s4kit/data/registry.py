"""The data sets by name."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import S4Error, closest
from .catalog import DataSet
from .embedded.clips import open_clips
from .embedded.rooms import open_rooms
from .embedded.scenes import open_plain, open_scenes
from .embedded.shapes import open_shapes
from .fetching.download import Progress
from .own.folder import open_folder
from .sets.ade20k import get_ade20k, open_ade20k
from .sets.camvid import get_camvid, open_camvid
from .sets.cityscapes import MANUAL, get_cityscapes, open_cityscapes
from .sets.coco import get_coco, open_coco
from .sets.partnet import MANUAL as PARTNET
from .sets.partnet import open_partnet
from .sets.rendered import GTA5_MANUAL, SYNTHIA_MANUAL, get_gta5, get_synthia, open_gta5, open_synthia
from .sets.s3dis import MANUAL as S3DIS
from .sets.s3dis import open_s3dis
from .sets.satellite import DEEPGLOBE_MANUAL, get_deepglobe, get_ucmerced, open_deepglobe, open_ucmerced
from .sets.scannet import MANUAL as SCANNET
from .sets.scannet import open_scannet
from .sets.shapenetpart import MANUAL as SHAPENETPART
from .sets.shapenetpart import open_shapenetpart
from .sets.voc import get_voc, open_voc

DATASETS: dict[str, DataSet] = {
    d.name: d
    for d in (
        DataSet(
            "scenes",
            "embedded table-top scenes: a class is a shape with a texture; colour is a hint",
            open_scenes,
            7,
            "512 train, 128 val, 96 x 96",
        ),
        DataSet(
            "plain",
            "embedded second domain of scenes: the same classes in plain style, without light, clutter and camera",
            open_plain,
            7,
            "512 train, 128 val, 96 x 96",
        ),
        DataSet(
            "clips",
            "embedded video: the scenes under a moving camera, the motion known",
            open_clips,
            7,
            "64 clips train, 24 val, 5 frames of 96 x 96",
        ),
        DataSet(
            "shapes",
            "embedded furniture as points: parts nested in three levels",
            open_shapes,
            25,
            "128 train, 48 val, 2048 points",
        ),
        DataSet(
            "rooms",
            "embedded rooms as points: furniture on a floor between walls, each piece an object",
            open_rooms,
            6,
            "48 train, 24 val, 6144 points",
        ),
        DataSet(
            "camvid",
            "streets of Cambridge from a car, the form of the SegNet tutorial",
            open_camvid,
            11,
            "367 train, 101 val, 233 test, 480 x 360",
            marker=("train.txt", "CamVid/train.txt"),
            get=get_camvid,
            expected={"train": (367,), "val": (101, 233)},
        ),
        DataSet(
            "voc",
            "PASCAL VOC 2012, with the SBD masks where present",
            open_voc,
            21,
            "1464 train (10582 with SBD), 1449 val, about 500 x 375",
            marker=("JPEGImages", "VOC2012/JPEGImages", "VOCdevkit/VOC2012/JPEGImages"),
            get=get_voc,
            expected={"train": (1464, 10582), "val": (1449,)},
        ),
        DataSet(
            "cityscapes",
            "German streets from a car, fine annotations, 19 train ids",
            open_cityscapes,
            19,
            "2975 train, 500 val, 2048 x 1024",
            marker=("leftImg8bit",),
            get=get_cityscapes,
            manual=MANUAL,
            expected={"train": (2975,), "val": (500,)},
        ),
        DataSet(
            "gta5",
            "American streets as a game renders them, in Cityscapes' classes; a second domain for it",
            open_gta5,
            19,
            "24966, 1914 x 1052",
            marker=("images/00001.png", "images"),
            get=get_gta5,
            manual=GTA5_MANUAL,
            expected={"train": (24966,)},
        ),
        DataSet(
            "synthia",
            "a simulated town seen from anywhere, in Cityscapes' classes (16 of them occur); a second domain for it",
            open_synthia,
            19,
            "9400, 1280 x 760",
            marker=("GT/LABELS", "RAND_CITYSCAPES/GT/LABELS"),
            get=get_synthia,
            manual=SYNTHIA_MANUAL,
            expected={"train": (9400,)},
        ),
        DataSet(
            "coco",
            "COCO 2017, background and its 80 things, drawn from the instances",
            open_coco,
            81,
            "118287 train, 5000 val, about 640 x 480",
            marker=("train2017", "images/train2017"),
            get=get_coco,
            expected={"train": (118287,), "val": (5000,)},
        ),
        DataSet(
            "ade20k",
            "scenes in- and outdoors, the 150 classes of the scene parsing challenge",
            open_ade20k,
            150,
            "20210 train, 2000 val",
            marker=("ADEChallengeData2016/images", "annotations/training"),
            get=get_ade20k,
            expected={"train": (20210,), "val": (2000,)},
        ),
        DataSet(
            "ucmerced",
            "scenes from the air in 21 kinds (UC Merced Land Use), the masks of DLRSD",
            open_ucmerced,
            17,
            "1680 train, 420 val, 256 x 256",
            marker=("UCMerced_LandUse", "UCMerced_Images", "DLRSD"),
            get=get_ucmerced,
            expected={"train": (1680,), "val": (420,)},
        ),
        DataSet(
            "deepglobe",
            "land cover from satellites, the six classes of the DeepGlobe challenge",
            open_deepglobe,
            6,
            "642 train, 161 val, 2448 x 2448",
            marker=("land-train", "train", "119_sat.jpg"),
            get=get_deepglobe,
            manual=DEEPGLOBE_MANUAL,
            expected={"train": (642,), "val": (161,)},
        ),
        DataSet(
            "shapenetpart",
            "objects of 16 categories as points with normals, 50 parts",
            open_shapenetpart,
            50,
            "12137 train, 1870 val, 2874 test",
            marker=("synsetoffset2category.txt",),
            manual=SHAPENETPART,
            expected={"train": (12137,), "val": (1870, 2874)},
        ),
        DataSet(
            "partnet",
            "objects as 10,000 points with normals, parts nested in up to three levels, a category at a time",
            open_partnet,
            None,
            "26671 of 24 categories",
            marker=("stats/after_merging2_label_ids",),
            manual=PARTNET,
        ),
        DataSet(
            "scannet",
            "scanned rooms as points, single objects of 18 of 20 classes",
            open_scannet,
            20,
            "1201 train, 312 val",
            marker=("scans", "scannetv2_train.txt"),
            manual=SCANNET,
            expected={"train": (1201,), "val": (312,)},
        ),
        DataSet(
            "s3dis",
            "scanned rooms of six areas as points, single objects of 13 classes",
            open_s3dis,
            13,
            "204 train, 68 val of area 5",
            marker=("Area_1", "Stanford3dDataset_v1.2_Aligned_Version"),
            manual=S3DIS,
        ),
        DataSet(
            "folder",
            "any images and index maps of yours",
            open_folder,
            None,
            "yours",
            marker=("images", "labels"),
            manual="Put images into images/{train,val} and index maps of the same names into labels/{train,val} there",
        ),
    )
}


def names() -> list[str]:
    """The names that `load` knows."""
    return list(DATASETS)


def dataset(name: str) -> DataSet:
    """A data set's entry by name.

    Raises:
        S4Error: no data set has this name; offers the closest ones.
    """
    if name not in DATASETS:
        raise S4Error(f"No data set is called {name!r}. {closest(str(name), names())}")
    return DATASETS[name]


def table() -> list[dict]:
    """One row per data set: name, about, classes, images, how to get it, and where it was found (None: nowhere)."""
    rows = []
    for entry in DATASETS.values():
        found = entry.found() if entry.marker else None
        how = f"s4kit data get {entry.name}" if entry.get else entry.manual or "embedded: nothing to get"
        how += " (says what is to be done by hand)" if entry.get and entry.manual else ""
        rows.append(
            {
                "name": entry.name,
                "about": entry.about,
                "classes": entry.classes,
                "images": entry.images,
                "get": how,
                "found": "embedded" if not entry.marker else (str(found) if found else None),
            }
        )
    return rows


def get(name: str, root: str | os.PathLike | None = None, progress: Progress | None = None, **options) -> Path:
    """Download a data set to `root` (by default $S4KIT_DATA/NAME or ./data/NAME) and return that folder.

    Args:
        name: the data set; "sbd" is the second half of voc.
        root: the folder to fill.
        progress: called with (done, of how many, of what).
        options: of the data set, such as `test=True` of camvid.

    Raises:
        S4Error: it cannot be downloaded; says how to come by it.
    """
    entry = dataset("voc" if name == "sbd" else name)
    folder = Path(root) if root is not None else entry.default_root()
    if entry.get is None:
        what = f"{entry.manual} ({folder})." if entry.manual else "It is embedded: nothing to get."
        raise S4Error(f"{name} cannot be downloaded by the kit. {what}")
    return entry.get(folder, progress=progress, **options)
