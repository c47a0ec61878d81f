"""Snapshots: what a method believes of the probe images over the training, on disk; the writer and the lazy reader.

`RUN/probes/` holds `index.json` (classes, ids, sizes), `images.npz` (the pictures and their hidden truth), and for each
evaluated step `{step:07d}.npz` (the rule on an eval forward) and `{step:07d}_path.npz` (as trained, see `trace`). The
arrays are uint8 maps of one image each, so that a reader opens one image at a time. Bytes are kept low without loss: an
array that equals another is left out, and smooth ones are stored as differences of neighbouring pixels.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.task import VOID
from ..errors import S4Error
from ..methods.base import PseudoLabels
from .checkpoint import write_atomic
from .maps import SMOOTH, TOP, Arrays, beliefs, differences, picked, pictures, sums

VERSION = 1
LARGEST = 4096  # pixels of a side, images of a probe set: more is no snapshot
EVIDENCE = "rule on an eval forward"
FIELDS = ("label", "weight", "confidence", "top", "prob", "entropy")
EQUAL = {"label": "top", "confidence": "prob"}  # left out where it is the first plane of the other
LAYOUT = {"top": ((TOP,), ()), "prob": ((TOP,), ()), **dict.fromkeys(("image", "weak", "mixed"), ((), (3,)))}


# ---- the writer ----


class Writer:
    """Writes the snapshots of a run into `folder`.

    Args:
        folder: `RUN/probes`. classes, palette: of the task. side: longest side of what is stored, in pixels.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...], palette: tuple, side: int) -> None:
        self.folder, self.classes, self.palette, self.side = folder, classes, palette, side
        self.shown: dict[str, bytes] = {}  # pictures of the last path file: those that did not change are left out

    def images(self, images: Tensor, truth: Tensor, valid: Tensor, ids: list[str]) -> None:
        """Write `index.json` and `images.npz`.

        Args:
            images: (B, 3, S, S) in [0, 1]. truth: (B, S, S) long, 255 = unknown. valid: (B, S, S), 0 = padding.
        """
        crop = images.shape[-1]
        side = min(crop, self.side)
        self.folder.mkdir(exist_ok=True)
        parts = {
            "image": pictures(images, side),
            "truth": picked(truth, side).to(torch.uint8).cpu().numpy(),
            "valid": (picked(valid, side) > 0).to(torch.uint8).cpu().numpy(),
        }
        _write(self.folder / "images.npz", {f"{k}/{n}": a[k] for k in range(len(ids)) for n, a in parts.items()})
        index = {
            "version": VERSION,
            "classes": list(self.classes),
            "palette": [list(map(int, colour)) for colour in self.palette],
            "ids": ids,
            "height": side,
            "width": side,
            "crop": crop,
            "evidence": EVIDENCE,
            "lost": _lost(crop, side, len(self.classes)),
        }
        text = json.dumps(index, indent=1)
        write_atomic(self.folder / "index.json", lambda file: file.write(text.encode()))

    def step(self, step: int, labels: dict[str, PseudoLabels], probabilities: dict[str, Tensor]) -> None:
        """Write what the rule says of the probe images."""
        arrays: Arrays = {}
        for name, found in labels.items():
            for k, maps in enumerate(beliefs(found, probabilities[name], self.side)):
                for field, other in EQUAL.items():
                    if np.array_equal(maps[field], maps[other][0]):
                        del maps[field]
                arrays |= {f"{name}/{k}/{field}": values for field, values in maps.items()}
        _write(self.folder / f"{step:07d}.npz", arrays)

    def path(self, step: int, paths: dict[str, list[Arrays]]) -> None:
        """Write the images' way through a training step, see `trace.examples`."""
        arrays: Arrays = {}
        for name, examples in paths.items():
            for k, fields in enumerate(examples):
                for field, values in fields.items():
                    key = f"{name}/{k}/{field}"
                    if values.ndim == 3:
                        if self.shown.get(key) == (picture := values.tobytes()):
                            continue
                        self.shown[key] = picture
                    arrays[key] = values
        _write(self.folder / f"{step:07d}_path.npz", arrays)


def cut(folder: Path, step: int) -> None:
    """Remove the snapshots from `step` on: they were written after the checkpoint that is resumed."""
    for file in folder.glob("*.npz"):
        if (match := re.fullmatch(r"(\d+)(_path)?", file.stem)) and int(match[1]) >= step:
            file.unlink()


def clear(folder: Path) -> None:
    """Remove all snapshots."""
    cut(folder, 0)
    for name in ("index.json", "images.npz"):
        (folder / name).unlink(missing_ok=True)


def _lost(crop: int, side: int, classes: int) -> str:
    """What the storing loses, for people."""
    words = "Weight, confidence, probabilities and entropy are rounded to levels of 1/255"
    if classes > TOP:
        words += f"; of {classes} classes the {TOP} most likely are kept"
    if crop > side:
        words += (
            f"; of the {crop} x {crop} pixels {side} x {side} were picked, {100 * (side / crop) ** 2:.0f} % of them"
        )
    return words + ". Labels are exact."


def _write(path: Path, arrays: Arrays) -> None:
    stored = {key: differences(a) if key.rpartition("/")[2] in SMOOTH else a for key, a in arrays.items()}
    write_atomic(path, lambda file: np.savez_compressed(file, **stored))


# ---- the reader ----


class Snapshots:
    """The snapshots of a run, read one image at a time.

    Args:
        folder: `RUN/probes`.

    Attributes:
        classes, palette, ids: of the task and of the probe images.
        height, width: of the stored maps. crop: side of the crops that they were picked from.
        evidence: what the maps show. lost: what the storing has lost, for people.

    Raises:
        S4Error: the folder holds no snapshots, or they are from another version of the kit, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, file = folder, folder / "index.json"
        if not file.is_file():
            raise S4Error(
                f"{folder.parent} holds no snapshots to explore: {file} is missing. It was trained with probes=0 or by "
                "an older version of the kit, or has not come to its first evaluation."
            )
        try:
            index = json.loads(file.read_text())
            self.classes, self.ids = [str(c) for c in index["classes"]], [str(i) for i in index["ids"]]
            self.palette = [[int(level) for level in colour] for colour in index["palette"]]
            self.height, self.width, self.crop = (int(index[key]) for key in ("height", "width", "crop"))
            self.evidence, self.lost, version = str(index["evidence"]), str(index["lost"]), index["version"]
        except (KeyError, TypeError, ValueError) as error:
            raise S4Error(f"{file} is damaged ({error!r}); train the run again.") from error
        if version != VERSION:
            raise S4Error(f"{file} has version {version}, this kit reads {VERSION}; train the run again.")
        if not self._plausible():
            raise S4Error(f"{file} is damaged: its sizes, classes and colours make no sense; train the run again.")

    def _plausible(self) -> bool:
        """Whether the index can be true; the arrays are then held to it before they are unpacked."""
        sizes = 0 < self.height <= LARGEST and 0 < self.width <= LARGEST
        colours = all(len(rgb) == 3 and 0 <= min(rgb) <= max(rgb) <= 255 for rgb in self.palette)
        return sizes and colours and 0 < len(self.classes) == len(self.palette) <= VOID and 0 < len(self.ids) <= LARGEST

    def __len__(self) -> int:
        """Number of probe images."""
        return len(self.ids)

    @cached_property
    def steps(self) -> dict[str, list[int]]:
        """The recorded steps of each pseudo-label."""
        return self._steps(r"(\d+)")

    @cached_property
    def path_steps(self) -> dict[str, list[int]]:
        """The recorded steps of each path, see `Losses.see`."""
        return self._steps(r"(\d+)_path")

    def image(self, k: int) -> Arrays:
        """image (h, w, 3), truth (h, w) with 255 = unknown, valid (h, w) with 0 = padding; uint8."""
        file = self.folder / "images.npz"
        found = self._read(file, k, "image", "truth", "valid")
        self._check(file, found, "truth", "image", "valid")
        return found

    def read(self, step: int, name: str, k: int, *fields: str) -> Arrays:
        """The maps of one image at one step, see `beliefs`; with the label, those of the fields, by default all."""
        wanted = dict.fromkeys(("label", *(fields or FIELDS)))
        equal = {field: other for field, other in EQUAL.items() if field in wanted}
        found = self._read(self._file(step), f"{name}/{k}", *(wanted | dict.fromkeys(equal.values())))
        found = {field: found[other][0] for field, other in equal.items() if other in found} | found
        self._check(self._file(step), found, *wanted)
        return {field: found[field] for field in wanted}

    def examples(self, name: str) -> int:
        """Number of images of a path."""
        members = (m.rsplit("/", 2) for m in self._members(self._file(self.path_steps[name][0], "_path")))
        return len({parts[1] for parts in members if len(parts) == 3 and parts[0] == name})

    def path(self, step: int, name: str, k: int) -> Arrays:
        """One image's way through a training step.

        Returns:
            weak, mixed (h, w, 3) uint8; label, weight (h, w) uint8, missing where there are no pseudo-labels; loss
            (h, w) float32, what each pixel adds to the unlabelled term before its divisor.
        """
        found: Arrays = {}
        for earlier in reversed([s for s in self.path_steps[name] if s <= step]):  # unchanged pictures stand there
            wanted = {"weak", "mixed", *(("label", "weight", "loss") if earlier == step else ())} - found.keys()
            if not wanted:
                break
            found |= self._read(self._file(earlier, "_path"), f"{name}/{k}", *wanted)
        return found | {"loss": found["loss"].astype(np.float32)}

    def _check(self, file: Path, found: Arrays, labels: str, *others: str) -> None:
        """Raises S4Error where an array is missing or a label is none of the classes (255 is unknown in the truth)."""
        for name in (labels, *others):
            if name not in found:
                raise S4Error(f"{file} is damaged: it has no {name} of some image; train the run again.")
        values = found[labels]
        if ((values >= len(self.classes)) & ((labels == "label") | (values != VOID))).any():
            raise S4Error(f"{file} has labels beyond the {len(self.classes)} classes; train the run again.")

    # ---- files ----

    def _file(self, step: int, kind: str = "") -> Path:
        return self.folder / f"{step:07d}{kind}.npz"

    def _steps(self, pattern: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for file in sorted(self.folder.glob("*.npz")):
            if match := re.fullmatch(pattern, file.stem):
                for name in dict.fromkeys(member.rsplit("/", 2)[0] for member in self._members(file)):
                    found.setdefault(name, []).append(int(match[1]))
        return found

    def _members(self, file: Path) -> list[str]:
        with _opened(file) as arrays:
            return arrays.files

    def _read(self, file: Path, of: str | int, *fields: str) -> Arrays:
        """Those of the arrays `<of>/<field>` that the file has, unpacked and checked."""
        with _opened(file) as arrays:
            there = [field for field in fields if f"{of}/{field}" in arrays]
            found = {field: self._array(arrays, f"{of}/{field}", *LAYOUT.get(field, ((), ()))) for field in there}
        return {field: sums(maps) if field in SMOOTH else maps for field, maps in found.items()}

    def _array(self, arrays: Any, key: str, lead: tuple[int, ...], tail: tuple[int, ...]) -> np.ndarray:
        """One array; what its header says is checked first, so that a file from elsewhere cannot fill the memory."""
        with arrays.zip.open(f"{key}.npy") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{key} is of another format")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            if shape != (*lead, self.height, self.width, *tail) or dtype not in (np.uint8, np.float16):
                raise ValueError(f"{key} is {dtype} {shape}")
            data = file.read(math.prod(shape) * dtype.itemsize)
        flat = np.frombuffer(data, dtype)
        return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise S4Error(f"{file} is missing or damaged ({error}); train the run again.") from error
