"""The names of published splits.

A *canonical* name says the family wherever two exist: "voc/cps/1323" and "voc/u2pl/1323" are different lists. Others
are understood ("voc/cps/1_8", or "classic/183" where the data set is known); what every table, run and title shows is
the canonical one.
"""

from __future__ import annotations

import json
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import S4Error, closest

INDEX = Path(__file__).with_name("published.json")
# Where a name without family has two meanings: the one taken (the one that most papers mean), said aloud.
TAKEN = {"voc/blended": "cps", "cityscapes": "cps"}
OTHER = {"voc/blended": "u2pl", "cityscapes": "u2pl"}


@lru_cache(maxsize=1)
def index() -> dict[str, Any]:
    """The facts: "sources", "lists" (training and validation), "splits"; "about" explains the fields."""
    return json.loads(INDEX.read_text(encoding="utf-8"))


def names(dataset: str | None = None) -> list[str]:
    """Canonical names of all published splits, or of one data set's."""
    return [name for name in index()["splits"] if dataset is None or name.split("/")[0] == dataset]


@lru_cache(maxsize=1)
def _aliases() -> dict[str, str]:
    """Every understood name, in full, with its canonical one."""
    found: dict[str, str] = {}
    for name, known in index()["splits"].items():
        found[name] = name
        dataset, family, fraction = name.split("/")[0], known["family"], known["fraction"].replace("/", "_")
        if not fraction:
            continue
        places = [f"{dataset}/{family}"]
        places += [place for place, taken in TAKEN.items() if place.split("/")[0] == dataset and taken == family]
        places += [dataset] if dataset in ("coco", "ade20k") else []
        for place in places:
            found |= {f"{place}/{fraction}": name, f"{place}/{known['count']}": name}
    return found


def is_name(labelled: Any) -> bool:
    """Whether `labelled` of `load` is meant as the name of a published split: "voc/classic/183", "cps/1_8", "1_8"."""
    if not isinstance(labelled, str) or labelled.endswith((".txt", ".lst")) or os.path.isfile(labelled):
        return False
    return bool(re.fullmatch(r"[a-z]\w*(/\w+)+|\d+_\d+", labelled.strip().lower()))


def resolve(name: str, dataset: str | None = None) -> str:
    """The canonical name of a published split.

    A name that two families share is taken as `TAKEN` says, and stderr tells so.

    Args:
        name: as in `get`.
        dataset: the data set that it is for; without one the name must say it, unless only one has such a split.

    Raises:
        S4Error: no such split; offers the closest names.
    """
    text = re.sub(r"(^|/)1/(\d+)$", r"\g<1>1_\g<2>", str(name).strip().lower().strip("/"))
    known, first = _aliases(), text.split("/")[0]
    datasets = list(dict.fromkeys(key.split("/")[0] for key in known))
    if dataset is not None and first in datasets and first != dataset:
        raise S4Error(f"{name} is a split of {first}, not of {dataset}: leave one of the two out, or make them agree.")
    if dataset is not None and dataset not in datasets:
        raise S4Error(f"There is no published split for {dataset}; there are some for {', '.join(datasets)}.")
    places = [""] if first in datasets else [f"{d}/" for d in ([dataset] if dataset else datasets)]
    found = [place + text for place in places if place + text in known]
    if not found:
        raise S4Error(_unknown(name, text, dataset or (first if first in datasets else None)))
    if len(found) > 1:
        raise S4Error(f"{name} may be {' or '.join(found)}: write the name in full, or say which data set.")
    _say_family(found[0], known[found[0]])
    return known[found[0]]


def _unknown(name: str, text: str, dataset: str | None) -> str:
    last = text.split("/")[-1]
    ending = [key for key in _aliases() if key.split("/")[-1] == last and (dataset or "") in key.split("/")[0]]
    meant = list(dict.fromkeys(_aliases()[key] for key in ending))
    near = f"Did you mean {' or '.join(meant)}?" if meant else closest(f"{dataset}/{last}", names(dataset))
    return f"There is no published split {name!r}. {near} `s4kit data splits` lists them."


_told: set[str] = set()


def _say_family(asked: str, canonical: str) -> None:
    place = asked.rpartition("/")[0]
    other = f"{place.split('/')[0]}/{OTHER.get(place)}/{canonical.split('/')[-1]}"
    if place in TAKEN and other in index()["splits"] and asked not in _told:
        _told.add(asked)
        print(
            f"{asked}: there are two families of lists. This is {canonical}, which most papers mean; the other one is "
            f"{other}. Their results differ: never compare them.",
            file=sys.stderr,
        )


def flagged(split: str | None, labelled: Any = None, dataset: str | None = None, seed: int | None = None) -> Any:
    """What `labelled` is when the shell was given `--split` or `--labelled`; None where neither.

    Args:
        split: `--split`: a published name, its data set may be left out.
        labelled: `--labelled`: a share, a count, a list, or a published name.
        dataset: `--data`.
        seed: `--split-seed`, which a published split has no use for.

    Raises:
        S4Error: both are given, or no such split.
    """
    if split is not None and labelled is not None:
        raise S4Error(f"--split {split} and --labelled {labelled} both say who is labelled; give one of them.")
    if split is not None and seed is not None:
        raise S4Error(f"--split-seed {seed} draws a split, --split {split} is a published one; leave one of them out.")
    if split is not None:
        return resolve(split, dataset)
    return resolve(labelled, dataset) if is_name(labelled) else labelled
