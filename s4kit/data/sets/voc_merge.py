"""VOC 2012 and SBD as one: SBD's .mat masks become index PNGs beside VOC's own, with the list of 10582 images.

SBD (Hariharan et al., ICCV 2011) draws 11355 images of VOC 2011; 2237 of them have VOC's own mask, too. The published
protocols, classic and blended alike, read one folder, SegmentationClassAug: VOC's mask wherever there is one (2913
images, void at the borders), SBD's for the other 9118 (no void). That is what "voc-first" makes. "sbd-first" makes the
folder SegmentationClassSBD with SBD's masks of all 11355.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import S4Error
from ..catalog import need_folder, stems
from ..decode import LABEL_SUFFIXES, decode_label, header_size, id_table, map_ids
from ..fetching.download import Progress, refused
from ..reading.parallel import each
from ..splitting.lists import ids_of

FOLDERS = {"voc-first": "SegmentationClassAug", "sbd-first": "SegmentationClassSBD"}
PUBLISHED = "d1326bd532648d73bc4b1bd275434eba81930982dc7401a65a8cecb26c028e24"  # sha256 of the list of 10582, sorted


@dataclass(frozen=True)
class Merged:
    """What `merge_sbd` did.

    Attributes:
        folder: of the masks.
        made: masks written now; those that were there stay.
        voc, sbd: masks in the folder by where they come from.
        listed: images of trainaug.txt.
        published: whether that list is the published one of 10582.
    """

    folder: str
    made: int
    voc: int
    sbd: int
    listed: int
    published: bool

    def __str__(self) -> str:
        kind = "the published list" if self.published else "NOT the published list of 10582: SBD or VOC is incomplete"
        return (
            f"{self.folder}: {self.voc} masks of VOC, {self.sbd} of SBD ({self.made} written now); trainaug.txt names "
            f"{self.listed} images, {kind}"
        )


def merge_sbd(
    voc: str | os.PathLike,
    sbd: str | os.PathLike,
    masks: str = "voc-first",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Write SBD's masks into VOC's folder as PNGs of class indices (0..20; 255 = void), and trainaug.txt.

    Each mask is written whole or not at all; masks that are there are left alone, so that a second call goes on.

    Args:
        voc: the folder with JPEGImages.
        sbd: the folder with SBD's `cls`, or one that holds benchmark_RELEASE/dataset/cls.
        masks: "voc-first": SegmentationClassAug as in the papers' releases; "sbd-first": SegmentationClassSBD.
        workers: processes; see `parallel.each`.
        progress: called with (done, of how many, "masks").

    Raises:
        S4Error: a folder is missing, files are broken (names them; the good ones are written), or scipy is missing.
    """
    if masks not in FOLDERS:
        raise S4Error(f"masks={masks!r}: SBD is merged {' or '.join(FOLDERS)}.")
    folder, source = Path(voc), find_sbd(Path(sbd))
    drawn = stems(source, (".mat",))
    if not drawn:
        raise S4Error(f"SBD: {source} holds no .mat file. Unpack benchmark.tgz again.")
    own = stems(need_folder(folder / "SegmentationClass", "VOC", "the folder of VOC 2012"), LABEL_SUFFIXES)
    _need_scipy()
    target = folder / FOLDERS[masks]
    target.mkdir(exist_ok=True)
    paths = {name: str(source / file) for name, file in drawn.items()}
    if masks == "voc-first":
        paths |= {name: str(folder / "SegmentationClass" / file) for name, file in own.items()}
    there = stems(target, (".png",))
    jobs = sorted((name, path) for name, path in paths.items() if name not in there)
    told = progress and (lambda done, total: progress(done, total, "masks"))
    found = each(partial(_convert, str(folder / "JPEGImages"), str(target)), jobs, workers, told)
    broken = [problem for problem in found if problem]
    if broken:
        raise S4Error(
            f"{len(broken)} of {len(jobs)} masks could not be made (the others are in {target}):\n  "
            + "\n  ".join(broken[:10])
            + ("\n  ..." if len(broken) > 10 else "")
        )
    listed = _train_list(folder, drawn)
    of_voc = sum(path.endswith(LABEL_SUFFIXES) for path in paths.values())
    right = hashlib.sha256("".join(f"{name}\n" for name in sorted(listed)).encode()).hexdigest() == PUBLISHED
    return Merged(str(target), len(jobs), of_voc, len(paths) - of_voc, len(listed), right)


def find_sbd(root: Path) -> Path:
    """The folder `cls` of SBD at or below `root`.

    Raises:
        S4Error: there is none.
    """
    for below in ("", "cls", "dataset/cls", "benchmark_RELEASE/dataset/cls"):
        if (root / below).name == "cls" and (root / below).is_dir():
            return root / below
    return need_folder(root / "benchmark_RELEASE" / "dataset" / "cls", "SBD", "the unpacked benchmark.tgz")


def decode_mat(path: str) -> np.ndarray:
    """(H, W) uint8 of SBD's file: 0 = background, 1..20; SBD has no void.

    Raises:
        S4Error: the file is damaged or is no mask of SBD.
    """
    from scipy.io import loadmat

    try:
        stored = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"].flat[0]
        return np.ascontiguousarray(stored, dtype=np.uint8)
    except Exception as why:  # scipy raises whatever the bytes lead it to
        raise S4Error(
            f"{path} cannot be read as a mask of SBD ({type(why).__name__}: {why}). Unpack benchmark.tgz again."
        ) from None


def _need_scipy() -> None:
    try:
        import scipy.io  # noqa: F401
    except ImportError:
        raise S4Error("SBD's .mat files are read with scipy: pip install scipy (or s4kit[data]).") from None


def _convert(images: str, target: str, job: tuple[str, str]) -> str | None:
    """Write one mask; what is wrong with it, or None."""
    name, path = job
    try:
        stored = decode_mat(path) if path.endswith(".mat") else decode_label(path)
        mask = map_ids(stored, id_table(21), path)
        picture = os.path.join(images, f"{name}.jpg")
        if os.path.exists(picture) and header_size(picture) != mask.shape:
            height, width = header_size(picture)
            raise S4Error(f"{path} is {mask.shape[1]} x {mask.shape[0]} but {picture} is {width} x {height} pixels.")
        save_mask(mask, os.path.join(target, f"{name}.png"))
    except S4Error as why:
        return str(why)
    return None


def save_mask(mask: np.ndarray, path: str) -> None:
    """Write a (H, W) uint8 index map as a grey PNG, whole or not at all.

    Raises:
        S4Error: the disk refuses.
    """
    part = f"{path}.{os.getpid()}.part"
    try:
        Image.fromarray(mask).save(part, format="png")
        os.replace(part, path)
    except OSError as why:
        if os.path.exists(part):
            os.unlink(part)
        raise refused(Path(path), why) from None


def _train_list(folder: Path, drawn: Sequence[str]) -> list[str]:
    """trainaug.txt: VOC's training images and SBD's, without VOC's validation images. One that is there stays."""
    lists = need_folder(folder / "ImageSets" / "Segmentation", "VOC", "train.txt and val.txt")
    path = lists / "trainaug.txt"
    if not path.is_file():
        train, val = (set(_ids(lists / f"{name}.txt")) for name in ("train", "val"))
        part = path.with_name("trainaug.txt.part")
        part.write_text("".join(f"{name}\n" for name in sorted((train | set(drawn)) - val)))
        os.replace(part, path)
    return _ids(path)


def _ids(path: Path) -> list[str]:
    if not path.is_file():
        raise S4Error(f"VOC: the list {path} is missing. Unpack VOCtrainval_11-May-2012.tar again.")
    return ids_of(path)
