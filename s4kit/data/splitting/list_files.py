"""The files of published lists: fetched from the source at its pinned commit, checked, kept; never part of the kit.

A list is kept as its ids, one a line, in the order of the source: what the sha256 of `published.json` is of. Sources
write the same ids bare (with either line ending), as "JPEGImages/ID.jpg SegmentationClass/ID.png", as Cityscapes paths
or as the flat paths of CPS ("/images/train/jena_000078_000019.png<TAB>..."); all are read.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import S4Error
from ..fetching.cache import cache_folder
from ..fetching.download import fetch
from ..reading.text import read_text
from .lists import bare

MIRRORS = (
    "https://raw.githubusercontent.com/{repo}/{commit}/{path}",
    "https://github.com/{repo}/raw/{commit}/{path}",
)
STAND_IN = "S4KIT_SPLITS"
PAUSE = 1.0  # seconds before an attempt is repeated


@dataclass(frozen=True)
class ListFile:
    """One list as published.

    Attributes:
        name: for messages, "voc/classic/183".
        file: where it lies in a folder of lists, "voc_classic/183/labeled.txt".
        dataset: decides the form of the ids.
        count, sha256: of the ids.
        repo, commit, path: of the source on GitHub.
    """

    name: str
    file: str
    dataset: str
    count: int
    sha256: str
    repo: str
    commit: str
    path: str

    def urls(self, bases: Sequence[str] = MIRRORS) -> list[str]:
        """The addresses of the source."""
        return [base.format(repo=self.repo, commit=self.commit, path=self.path) for base in bases]


def splits_folder() -> Path:
    """Where fetched lists are kept: $S4KIT_DATA/splits, by default ./data/splits."""
    return Path(os.environ.get("S4KIT_DATA", "data")) / "splits"


def parse(text: str, dataset: str) -> list[str]:
    """The ids of a list in any form that a source has, in its order."""
    lines = (line.split() for line in text.removeprefix("\ufeff").splitlines())
    return [_id(words[0], dataset) for words in lines if words]


def _id(word: str, dataset: str) -> str:
    name = bare(word)
    return f"{name.split('_')[0]}/{name}" if dataset == "cityscapes" else name


def digest(ids: Sequence[str]) -> str:
    """sha256 of the ids, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in ids).encode()).hexdigest()


def read(wanted: ListFile, source: str | os.PathLike | None = None, beside: str | None = None) -> tuple[str, ...]:
    """The ids of a list: from the stand-in for the network, else as kept, else fetched and kept.

    Args:
        wanted: which list.
        source: instead of the network: a folder with lists (as `ListFile.file` names them), or the address that stands
            before "/REPO/COMMIT/PATH". By default $S4KIT_SPLITS, else GitHub.
        beside: a further folder to look in, such as the one of the data set.

    Raises:
        S4Error: not to be had, or what is there is not the published list; says what to do by hand.
    """
    source = _stand_in(source)
    if source is not None and not _is_address(source):
        return _from_folder(wanted, Path(source).expanduser())
    here = kept(wanted, source, beside)
    if here is not None:
        return _ids(here, wanted)
    urls = wanted.urls(MIRRORS if source is None else [f"{str(source).rstrip('/')}/{{repo}}/{{commit}}/{{path}}"])
    ids = _fetched(wanted, urls)
    for folder in _places()[:2]:  # the second is found from any folder
        _keep(folder / wanted.file, ids)
    return ids


def kept(wanted: ListFile, source: str | os.PathLike | None = None, beside: str | None = None) -> Path | None:
    """The file on this machine that holds a list, and rightly; None where there is none. Arguments as in `read`."""
    source = _stand_in(source)
    folders = [Path(source).expanduser()] if source is not None and not _is_address(source) else _places(beside)
    paths = (folder / wanted.file for folder in folders)
    return next((path for path in paths if path.is_file() and _why_not(path, wanted) is None), None)


def _stand_in(source: str | os.PathLike | None) -> str | os.PathLike | None:
    return source if source is not None else os.environ.get(STAND_IN) or None


def _is_address(source: str | os.PathLike) -> bool:
    return str(source).startswith(("http://", "https://"))


def _places(beside: str | None = None) -> list[Path]:
    """Folders where fetched lists may be: that of the data, the user's cache, and one more."""
    spare = cache_folder()
    return [splits_folder(), *([spare / "splits"] if spare else []), *([Path(beside)] if beside else [])]


def _from_folder(wanted: ListFile, folder: Path) -> tuple[str, ...]:
    path = folder / wanted.file
    if not path.is_file():
        raise S4Error(
            f"{wanted.name}: {path} does not exist. Lists are taken from {folder} ({STAND_IN}, source=) instead of the "
            f"network; put the list there ({wanted.urls()[0]}), or unset {STAND_IN}."
        )
    if wrong := _why_not(path, wanted):
        raise S4Error(f"{wanted.name}: {path} is not the published list: {wrong}. Save {wanted.urls()[0]} there.")
    return _ids(path, wanted)


def _ids(path: Path, wanted: ListFile) -> tuple[str, ...]:
    return tuple(parse(read_text(path), wanted.dataset))


def _why_not(path: Path, wanted: ListFile) -> str | None:
    """Why a file is not the wanted list; None where it is."""
    try:
        ids = _ids(path, wanted)
    except S4Error as why:
        return str(why)
    if len(ids) != wanted.count:
        return f"{len(ids)} ids, published are {wanted.count}"
    found = digest(ids)
    return None if found == wanted.sha256 else f"sha256 of its ids {found[:12]}..., published {wanted.sha256[:12]}..."


def _fetched(wanted: ListFile, urls: Sequence[str]) -> tuple[str, ...]:
    """The ids from the first address whose file is the published list."""
    places = (folder / wanted.file for folder in _places())
    told = [f"  {path}: not the published list ({_why_not(path, wanted)})" for path in places if path.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        for number, url in enumerate(urls):
            path = Path(folder) / f"{number}.txt"
            try:
                fetch(path, [url], pause=PAUSE)
            except S4Error as why:
                told += [line for line in str(why).splitlines() if line.startswith("  ")] or [f"  {url}: {why}"]
                continue
            wrong = _why_not(path, wanted)
            if wrong is None:
                return _ids(path, wanted)
            told.append(f"  {url}: not the published list ({wrong})")
    raise S4Error(
        "\n".join([f"The published list {wanted.name} could not be fetched:", *told])
        + f"\nBy hand: save {wanted.urls()[0]} as {splits_folder() / wanted.file} (as it is: its form is read), or set "
        f"{STAND_IN} to a folder that holds it as {wanted.file}."
    )


def _keep(path: Path, ids: Sequence[str]) -> None:
    """Write a list, whole or not at all; a disk that refuses costs the next call a download."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")  # several processes may keep the same list
        part.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")
        os.replace(part, path)
    except OSError as why:
        print(f"{path} could not be kept ({why}): the list will be fetched again.", file=sys.stderr)
