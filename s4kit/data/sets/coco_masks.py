"""COCO's instances as semantic maps: 0 = background, 1..80 = the things in the order of their category ids.

The maps of the published protocols (81 classes) come from instances_{train,val}2017.json. How their authors resolved
overlaps is not published; here every instance is drawn in the order of the file, so that a later one covers an earlier
one, as the COCO API of COCO-Stuff does it. Regions marked as crowd are drawn like any other instance of their class, or
left as void with `crowd="void"`. Polygons and run lengths are decoded by pycocotools, the reference. Maps of the single
objects are drawn in the same way, with crowds as void: where objects overlap, the pixels are the later one's alone.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import S4Error
from ..catalog import stems
from ..fetching.download import Progress
from ..objects import PER_CLASS, run_lengths
from ..palettes import COCO_CLASSES
from ..reading.ids import id_image
from ..reading.parallel import each
from ..task import VOID
from .voc_merge import save_mask

PARTS = ("train2017", "val2017")


def make_coco_masks(
    root: str | os.PathLike,
    crowd: str = "class",
    workers: int | None = None,
    progress: Progress | None = None,
    objects: bool = False,
) -> int:
    """Write ROOT/masks/{12 digits}.png for every image of the annotations; maps that are there stay.

    Args:
        root: the folder that holds `annotations`.
        crowd: "class": a crowd region has its class; "void": it is not scored and not learned from.
        workers: processes; see `parallel.each`.
        progress: called with (done, of how many, "masks of PART").
        objects: instead ROOT/objects/{12 digits}.png, the ids of single objects, see `data.objects`; crowds are void.

    Returns:
        How many maps were written. The training annotations (a JSON file of 0.45 GB) take about 3 GB of memory.

    Raises:
        S4Error: annotations are missing, damaged or not those of COCO 2017, or pycocotools is missing.
    """
    if crowd not in ("class", "void"):
        raise S4Error(f"crowd={crowd!r}: give 'class' or 'void'.")
    run_lengths("COCO's polygons are drawn")
    target = Path(root) / ("objects" if objects else "masks")
    written = 0
    for part in PARTS:
        path = Path(root) / "annotations" / f"instances_{part}.json"
        images = _read(path)
        target.mkdir(exist_ok=True)
        there = stems(target, (".png",))
        jobs = [job for job in images if job[0] not in there]
        del images
        told = progress and partial(_tell, progress, f"masks of {part}")
        draw = partial(_draw, str(target), "objects" if objects else crowd)
        broken = [why for why in each(draw, jobs, workers, told) if why]
        if broken:
            raise S4Error(
                f"{len(broken)} instance maps of {path} could not be drawn (first: {broken[0]}). Fetch it again."
            )
        written += len(jobs)
    return written


def _tell(progress: Progress, what: str, done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        progress(done, total, what)


Job = tuple[str, int, int, list[tuple[int, Any, bool]]]  # id, height, width, (class, segmentation, crowd) per instance


def _read(path: Path) -> list[Job]:
    """The images of an annotation file, with their instances in the order of the file."""
    if not path.is_file():
        raise S4Error(f"COCO: {path} is missing. Unpack annotations_trainval2017.zip there.")
    try:
        with open(path) as file:
            stored = json.load(file)
        names = {c["id"]: c["name"] for c in stored["categories"]}
        classes = {category: number for number, category in enumerate(sorted(names), 1)}
        drawn = defaultdict(list)
        for one in stored["annotations"]:
            crowd = bool(one.get("iscrowd", 0))
            drawn[one["image_id"]].append((classes[one["category_id"]], one["segmentation"], crowd))
        images = [(f"{i['id']:012d}", i["height"], i["width"], drawn[i["id"]]) for i in stored["images"]]
    except (ValueError, KeyError, TypeError) as why:
        raise S4Error(
            f"{path} is not COCO's instance annotations ({type(why).__name__}: {why}). Fetch it again."
        ) from None
    if tuple(names[c] for c in sorted(names)) != COCO_CLASSES[1:]:
        raise S4Error(f"{path} does not have the 80 categories of COCO 2017: for your own annotations use a folder.")
    return images


def _draw(target: str, crowd: str, job: Job) -> str | None:
    """Write one map; what is wrong with it, or None."""
    from pycocotools import mask as run_lengths

    name, height, width, instances = job
    drawn = np.zeros((height, width), np.int32)
    try:
        for number, (label, shape, is_crowd) in enumerate(instances, 1):
            coded = shape
            if isinstance(shape, list):
                coded = run_lengths.merge(run_lengths.frPyObjects(shape, height, width))
            elif isinstance(shape["counts"], list):
                coded = run_lengths.frPyObjects(shape, height, width)
            value = PER_CLASS * label + number if crowd == "objects" else label
            drawn[run_lengths.decode(coded) > 0] = VOID if is_crowd and crowd != "class" else value
    except Exception as why:  # pycocotools raises whatever the polygon leads it to
        return f"{name}: {type(why).__name__}: {why}"
    stored = np.asarray(id_image(drawn)) if crowd == "objects" else drawn.astype(np.uint8)
    save_mask(stored, os.path.join(target, f"{name}.png"))
    return None
