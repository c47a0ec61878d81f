"""Published splits by name: which list, where it comes from, who is unlabelled under it.

`published.json` beside this file has the facts; the lists are fetched when they are asked for (`list_files`); which
names are understood is in `split_names`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import S4Error, closest
from ..task import Source
from .list_files import ListFile, kept, read
from .split_names import flagged, index, is_name, names, resolve

__all__ = ["Split", "flagged", "get", "index", "is_name", "names", "read_list", "resolve", "rows_under"]


@dataclass(frozen=True)
class Split:
    """A published split. The facts are at hand; the ids are fetched at their first use.

    Attributes:
        name: canonical.
        dataset: "voc", "cityscapes", "coco" or "ade20k".
        family: whose lists: "classic", "cps", "u2pl", ...
        fraction: "1/16", or "" where the protocol counts images.
        count, unlabelled_count: images.
        trains_on: name of the training list, whose other images are unlabelled.
        shared: ids that the published lists have in both, labelled and unlabelled.
        file: the labelled list.
        note: what to know about it.
        same: who else uses the same labelled images.
        images_showing: images of the labelled list per class, as counted on the masks; () where unknown.
        pixel_share: likewise the share of each class among the labelled pixels, void left out.
        source: where lists are taken from, see `list_files.read`.
        beside: a further folder with lists.
    """

    name: str
    dataset: str
    family: str
    fraction: str
    count: int
    unlabelled_count: int
    trains_on: str
    shared: tuple[str, ...]
    file: ListFile
    note: str
    same: str
    images_showing: tuple[int, ...] = ()
    pixel_share: tuple[float, ...] = ()
    source: str | os.PathLike | None = None
    beside: str | None = None

    @cached_property
    def labelled(self) -> tuple[str, ...]:
        """Ids, in the order of the source."""
        return read(self.file, self.source, self.beside)

    @cached_property
    def train(self) -> tuple[str, ...] | None:
        """Ids of all training images; None where the protocol takes whatever the data set has (COCO)."""
        known = index()["lists"][self.trains_on]
        if "numbered" in known:
            return tuple(known["numbered"].format(number) for number in range(1, known["count"] + 1))
        return read(_file(self.trains_on, known), self.source, self.beside) if "sha256" in known else None

    @cached_property
    def unlabelled(self) -> tuple[str, ...] | None:
        """Ids, in the order of the training list; None as for `train`."""
        return None if self.train is None else tuple(self.rest(self.train))

    def rest(self, train: Sequence[str]) -> list[str]:
        """Those of the training ids that are unlabelled under this protocol."""
        taken = set(self.labelled) - set(self.shared)
        return [name for name in train if name not in taken]

    @property
    def train_count(self) -> int:
        """Images of the training list."""
        return index()["lists"][self.trains_on]["count"]

    @property
    def rule(self) -> str:
        """Who is unlabelled, in words."""
        words = f"unlabelled: the other images of {self.trains_on} ({self.train_count})"
        both = f"{len(self.shared)} labelled image{'s' if len(self.shared) > 1 else ''}"
        return f"{words} and, as published, {both}" if self.shared else words

    @property
    def protocol(self) -> str:
        """For `Task.protocol`: the name and the counts."""
        both = f", {len(self.shared)} in both as published" if self.shared else ""
        return f"{self.name} ({self.count} labelled, {self.unlabelled_count} unlabelled of {self.trains_on}{both})"

    def where(self) -> str | None:
        """The file that holds the labelled list on this machine; None where it has not been fetched yet."""
        path = kept(self.file, self.source, self.beside)
        return None if path is None else str(path)

    def facts(self) -> dict[str, Any]:
        """All that is known without the list, for tables and JSON."""
        return {
            "name": self.name,
            "dataset": self.dataset,
            "family": self.family,
            "fraction": self.fraction or None,
            "labelled": self.count,
            "unlabelled": self.unlabelled_count,
            "rule": self.rule,
            "source": f"https://github.com/{self.file.repo}/blob/{self.file.commit}/{self.file.path}",
            "sha256": self.file.sha256,
            "same": self.same or None,
            "note": self.note,
        }

    def __str__(self) -> str:
        return "\n".join(f"{key:<10} {'—' if value is None else value}" for key, value in self.facts().items())


def get(name: str, source: str | os.PathLike | None = None, dataset: str | None = None) -> Split:
    """A published split by name; see `names`. Nothing is fetched yet.

    Args:
        name: "voc/classic/183", or, with `dataset`, without its first word; fractions as 1_8 or 1/8.
        source: instead of the network, a folder of lists or an address; see `list_files.read`.
        dataset: the data set that it is for.

    Raises:
        S4Error: no such split, or one of another data set.
    """
    return _split(resolve(name, dataset), source)


def _split(name: str, source: str | os.PathLike | None = None, beside: str | None = None) -> Split:
    known = index()["splits"][name]
    return Split(
        name=name,
        dataset=name.split("/")[0],
        family=known["family"],
        fraction=known["fraction"],
        count=known["count"],
        unlabelled_count=known["unlabelled"],
        trains_on=known["train"],
        shared=tuple(known.get("shared", ())),
        file=_file(name, known),
        note=known["note"],
        same=known["same"],
        images_showing=tuple(known.get("images_showing", ())),
        pixel_share=tuple(known.get("pixel_share", ())),
        source=source,
        beside=beside,
    )


def _file(name: str, known: Mapping[str, Any]) -> ListFile:
    origin = index()["sources"][known["source"]]
    where = {key: known[key] for key in ("file", "count", "sha256", "path")}
    return ListFile(name=name, dataset=name.split("/")[0], **where, **origin)


def read_list(name: str, source: str | os.PathLike | None = None) -> tuple[str, ...]:
    """The ids of a training or validation list: "voc/train_aug", "voc/train", "voc/val", "cityscapes/val", ...

    Raises:
        S4Error: no such list, or it cannot be fetched.
    """
    known = {key: of for key, of in index()["lists"].items() if "sha256" in of}
    if name not in known:
        raise S4Error(f"There is no published list {name!r}. {closest(name, list(known))}")
    return read(_file(name, known[name]), source)


def rows_under(
    name: str, dataset: str, train: Source, root: str | None = None
) -> tuple[Split, list[int], list[int], list[int]]:
    """The split, rows of its labelled images in its order, of its unlabelled ones, and of its whole training list.

    Args:
        name: as in `get`.
        dataset: the data set. train: its training images. root: where it lies; lists beside it are found, too.

    Raises:
        S4Error: the list cannot be had, or the data set lacks images of the protocol; names the list, the first missing
            image and what to do.
    """
    split = _split(resolve(name, dataset), beside=str(Path(root).parent / "splits") if root else None)
    row = {image: number for number, image in enumerate(train.ids)}
    wanted = split.train
    if wanted is None:
        wanted = train.ids
        if len(wanted) != split.train_count:
            raise S4Error(_lacking(split, train, f"has {len(wanted)} training images instead of {split.train_count}"))
    missing = [image for image in (*split.labelled, *wanted) if image not in row]
    if missing:
        many = len(dict.fromkeys(missing))
        raise S4Error(_lacking(split, train, f"lacks {many} of its {split.train_count} images (first: {missing[0]})"))
    parts = (split.labelled, split.rest(wanted), wanted)
    return (split, *([row[image] for image in part] for part in parts))


def _lacking(split: Split, train: Source, what: str) -> str:
    mend = {
        "voc": "The published lists need VOC 2012 with SBD's masks and its list ImageSets/Segmentation/trainaug.txt: "
        "`s4kit data get voc` fetches and merges them",
    }.get(split.dataset, f"Complete it: `s4kit data get {split.dataset}` says how")
    return (
        f"{split.name}: the data set at hand {what}; ids there look like {train.ids[0]!r}. {mend}; `s4kit data check "
        f"{split.dataset}` says what is incomplete. To use only a part of it, give a list of your own as `labelled`."
    )
