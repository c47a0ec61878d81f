"""ShapeNetPart: 16 categories of objects, 50 parts, in the release with normals.

A text file per object, a point per line: x y z, the normal, and the part, 0 to 49 over all categories. Its archive
shapenetcore_partanno_segmentation_benchmark_v0_normal.zip is unpacked as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import S4Error, closest
from ..catalog import Catalog, need_folder, shared_images
from ..palettes import distinct
from ..points.clouds import Cloud, CloudSource, PartEvaluation, cloud_of, nested, numbers
from ..points.substituted import with_substituted

PARTS = {  # number of parts of each category, in the order of their labels
    "Airplane": 4, "Bag": 2, "Cap": 2, "Car": 4, "Chair": 4, "Earphone": 3, "Guitar": 3, "Knife": 2, "Lamp": 4,
    "Laptop": 2, "Motorbike": 6, "Mug": 2, "Pistol": 3, "Rocket": 3, "Skateboard": 3, "Table": 3,
}  # fmt: skip
EXPECTED = "synsetoffset2category.txt, train_test_split/shuffled_{train,val,test}_file_list.json, 02691156/*.txt, ..."
MANUAL = (
    "ShapeNetPart needs a free account: register at https://shapenet.org and accept its terms, download "
    "shapenetcore_partanno_segmentation_benchmark_v0_normal.zip, unpack it, and name the folder that holds "
    "synsetoffset2category.txt"
)


class ObjectSource(CloudSource):
    """Objects of some categories; ids are "Chair/1a6f615e8b1b5ae4dbbc9440457e303e".

    Args:
        files: below `folder`. first: of each object the first label of its category and the class that it stands for.
    """

    def __init__(
        self, ids: Sequence[str], folder: Path, files: Sequence[str], first: Sequence[tuple[int, int]], points: int
    ) -> None:
        self.ids, self.folder, self.files, self.first, self.points = list(ids), str(folder), files, first, points

    def read(self, row: int, label: bool = True) -> Cloud:
        file = Path(self.folder, self.files[row])
        rows, (first, own) = numbers(file, 7), self.first[row]
        truth = None
        if label:
            known = PARTS[self.ids[row].partition("/")[0]]
            part = rows[:, 6].astype(int) - first
            if (wrong := (part < 0) | (part >= known)).any():
                raise S4Error(
                    f"{file}: part {rows[wrong, 6][0]:g} is none of {self.ids[row].partition('/')[0]}, which has "
                    f"{first} to {first + known - 1}."
                )
            truth = part + own
        return cloud_of(rows[:, :3], rows[:, 3:6], truth, self.points, self.ids[row])


def open_shapenetpart(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    points: int = 2048,
    categories: str | Sequence[str] | None = None,
    val: str = "val",
    substituted: int = 0,
) -> Catalog:
    """ShapeNetPart below `root`.

    Args:
        root: the folder with synsetoffset2category.txt.
        size, cache: not used by it.
        points: of each object; it has some 2600, of which these are drawn once and for all.
        categories: one or several of them, "Chair"; None = all 16.
        val: the scored list: "val" or "test".
        substituted: so many labelled objects more, made of the labelled ones by part substitution.

    Raises:
        S4Error: a list, a folder or a file is missing, or an unknown category.
    """
    if size is not None:
        raise S4Error(f"shapenetpart has no pixels: leave out size={size}; points={points} says how many points.")
    folder = need_folder(Path(root), "ShapeNetPart", EXPECTED)
    wanted = [categories] if isinstance(categories, str) else list(categories or PARTS)
    for name in wanted:
        if name not in PARTS:
            raise S4Error(f"ShapeNetPart has no category {name!r}. {closest(name, list(PARTS))}")
    starts = dict(zip(PARTS, np.cumsum([0, *PARTS.values()]).tolist()))
    tree = {f"{name} {k + 1}": (name,) for name in wanted for k in range(PARTS[name])}
    own = dict(zip(wanted, np.cumsum([0, *(PARTS[name] for name in wanted)]).tolist()))
    offsets = _offsets(folder)
    train, scored = (
        _listed(folder, part, {offset: name for offset, name in offsets.items() if name in wanted}, starts, own, points)
        for part in ("train", val)
    )
    levels, parents = nested(tree, ("object", "part")) if len(wanted) > 1 else ({}, {})
    return Catalog(
        name="shapenetpart",
        classes=tuple(tree),
        palette=distinct(len(tree)),
        train=train,
        val=scored,
        crop=None,
        evaluation=PartEvaluation(),
        levels=levels,
        parents=parents,
        note=", ".join(
            filter(
                None,
                (
                    f"scored on {val}" if val != "val" else "",
                    "" if categories is None else f"{', '.join(wanted)} alone",
                ),
            )
        ),
        notices=shared_images(train, scored),
        finish=partial(with_substituted, count=substituted),
    )


def _offsets(folder: Path) -> dict[str, str]:
    """Category by the name of its folder."""
    file = folder / "synsetoffset2category.txt"
    if not file.is_file():
        found = ", ".join(sorted(e.name for e in os.scandir(folder))[:8]) or "nothing"
        raise S4Error(f"ShapeNetPart: {file} is missing. Expected: {EXPECTED}. Found in {folder}: {found}.")
    pairs = [line.split() for line in file.read_text("utf-8").splitlines() if line.strip()]
    if bad := next((pair for pair in pairs if len(pair) != 2 or pair[0] not in PARTS), None):
        raise S4Error(f"{file}: the line {' '.join(bad)!r} is no category with its folder, such as 'Chair 03001627'.")
    return {offset: name for name, offset in pairs}


def _listed(
    folder: Path, part: str, names: dict[str, str], starts: dict[str, int], own: dict[str, int], points: int
) -> ObjectSource:
    file = folder / "train_test_split" / f"shuffled_{part}_file_list.json"
    try:
        listed = [str(line).split("/")[-2:] for line in json.loads(file.read_text("utf-8"))]
    except FileNotFoundError:
        raise S4Error(f"ShapeNetPart: {file} is missing. Expected: {EXPECTED}.") from None
    except ValueError as error:
        raise S4Error(f"{file} is no list of objects ({error}): unpack the archive again.") from None
    chosen = sorted((names[offset], offset, name) for offset, name in listed if offset in names)
    gone = [f"{offset}/{name}.txt" for _, offset, name in chosen if not (folder / offset / f"{name}.txt").is_file()]
    if not chosen or gone:
        what = f"{len(gone)} of {len(chosen)} files of {file.name} are missing (first: {gone[0]})" if gone else (
            f"{file.name} lists no object of {', '.join(own)}")  # fmt: skip
        raise S4Error(f"ShapeNetPart: {what} in {folder}. Unpack the archive again.")
    ids = [f"{category}/{name}" for category, _, name in chosen]
    files = [f"{offset}/{name}.txt" for _, offset, name in chosen]
    return ObjectSource(ids, folder, files, [(starts[c], own[c]) for c, _, _ in chosen], points)
