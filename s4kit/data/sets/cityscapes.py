"""Cityscapes, fine annotations, 19 train ids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import S4Error
from ..catalog import Catalog, need_folder
from ..checking.look import spread
from ..decode import decode_label
from ..fetching.archives import CITYSCAPES, Archive, obtain
from ..fetching.download import Progress
from ..objects import PER_CLASS, MaskEvaluation, ObjectFiles
from ..palettes import CITYSCAPES as CLASSES
from ..raft import between, need_weights
from ..sources import FileSource, cached, id_table
from ..task import VOID, Evaluation

EXPECTED = "ROOT/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and ROOT/gtFine/{train,val}/CITY/*_gtFine_labelIds.png"
MANUAL = (
    "Cityscapes needs a free account:\n"
    "  1. register at https://www.cityscapes-dataset.com/register/ (confirmed by hand: it may take days)\n"
    "  2. pip install cityscapesscripts\n"
    "  3. mkdir -p {root}; csDownload -d {root} gtFine_trainvaltest.zip leftImg8bit_trainvaltest.zip (about "
    "11 GB; it asks for the account and checks the md5; after a cut: the same with -r, one file at a time)\n"
    "  4. s4kit data get cityscapes --root {root} unpacks train and val of both there (the kit itself knows no "
    "checksum of them), then s4kit data check cityscapes --root {root}"
)
SEQUENCES = (
    "ROOT/leftImg8bit_sequence/train/CITY/*_leftImg8bit.png, 30 frames for each labelled one: csDownload -d ROOT "
    "leftImg8bit_sequence_trainvaltest.zip (324 GB; the account is that of the images), then unpack it there"
)
BEFORE, BEHIND = 19, 10  # frames of a clip before and behind the labelled one
LOOKED_AT = 6  # maps that tell label ids from train ids
THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")  # classes of single objects
LABELS = 34  # label ids; of these a map of objects has, where it has no object
UNSCORED = (*range(7), 9, 10, 14, 15, 16, 18, 29, 30)  # of them, beside the groups of things
_OBJECTS = "_gtFine_instanceIds.png"
_TRAIN_IDS, _LABEL_IDS = "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"


class CityscapesSource(FileSource):
    """Label maps are train ids, or label ids that are mapped to train ids on reading."""

    def _table(self, path: str) -> np.ndarray:
        return id_table(len(CLASSES)) if path.endswith(_TRAIN_IDS) else label_id_table()


class CityscapesClips(CityscapesSource):
    """The frames of the sequences; `clips` are the rows of each clip, in their order, `weights` the file of RAFT's, by
    which motion is estimated, or None."""

    def __init__(
        self, *arguments: Any, clips: Sequence[Sequence[int]], weights: str | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.weights = weights
        self.clips = [tuple(clip) for clip in clips]
        self.clip_of = {row: k for k, clip in enumerate(self.clips) for row in clip}

    def clip(self, row: int) -> tuple[int, ...]:
        return self.clips[self.clip_of[row]]

    def flow(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        return between(self, a, b, self.weights)


class CityscapesObjects(ObjectFiles):
    """Maps of objects, 1000 * label id + number; groups of things, which have no number, are void."""

    def _ids(self, path: str) -> np.ndarray:
        stored = decode_label(path).astype(np.int32)
        label = np.where(stored >= PER_CLASS, stored // PER_CLASS, stored)
        if stored.min() < 0 or label.max() >= LABELS:
            raise S4Error(f"{path} is no map of Cityscapes' objects: it holds ids up to {int(stored.max())}.")
        table = object_table()[label].astype(np.int32)
        things = (stored >= PER_CLASS) & (table != VOID)
        return np.where(things, PER_CLASS * table + stored % PER_CLASS, np.where(table == 0, 0, VOID)).astype(np.int32)


def object_table() -> np.ndarray:
    """(34,) from label id to class: 0 = background, 1..8 the things, void where it is not scored."""
    table = np.zeros(LABELS, np.uint8)
    table[list(UNSCORED)] = VOID
    for number, name in enumerate(THINGS, 1):
        table[CLASSES[name][0]] = number
    return table


def label_id_table() -> np.ndarray:
    """(256,) from Cityscapes' label id (0..33, and -1 stored as 255) to train id; void where it is not scored."""
    ids = dict.fromkeys(range(34), VOID)
    ids.update({stored: train for train, (stored, _) in enumerate(CLASSES.values())})
    return id_table(ids)


def open_cityscapes(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    sequences: bool = False,
    instances: bool = False,
    flow: str | None = None,
) -> Catalog:
    """Cityscapes below `root`; ids are "city/city_000000_000019".

    Where both `labelTrainIds` and `labelIds` maps are present, the first are used. Training images without either are
    used unlabelled only.

    Args:
        root, size, cache: see `load`.
        sequences: train on the frames of the sequences, clips of 30 of which the 20th may be labelled.
        instances: the single objects of the eight `THINGS` are the task, and are scored; all else is background.
        flow: of the sequences, file of torchvision's RAFT weights, for methods that follow the motion; see `raft`.

    Raises:
        S4Error: a folder is missing or empty, a validation image has no label, the weights are missing, or both of the
            first options are asked for.
    """
    folder = Path(root)
    if sequences and instances:
        raise S4Error("Cityscapes: choose sequences=True or instances=True, no method learns objects from clips.")
    weights = None if flow is None else need_weights(flow)
    train = _sequences(folder, size, weights) if sequences else _source(folder, "train", size, instances)
    val = _source(folder, "val", size, instances)
    unmasked = [name for name, label in zip(val.ids, val.labels) if label is None]
    if unmasked:
        raise S4Error(f"Cityscapes: {len(unmasked)} val images have no label in gtFine/val (first: {unmasked[0]}).")
    classes = {"background": (0, 0, 0)} if instances else {}
    classes |= {name: colour for name, (_, colour) in CLASSES.items() if not instances or name in THINGS}
    return Catalog(
        name="cityscapes",
        classes=tuple(classes),
        palette=tuple(classes.values()),
        train=cached(train, cache),
        val=cached(val, cache),
        crop=801,
        evaluation=MaskEvaluation() if instances else Evaluation("sliding", 801, 2 / 3),
        maskless=frozenset(row for row, label in enumerate(train.labels) if label is None),
    )


def _source(folder: Path, split: str, size: float | int | None, instances: bool = False) -> FileSource:
    pictures = need_folder(folder / "leftImg8bit" / split, "Cityscapes", EXPECTED)
    maps = need_folder(folder / "gtFine" / split, "Cityscapes", EXPECTED)
    ids, images, labels = [], [], []
    for city in sorted(entry.name for entry in os.scandir(pictures) if entry.is_dir()):
        present = set(os.listdir(maps / city)) if (maps / city).is_dir() else set()
        for name in sorted(os.listdir(pictures / city)):
            if not name.endswith("_leftImg8bit.png"):
                continue
            frame = name.removesuffix("_leftImg8bit.png")
            kinds = (_OBJECTS,) if instances else (_TRAIN_IDS, _LABEL_IDS)
            kind = next((k for k in kinds if frame + k in present), None)
            ids.append(f"{city}/{frame}")
            images.append(f"leftImg8bit/{split}/{city}/{name}")
            labels.append(f"gtFine/{split}/{city}/{frame}{kind}" if kind else None)
    if not ids:
        raise S4Error(f"Cityscapes: {pictures} holds no *_leftImg8bit.png. Expected: {EXPECTED}.")
    if instances and not any(labels):
        raise S4Error(f"Cityscapes: {maps} holds no *{_OBJECTS}; gtFine_trainvaltest.zip has them beside the others.")
    _need_label_ids(folder, [name for name in labels if name and name.endswith(_LABEL_IDS)])
    source = CityscapesObjects if instances else CityscapesSource
    return source(ids, images, labels, str(folder), len(CLASSES), size, exif="ignore")


def _sequences(folder: Path, size: float | int | None, weights: str | None) -> CityscapesClips:
    """The training frames that lie in a clip about a labelled frame."""
    pictures = need_folder(folder / "leftImg8bit_sequence" / "train", "Cityscapes sequences", SEQUENCES)
    maps = need_folder(folder / "gtFine" / "train", "Cityscapes", EXPECTED)
    ids, images, labels, clips = [], [], [], []
    for city in sorted(entry.name for entry in os.scandir(maps) if entry.is_dir()):
        files = set(os.listdir(pictures / city)) if (pictures / city).is_dir() else set()
        annotated = _annotated(maps / city)
        for frame, label in annotated.items():
            sequence, number = frame.rsplit("_", 1)
            around = range(int(number) - BEFORE, int(number) + BEHIND + 1)
            there = [f for k in around if f"{(f := f'{sequence}_{k:06d}')}_leftImg8bit.png" in files]
            if frame not in there:
                raise S4Error(f"Cityscapes sequences: {pictures / city} has no frame {frame}, which gtFine labels.")
            clips.append(range(len(ids), len(ids) + len(there)))
            ids += [f"{city}/{name}" for name in there]
            images += [f"leftImg8bit_sequence/train/{city}/{name}_leftImg8bit.png" for name in there]
            labels += [f"gtFine/train/{city}/{label}" if name == frame else None for name in there]
    if not ids:
        raise S4Error(f"Cityscapes sequences: {maps} holds no label map. Expected: {EXPECTED}.")
    _need_label_ids(folder, [name for name in labels if name and name.endswith(_LABEL_IDS)])
    options = {"exif": "ignore", "clips": clips, "weights": weights}
    return CityscapesClips(ids, images, labels, str(folder), len(CLASSES), size, **options)


def _annotated(maps: Path) -> dict[str, str]:
    """The file of each labelled frame of a city, train ids before label ids."""
    files = sorted(os.listdir(maps))
    return {f.removesuffix(kind): f for kind in (_LABEL_IDS, _TRAIN_IDS) for f in files if f.endswith(kind)}


def _need_label_ids(folder: Path, labels: list[str]) -> None:
    """Refuses train ids under the name of label ids: no vegetation, sky, person or car in any map, though id 0 is."""
    pixels = np.zeros(256, np.int64)
    for name in spread(labels, LOOKED_AT):
        try:
            pixels += np.bincount(decode_label(str(folder / name)).ravel().clip(0, VOID), minlength=256)
        except S4Error:  # a fault that the look at the labels names
            continue
    if pixels.sum() and not pixels[len(CLASSES) : VOID].any() and pixels[:3].any():
        raise S4Error(
            f"Cityscapes: {folder / labels[0]} and the others hold no id above {len(CLASSES) - 1}: these are train "
            f"ids. Rename them to *{_TRAIN_IDS}."
        )


def get_cityscapes(
    root: str | os.PathLike, archives: Sequence[Archive] = CITYSCAPES, progress: Progress | None = None
) -> Path:
    """Unpack the two archives of Cityscapes that lie in `root`; they cannot be fetched without an account.

    Raises:
        S4Error: they are not there (says how to come by them), or are damaged.
    """
    folder = Path(root)
    for archive in archives:
        if not archive.there(folder) and not (folder / archive.name).is_file():
            raise S4Error(f"{folder / archive.name} is not there. {MANUAL.format(root=folder)}")
    obtain(folder, archives, progress)
    return folder
