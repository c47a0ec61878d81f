"""PartNet (Mo et al., CVPR 2019): parts of the objects of a category, nested in up to three levels.

Of each object 10,000 points with normals and a tree of annotated parts; the repository of the data set says which of
their names are parts of a level. A part belongs to the one of a coarser level whose path its own begins with; where
there is none (the footrest of a chair), to a class "other" of that level. A point of no finest part is void throughout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import S4Error
from ..catalog import Catalog, need_folder, shared_images
from ..palettes import distinct
from ..points.clouds import Cloud, CloudSource, PartEvaluation, cloud_of, nested, numbers
from ..points.substituted import with_substituted
from ..task import VOID

EXPECTED = (
    "stats/{after_merging2_label_ids,merging2_hierarchy_mapping,train_val_test_split} of the repository "
    "daerduoCarey/partnet_dataset, and data/ (or data_v0/) with a folder per object"
)
MANUAL = (
    "PartNet needs a free account: register at https://shapenet.org, accept the terms and download PartNet's data_v0 "
    "archives; git clone https://github.com/daerduoCarey/partnet_dataset; join the archives, unpack them into data/ "
    "there, and name the folder of the clone"
)
DATA = ("data", "data_v0")
POINTS, LABEL = "sample-points-all-pts-nor-rgba-10000.txt", "sample-points-all-label-10000.txt"
OTHER = "other"


class PartNetSource(CloudSource):
    """Objects of one category by the number of their annotation.

    Args:
        names: merged part by the path of an annotated one. classes: index of the finest parts.
    """

    def __init__(
        self, ids: Sequence[str], folder: Path, names: Mapping[str, str], classes: Mapping[str, int], points: int
    ) -> None:
        self.ids, self.folder, self.names, self.classes, self.points = list(ids), str(folder), names, classes, points

    def read(self, row: int, label: bool = True) -> Cloud:
        folder = Path(self.folder, self.ids[row])
        sampled = folder / "point_sample" if (folder / "point_sample").is_dir() else folder
        rows = numbers(sampled / POINTS, 10)
        truth = self._label(folder, sampled, len(rows)) if label else None
        return cloud_of(rows[:, :3], rows[:, 3:6], truth, self.points, self.ids[row])

    def _label(self, folder: Path, sampled: Path, count: int) -> np.ndarray:
        leaves = numbers(sampled / LABEL, 1)[:, 0].astype(int)
        if len(leaves) != count:
            raise S4Error(f"{sampled}: {count} points but {len(leaves)} labels. Unpack the archive again.")
        tree = _json(folder / "result.json")
        part = {leaf: self.classes[name] for name, found in merged(tree[0], self.names) for leaf in found
                if name in self.classes}  # fmt: skip
        kinds, at = np.unique(leaves, return_inverse=True)
        return np.array([part.get(int(leaf), VOID) for leaf in kinds])[at]


def merged(node: Mapping[str, Any], names: Mapping[str, str], above: str = "") -> Iterator[tuple[str, list[int]]]:
    """(merged part, ids of the annotated leaves in it) of a tree of annotated parts, from the root on."""
    path = f"{above}/{node['name']}" if above else node["name"]
    if path in names:
        yield names[path], _leaves(node)
    for child in node.get("children", ()):
        yield from merged(child, names, path)


def _leaves(node: Mapping[str, Any]) -> list[int]:
    below = node.get("children", ())
    return [leaf for child in below for leaf in _leaves(child)] if below else [int(node["id"])]


def open_partnet(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    category: str = "Chair",
    points: int = 10_000,
    val: str = "val",
    substituted: int = 0,
) -> Catalog:
    """PartNet below `root`.

    Args:
        root: the clone of its repository, with the objects in data/ or data_v0/.
        size, cache: not used by it.
        category: "Chair", "Lamp", ...
        points: of each object, at most 10,000; fewer are drawn once and for all.
        val: the scored list: "val" or "test".
        substituted: so many labelled objects more, made of the labelled ones by part substitution.

    Raises:
        S4Error: a list, a folder or a file is missing, or an unknown category.
    """
    if size is not None:
        raise S4Error(f"partnet has no pixels: leave out size={size}; points={points} says how many points there are.")
    folder = need_folder(Path(root), "PartNet", EXPECTED)
    objects = next((folder / name for name in DATA if (folder / name).is_dir()), folder / DATA[0])
    need_folder(objects, "PartNet", EXPECTED)
    tree, names = _parts(folder / "stats", category)
    mapping = _lines(folder / "stats" / "merging2_hierarchy_mapping" / f"{category}.txt")
    known = {name: k for k, name in enumerate(tree)}
    short = {path: path.partition("/")[2] or path for path in {OTHER, *tree, *(p for up in tree.values() for p in up)}}
    train, scored = (
        PartNetSource(_ids(folder, objects, category, part), objects, {line[0]: line[1] for line in mapping}, known,
                      points) for part in ("train", val)
    )  # fmt: skip
    levels, parents = nested({short[path]: tuple(short[p] for p in up) for path, up in tree.items()}, names)
    return Catalog(
        name="partnet",
        classes=levels[names[-1]],
        palette=distinct(len(tree)),
        train=train,
        val=scored,
        crop=None,
        evaluation=PartEvaluation(),
        levels=levels,
        parents=parents,
        note=category + (f", scored on {val}" if val != "val" else ""),
        notices=shared_images(train, scored),
        finish=partial(with_substituted, count=substituted),
    )


def _parts(stats: Path, category: str) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """By path of a finest part those above it, from the coarsest level on; and the names of the levels."""
    folder = need_folder(stats / "after_merging2_label_ids", "PartNet", EXPECTED)
    files = [file for k in (1, 2, 3) if (file := folder / f"{category}-level-{k}.txt").is_file()]
    if not files:
        there = sorted({file.name.partition("-level-")[0] for file in folder.glob("*-level-*.txt")})
        raise S4Error(f"PartNet has no parts of the category {category!r} in {folder}: {', '.join(there) or 'none'}.")
    *coarser, finest = ([line[1] for line in _lines(file)] for file in files)

    def above(path: str, level: Sequence[str]) -> str:
        return max((name for name in level if f"{path}/".startswith(f"{name}/")), key=len, default=OTHER)

    tree = {path: tuple(above(path, level) for level in coarser) for path in finest}
    return tree, tuple(f"level {file.stem[-1]}" for file in files)


def _lines(file: Path) -> list[list[str]]:
    """The words of each line; of the lists of parts the second one is the path."""
    try:
        lines = [line.split() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise S4Error(f"PartNet: {file} is missing. Expected: {EXPECTED}.") from None
    if bad := next((line for line in lines if len(line) < 2), None):
        raise S4Error(f"{file}: the line {' '.join(bad)!r} has no part. Take the file of the repository again.")
    return lines


def _ids(folder: Path, objects: Path, category: str, part: str) -> list[str]:
    file = folder / "stats" / "train_val_test_split" / f"{category}.{part}.json"
    ids = [str(item["anno_id"]) for item in _json(file)]
    gone = [name for name in ids if not (objects / name).is_dir()]
    if not ids or gone:
        what = (
            f"{len(gone)} of {len(ids)} objects of {file.name} (first: {gone[0]})" if ids else f"{file.name}: no object"
        )
        raise S4Error(f"PartNet: {what} not in {objects}. Unpack all parts of the archive there.")
    return ids


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise S4Error(f"PartNet: {file} is missing. Expected: {EXPECTED}.") from None
    except ValueError as error:
        raise S4Error(f"{file} is damaged ({error}): unpack or fetch it again.") from None
