"""One PNG for each image and class, 0 outside and anything else inside: Label Studio's brush export, folders of masks.

Three ways to say which image and which class a file is of:
    task-7-annotation-9-by-1-tag-road-0.png    Label Studio; its JSON export beside the masks names the photo
    road/photo.png, masks_road/photo.png       a folder for each class
    photo_road.png, photo-road.png             the class at the end of the name; with classes.txt beside the masks
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import S4Error
from ..class_tables import read_classes
from . import common
from .common import Export, Picture, Shape

STUDIO = re.compile(r"task-(\d+)-annotation-(\d+)-by-(.*)-(\d+)\.png")
TABLE = "classes.txt"


def found(source: Path) -> bool:
    """Whether masks are named as Label Studio names them, or lie in a folder for each class, or beside a table of
    classes."""
    if not source.is_dir():
        return False
    masks = _masks(source)
    if any(STUDIO.fullmatch(file.name) for file in masks):
        return True
    folders = {file.parent for file in masks}
    by_folder = len(folders) > 1 and source not in folders and len({f.name for f in masks}) < len(masks)
    return by_folder or (bool(masks) and (source / TABLE).is_file() and all(_ended(f, _listed(source)) for f in masks))


def read(source: Path) -> Export:
    """Raises S4Error for a mask whose image or class cannot be told."""
    masks = _masks(source)
    studio = any(STUDIO.fullmatch(file.name) for file in masks)
    triples = list(_of_studio(source, masks) if studio else _of_names(source, masks))
    drawn: dict[str, list[Shape]] = {}
    for image, name, file in triples:
        drawn.setdefault(image, []).append(Shape(name, _paint(file)))
    names = _listed(source) or sorted({name for _, name, _ in triples})
    pictures = [Picture(image, None, shapes, str(source)) for image, shapes in drawn.items()]
    return Export(names, pictures, masks=tuple(masks))


def _masks(source: Path) -> list[Path]:
    return [file for file in common.files(source, ".png") if "images" not in file.relative_to(source).parts[:-1]]


def _listed(source: Path) -> list[str]:
    return list(read_classes(source / TABLE).names) if (source / TABLE).is_file() else []


def _paint(file: Path) -> common.Paint:
    def paint(target: np.ndarray, value: int) -> None:
        inside = common.pixels(file).any(2)
        if inside.shape != target.shape:
            raise S4Error(
                f"{file} is {inside.shape[1]} x {inside.shape[0]} pixels, not {target.shape[1]} x {target.shape[0]} "
                "as its photo (width x height)."
            )
        target[inside] = value

    return paint


def _of_names(source: Path, masks: list[Path]) -> Iterator[tuple[str, str, Path]]:
    listed = _listed(source)
    for file in masks:
        if file.parent != source:
            folder = file.relative_to(source).parts[0]
            name = next((n for n in listed if folder.lower().endswith(n.lower())), folder.removeprefix("masks_"))
            yield file.name, name, file
        elif ended := _ended(file, listed):
            yield *ended, file
        else:
            raise S4Error(
                f"{file}: of which class is it? Put the masks of each class into a folder of its name, or write the "
                f"names to {source / TABLE} and call the masks PHOTO_CLASS.png."
            )


def _ended(file: Path, names: list[str]) -> tuple[str, str] | None:
    """(image, class) of photo_road.png; the longest class that fits."""
    for name in sorted(names, key=len, reverse=True):
        if file.stem.lower().endswith((f"_{name.lower()}", f"-{name.lower()}", f".{name.lower()}")):
            return file.stem[: -len(name) - 1], name
    return None


def _of_studio(source: Path, masks: list[Path]) -> Iterator[tuple[str, str, Path]]:
    """Which annotation of a task counts is for a person to say: a second one is refused."""
    photos, listed = _tasks(source), _listed(source)
    annotations: dict[int, str] = {}
    for file in masks:
        match = STUDIO.fullmatch(file.name)
        if match is None:
            raise S4Error(
                f"{file} is no mask of Label Studio like the others (task-1-annotation-2-by-1-tag-CLASS-0.png)."
            )
        task, annotation, said = int(match[1]), match[2], match[3]
        if annotations.setdefault(task, annotation) != annotation:
            raise S4Error(
                f"{source}: task {task} has annotations {annotations[task]} and {annotation}; delete one's masks."
            )
        if task not in photos:
            raise S4Error(f"{file}: which photo is task {task}? Put the project's JSON export beside the masks, too.")
        name = next((n for n in sorted(listed, key=len, reverse=True) if said.endswith(f"-{n}")), said.split("-")[-1])
        yield photos[task], name, file


def _tasks(source: Path) -> dict[int, str]:
    """The photo of each task, from Label Studio's JSON (or JSON-MIN) export."""
    found: dict[int, str] = {}
    for file in common.files(source, ".json"):
        told = common.read_json(file)
        for task in told if isinstance(told, list) else []:
            fields = task.get("data", task) if isinstance(task, dict) else {}
            photo = _photo(fields)
            if "id" in task and photo:
                found[int(task["id"])] = photo
    return found


def _photo(fields: dict[str, Any]) -> str:
    """The name of the photo: without the folder, and without the eight letters that an upload puts before it."""
    suffixes = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
    path = next((v for v in fields.values() if isinstance(v, str) and v.split("?")[0].lower().endswith(suffixes)), "")
    return re.sub(r"^[0-9a-f]{8}-", "", path.split("?")[0].replace("\\", "/").rpartition("/")[2])
