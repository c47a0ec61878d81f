"""The writer of snapshots, see `snapshots`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from .checkpoint import write_atomic
from .maps import LEVELS, SMOOTH, TOP, Arrays, beliefs, differences, fitted, picked, pictures
from .probe import Looked, Probe, Scene
from .snapshots import EQUAL, EVIDENCE, VERSION, Snapshots, opened


class Writer:
    """Writes the snapshots of a run into `folder`; goes on in the sizes of what is there.

    Args:
        folder: `RUN/probes`. classes, palette: of the task. side: longest side of what is stored, in pixels.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...], palette: tuple, side: int) -> None:
        self.folder, self.classes, self.palette, self.side = folder, classes, palette, side
        self.shown: dict[str, bytes] = {}  # pictures of the last files: those that did not change are left out

    @property
    def there(self) -> Snapshots | None:
        """What the folder holds, None before `images`."""
        return Snapshots(self.folder) if (self.folder / "index.json").is_file() else None

    def images(self, scenes: Iterable[Scene], ids: list[str], kinds: list[str], path: int) -> None:
        """Write `images.npz` and `index.json`.

        Args:
            scenes: the watched images. ids, kinds: of each. path: side of the training's crop.
        """
        self.folder.mkdir(exist_ok=True)
        sizes, small = [], []
        for scene in scenes:
            sizes.append(scene.truth.shape)
            small.append(_small(scene, self.side))
        self.canvas = tuple(max(maps["truth"].shape[axis] for maps in small) for axis in (0, 1))
        _write(self.folder / "images.npz", self._placed(small))
        largest = max(sizes, key=max)
        index = {
            "version": VERSION,
            "classes": list(self.classes),
            "palette": [list(map(int, colour)) for colour in self.palette],
            "ids": ids,
            "kinds": kinds,
            "height": self.canvas[0],
            "width": self.canvas[1],
            "crop": max(largest),
            "path": [min(path, self.side)] * 2,
            "evidence": EVIDENCE,
            "lost": _lost(largest, fitted(*largest, self.side), len(self.classes)),
        }
        _index(self.folder, index)

    def add(self, probe: Probe) -> None:
        """Watch more images, behind those that are there and made to fit into their size."""
        first, self.canvas = len(self.there), (self.there.height, self.there.width)
        small = (_small(probe.scene(k, self.side), self.canvas) for k in range(len(probe)))
        _write(self.folder / "images.npz", self._placed(small, first), more=True)
        index = json.loads((self.folder / "index.json").read_text())
        index |= {"kinds": self.there.kinds + probe.kinds, "ids": index["ids"] + probe.ids}
        _index(self.folder, index)

    def step(self, step: int, looked: Iterable[Looked], first: int = 0) -> bool:
        """Write what the rule says of the watched images; whether it says anything.

        Args:
            first: place of the first of them, where they were added; what the file has of others is kept.
        """
        if there := self.there:
            self.canvas = there.height, there.width
        arrays: Arrays = {}
        for seen in looked:
            for name, found in seen.labels.items():
                for place, maps in zip(seen.places, beliefs(found, seen.probabilities[name], self.canvas)):
                    for field, other in EQUAL.items():
                        if np.array_equal(maps[field], maps[other][0]):
                            del maps[field]
                    arrays |= {f"{name}/{first + place}/{field}": self._pad(a) for field, a in maps.items()}
        if arrays:
            _write(self.folder / f"{step:07d}.npz", arrays, more=first > 0)
        return bool(arrays)

    def path(self, step: int, paths: dict[str, list[Arrays]], ids: dict[str, list[str]]) -> None:
        """Write the images' way through a training step, see `trace.examples`, and which they are, see `Tracer.ids`."""
        index = json.loads((self.folder / "index.json").read_text())
        if index.get("path_ids", {}) != (ids := index.get("path_ids", {}) | ids):
            _index(self.folder, index | {"path_ids": ids})
        arrays: Arrays = {}
        for name, examples in paths.items():
            for k, fields in enumerate(examples):
                arrays |= {f"{name}/{k}/{field}": values for field, values in fields.items()}
        _write(self.folder / f"{step:07d}_path.npz", self._new(arrays, "path"))

    def roles(self, step: int, casts: dict[str, tuple[Arrays, np.ndarray]]) -> None:
        """Write who takes part in a step's contrasts, see `roles.arranged`."""
        arrays: Arrays = {}
        for name, (points, images) in casts.items():
            arrays |= {f"{name}/points/{field}": values for field, values in points.items()}
            arrays |= {f"{name}/{k}/image": image for k, image in enumerate(images)}
        _write(self.folder / f"{step:07d}_roles.npz", self._new(arrays, "roles"))

    def _new(self, arrays: Arrays, kind: str) -> Arrays:
        """Without the pictures that the last file of this kind had as well."""
        pictures = {f"{kind}/{key}": values.tobytes() for key, values in arrays.items() if values.ndim == 3}
        again = {key for key, picture in pictures.items() if self.shown.get(key) == picture}
        self.shown |= pictures
        return {key: values for key, values in arrays.items() if f"{kind}/{key}" not in again}

    def _placed(self, small: Iterable[Arrays], first: int = 0) -> Arrays:
        return {
            f"{k}/{name}": self._pad(maps, LEVELS if name == "truth" else 0, (0, 1))
            for k, scene in enumerate(small, first)
            for name, maps in scene.items()
        }

    def _pad(self, maps: np.ndarray, fill: int = 0, axes: tuple[int, int] = (-2, -1)) -> np.ndarray:
        """Maps at the top left of the size that all have."""
        missing = [(0, 0)] * maps.ndim
        for axis, side in zip(axes, self.canvas):
            missing[axis] = (0, side - maps.shape[axis])
        return np.pad(maps, missing, constant_values=fill)


def cut(folder: Path, step: int) -> None:
    """Remove the snapshots from `step` on: they were written after the checkpoint that is resumed."""
    for file in folder.glob("*.npz"):
        if (match := re.fullmatch(r"(\d+)(_path|_roles)?", file.stem)) and int(match[1]) >= step:
            file.unlink()


def clear(folder: Path) -> None:
    """Remove all snapshots."""
    cut(folder, 0)
    for name in ("index.json", "images.npz"):
        (folder / name).unlink(missing_ok=True)


def _small(scene: Scene, box: int | tuple[int, int]) -> Arrays:
    image = torch.tensor(scene.image).permute(2, 0, 1)[None].float().div_(LEVELS)
    truth, valid = (picked(torch.tensor(maps), box).numpy() for maps in (scene.truth, scene.valid))
    return {"image": pictures(image, box)[0], "truth": truth, "valid": valid}


def _lost(size: tuple[int, int], stored: tuple[int, int], classes: int) -> str:
    """What the storing loses, for people."""
    words = "Weight, confidence, probabilities and entropy are rounded to levels of 1/255"
    if classes > TOP:
        words += f"; of {classes} classes the {TOP} most likely are kept"
    if tuple(size) != tuple(stored):
        share = 100 * stored[0] * stored[1] / (size[0] * size[1])
        words += f"; of the {size[0]} x {size[1]} pixels {stored[0]} x {stored[1]} were picked, {share:.0f} % of them"
    return words + ". Labels are exact."


def _index(folder: Path, index: dict) -> None:
    text = json.dumps(index, indent=1)
    write_atomic(folder / "index.json", lambda file: file.write(text.encode()))


def _write(path: Path, arrays: Arrays, more: bool = False) -> None:
    """Write arrays; `more`: beside those that the file has."""
    stored = {key: differences(a) if key.rpartition("/")[2] in SMOOTH else a for key, a in arrays.items()}
    if more and path.is_file():
        with opened(path) as there:
            stored = {key: there[key] for key in there.files} | stored
    write_atomic(path, lambda file: np.savez_compressed(file, **stored))
