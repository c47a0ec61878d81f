"""Snapshots: what a method believes of the watched images over the training, on disk; the lazy reader.

`RUN/probes/` holds `index.json` (classes, ids, sizes), `images.npz` (the pictures and their hidden truth), and for each
evaluated step `{step:07d}.npz` (the rule on an eval forward), `{step:07d}_path.npz` (as trained, see `trace`) and where
the method contrasts features, `{step:07d}_roles.npz` (who takes part in that, see `roles`: points and pictures). The
other arrays are uint8 maps of one image each, so that a reader opens one image at a time. All have one size: what is
smaller is padded right and below. Bytes are kept low without loss: an array that equals another is left out, and smooth
ones are stored as differences of neighbouring pixels. An image that was added later has the steps of the stored
checkpoints alone. `writer` writes them.
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

from ..data.task import VOID
from ..errors import S4Error
from ..methods.parts.roles import ROLES
from .maps import SMOOTH, TOP, Arrays, sums

VERSION = 1
LARGEST = 4096  # pixels of a side, images of a probe set: more is no snapshot
EVIDENCE = "rule on an eval forward"
FIELDS = ("label", "weight", "confidence", "top", "prob", "entropy")
ALSO = ("object",)  # where the method has said it
EQUAL = {"label": "top", "confidence": "prob"}  # left out where it is the first plane of the other
LAYOUT = {"top": ((TOP,), ()), "prob": ((TOP,), ()), **dict.fromkeys(("image", "weak", "mixed"), ((), (3,)))}
POINTS = dict.fromkeys(("role", "label", "own", "image", "cosine"), (None,))
POINTS |= {"place": (None, 2), "pixel": (None, 2), "share": (1,)}  # of those who take part in a contrast
MANY = 65_536  # of these, at most
KINDS = ("unlabelled", "labelled", "val", "unused")


class Snapshots:
    """The snapshots of a run, read one image at a time.

    Args:
        folder: `RUN/probes`.

    Attributes:
        classes, palette, ids: of the task and of the watched images. kinds: the list that each is in, see `KINDS`.
        height, width: of the stored maps. crop: longest side of the images or crops that they were picked from.
        path_size: (height, width) of the stored ways through a training step. path_ids: by path, the id of the image
            that each of them begins with, "" where it is not known; older runs have none.
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
            self.path_size = tuple(int(side) for side in index.get("path", (self.height, self.width)))
            self.kinds = [str(kind) for kind in index.get("kinds", ["unlabelled"] * len(self.ids))]
            self.path_ids = {str(path): [str(i) for i in ids] for path, ids in index.get("path_ids", {}).items()}
            self.evidence, self.lost, version = str(index["evidence"]), str(index["lost"]), index["version"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise S4Error(f"{file} is damaged ({error!r}); train the run again.") from error
        if version != VERSION:
            raise S4Error(f"{file} has version {version}, this kit reads {VERSION}; train the run again.")
        if not self._plausible():
            raise S4Error(f"{file} is damaged: its sizes, classes and colours make no sense; train the run again.")

    def _plausible(self) -> bool:
        """Whether the index can be true; the arrays are then held to it before they are unpacked."""
        sides = (self.height, self.width, *self.path_size)
        sizes = all(0 < side <= LARGEST for side in sides) and len(sides) == 4
        colours = all(len(rgb) == 3 and 0 <= min(rgb) <= max(rgb) <= 255 for rgb in self.palette)
        kinds = len(self.kinds) == len(self.ids) and set(self.kinds) <= set(KINDS)
        amounts = 0 < len(self.classes) == len(self.palette) <= VOID and 0 < len(self.ids) <= LARGEST
        return sizes and colours and kinds and amounts

    def __len__(self) -> int:
        """Number of probe images."""
        return len(self.ids)

    @cached_property
    def steps(self) -> dict[str, list[int]]:
        """The recorded steps of each pseudo-label."""
        return self._steps("")

    @cached_property
    def path_steps(self) -> dict[str, list[int]]:
        """The recorded steps of each path, see `Losses.see`."""
        return self._steps("_path")

    def recorded(self, name: str, k: int) -> list[int]:
        """The steps of a pseudo-label at which this image was looked at: all, or those of the stored checkpoints."""
        return [step for step in self.steps[name] if (name, str(k)) in self._held[step, ""]]

    def image(self, k: int) -> Arrays:
        """image (h, w, 3), truth (h, w) with 255 = unknown, valid (h, w) with 0 = padding; uint8."""
        file = self.folder / "images.npz"
        found = self._read(file, k, (self.height, self.width), "image", "truth", "valid")
        self._check(file, found, "truth", "image", "valid")
        return found

    def read(self, step: int, name: str, k: int, *fields: str) -> Arrays:
        """The maps of one image at one step, see `beliefs`; with the label, those of the fields, by default all."""
        asked = ("label", *(fields or (*FIELDS, *ALSO)))
        wanted, also = (dict.fromkeys(f for f in asked if (f in ALSO) == there) for there in (False, True))
        equal = {field: other for field, other in EQUAL.items() if field in wanted}
        fields = (*wanted, *also, *(other for other in equal.values() if other not in wanted))
        found = self._read(self._file(step), f"{name}/{k}", (self.height, self.width), *fields)
        found = {field: found[other][0] for field, other in equal.items() if other in found} | found
        self._check(self._file(step), found, *wanted)
        return {field: found[field] for field in (*wanted, *also) if field in found}

    def examples(self, name: str) -> int:
        """Number of images of a path."""
        return sum(path == name for path, _ in self._held[self.path_steps[name][0], "_path"])

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
            found |= self._read(self._file(earlier, "_path"), f"{name}/{k}", self.path_size, *wanted)
        return found | {"loss": found["loss"].astype(np.float32)}

    @cached_property
    def role_steps(self) -> dict[str, list[int]]:
        """The recorded steps of each contrast."""
        return self._steps("_roles")

    def roles(self, step: int, name: str) -> tuple[Arrays, np.ndarray]:
        """Who takes part in a contrast, and its pictures, as `roles.arranged` gives them.

        Raises:
            S4Error: the file is missing or damaged.
        """
        file = self._file(step, "_roles")
        with opened(file) as arrays:
            points = {field: _array(arrays, f"{name}/points/{field}", shape) for field, shape in POINTS.items()}
        counts = {len(points[field]) for field, shape in POINTS.items() if shape[0] is None}
        known = points["own"][points["own"] != VOID]
        if (
            len(counts) > 1
            or max(*points["label"], *known, 0) >= len(self.classes)
            or max(points["role"]) >= len(ROLES)
        ):
            raise S4Error(f"{file} is damaged: the parts of {name!r} make no sense; train the run again.")
        images, k = [], 0
        steps = [s for s in self.role_steps[name] if s <= step][::-1]
        while file := next((self._file(s, "_roles") for s in steps if (name, str(k)) in self._held[s, "_roles"]), None):
            images.append(self._read(file, f"{name}/{k}", self.path_size, "image")["image"])
            k += 1
        return points, np.stack(images)

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

    def _steps(self, kind: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for (step, of), held in self._held.items():
            for name in dict.fromkeys(name for name, _ in held) if of == kind else ():
                found.setdefault(name, []).append(step)
        return found

    @cached_property
    def _held(self) -> dict[tuple[int, str], dict[tuple[str, str], None]]:
        """By step and kind of file, what it has: (pseudo-label or path, image), in order."""
        found = {}
        for file in sorted(self.folder.glob("*.npz")):
            if match := re.fullmatch(r"(\d+)(_path|_roles)?", file.stem):
                with opened(file) as arrays:
                    held = dict.fromkeys(tuple(member.rsplit("/", 2)[:2]) for member in arrays.files)
                found[int(match[1]), match[2] or ""] = {key: None for key in held if len(key) == 2}
        return found

    def _read(self, file: Path, of: str | int, size: tuple[int, int], *fields: str) -> Arrays:
        """Those of the arrays `<of>/<field>` that the file has, maps of a size, unpacked and checked."""
        with opened(file) as arrays:
            layout = {field: LAYOUT.get(field, ((), ())) for field in fields if f"{of}/{field}" in arrays}
            found = {f: _array(arrays, f"{of}/{f}", (*lead, *size, *tail)) for f, (lead, tail) in layout.items()}
        return {field: sums(maps) if field in SMOOTH else maps for field, maps in found.items()}


def _array(arrays: Any, key: str, wanted: tuple[int | None, ...]) -> np.ndarray:
    """One array; what its header says is checked first, so that a file from elsewhere cannot fill the memory. A side of
    None may have up to `MANY`."""
    with arrays.zip.open(f"{key}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{key} is of another format")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        fits = len(shape) == len(wanted) and all(n == w or (w is None and n <= MANY) for n, w in zip(shape, wanted))
        if not fits or dtype not in (np.uint8, np.float16):
            raise ValueError(f"{key} is {dtype} {shape}")
        data = file.read(math.prod(shape) * dtype.itemsize)
    flat = np.frombuffer(data, dtype)
    return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """The arrays of an .npz file by name.

    Raises:
        S4Error: it is missing or damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise S4Error(f"{file} is missing or damaged ({error}); train the run again.") from error
