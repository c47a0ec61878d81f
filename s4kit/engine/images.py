"""Which images a run has: stored when it begins, held against the data as it is whenever the run is opened again.

`RUN/images.json` holds, by id and in order, all training images, the labelled ones, the unlabelled ones (null where
they are all the others), the scored ones and those of the probe set; by name the further lists; and of the first files,
labelled and scored ones first, size, time and a digest, by which other content is told. A split that was drawn from a
folder is drawn otherwise as soon as an image is added: a run keeps its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.gathered import Gathered
from ..data.task import Further, Source, Task
from ..errors import S4Error
from . import checkpoint
from .image_files import described, is_other, paths

FILE = "images.json"
USED = ("labelled", "unlabelled", "val")
_said: set[tuple[str, str]] = set()


# ---- stored ----


def lists(task: Task) -> dict[str, list[str]]:
    """The ids of a task by list: train (all of them), val, labelled, unlabelled, and its further lists."""
    rows = ("labelled", "unlabelled", *task.more)
    each = {name: [task.source(name).ids[row] for row in task.rows(name)] for name in rows}
    return {"train": list(task.train.ids), **each, "val": list(task.val.ids)}


def store(folder: Path, task: Task, probes: Sequence[str]) -> None:
    """Write `images.json`.

    Args:
        probes: ids of the images that are watched, as far as they are known when the run begins.
    """
    found: dict[str, Any] = {"version": 1, **lists(task)}
    found["probe"], found["more"] = list(probes), {name: found.pop(name) for name in task.more}
    found["files"] = described(task, [*found["labelled"], *found["val"], *found["probe"], *found["unlabelled"]])
    if found["unlabelled"] == _others(found):
        found["unlabelled"] = None
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    checkpoint.write_atomic(folder / FILE, lambda file: file.write(text.encode()))


def stored(folder: Path) -> dict[str, Any] | None:
    """What `store` has written; None for a run of an older version.

    Raises:
        S4Error: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return found | {"unlabelled": _others(found) if found["unlabelled"] is None else found["unlabelled"]}
    except (ValueError, KeyError, TypeError) as error:
        raise S4Error(
            f"{file} is damaged ({error}): which images the run was trained on is lost. Without the file the run opens "
            "with the split that is drawn from the data as it is now."
        ) from error


def _others(found: dict[str, Any]) -> list[str]:
    labelled = set(found["labelled"])
    return [name for name in found["train"] if name not in labelled]


# ---- compared ----


@dataclass
class Changes:
    """How the data differs from what a run began with: ids.

    Attributes:
        missing, added: by list (labelled, unlabelled, val; `missing` further ones, too); `added` has new training
            images under "train".
        moved: training images that are scored ones now, or the other way round: a val set that is drawn from the
            folder was drawn otherwise.
        content: images whose files, or whose labels' files, are others.
    """

    missing: dict[str, list[str]] = field(default_factory=dict)
    added: dict[str, list[str]] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.added or self.moved or self.content)

    def __str__(self) -> str:
        words = [f"{len(names)} {called(name)} missing ({some(names)})" for name, names in self.missing.items()]
        words += [f"{len(names)} {called(name)} new ({some(names)}), not used" for name, names in self.added.items()]
        words += [f"{len(self.content)} other content ({some(self.content)})"] if self.content else []
        words += [f"{len(self.moved)} on the other side of val ({some(self.moved)})"] if self.moved else []
        return "; ".join(words)


def called(name: str) -> str:
    """What the images of a list are called."""
    return {"val": "scored (val)", "train": "training"}.get(name, name)


def some(names: Sequence[str]) -> str:
    """The first names, as words."""
    return ", ".join(names[:4]) + (f", ... {len(names)} in all" if len(names) > 4 else "")


def changes(found: dict[str, Any], task: Task) -> Changes:
    """What has changed between the stored images of a run and a task's sources as they are."""
    train, val = set(task.train.ids), set(task.val.ids)
    was_train, was_val = set(found["train"]), set(found["val"])
    missing = {name: [i for i in found[name] if i not in train | val] for name in USED}
    for name, ids in found.get("more", {}).items():
        missing[name] = [i for i in ids if name not in task.more or i not in task.more[name].source.ids]
    added = {"train": [i for i in task.train.ids if i not in was_train | was_val]}
    added["val"] = [i for i in task.val.ids if i not in was_train | was_val]
    files = found["files"]
    return Changes(
        {name: names for name, names in missing.items() if names},
        {name: names for name, names in added.items() if names},
        [i for i in found["train"] if i in val - was_val] + [i for i in found["val"] if i in train - was_train],
        [name for name, there in paths(task, list(files)) if is_other(files[name], there)],
    )


def content(folder: Path, task: Task) -> list[str]:
    """Ids of the images of a run whose files, or whose labels' files, are others than when it began."""
    files = (stored(folder) or {}).get("files", {})
    return [name for name, there in paths(task, list(files)) if is_other(files[name], there)]


def difference(folder: Path, task: Task) -> str:
    """Words for the first list in which a task has other images than a run; "" if they are the same, or not known."""
    found, now = stored(folder), lists(task)
    more = found.get("more", {}) if found else {}
    for name in (*USED, *{**more, **task.more}) if found else ():
        was, are = more.get(name, found.get(name, [])), now.get(name, [])
        if was != are:
            there, here = set(was), set(are)
            gone = some([i for i in was if i not in here]) or "none"
            new = some([i for i in are if i not in there]) or "none"
            words = f"{gone} there and not now, {new} now and not there"
            return f"{called(name)} images: {words if there != here else 'in another order'}"
    return ""


# ---- opened again ----


def reopened(
    folder: Path, config: dict[str, Any], protocol: str, say: Callable[[Path, str], None]
) -> tuple[Task, Changes]:
    """A run's task with the run's own images, in their order, and how the data differs from what it was.

    An image that is gone stays in the lists; reading it is an error.

    Args:
        config: the arguments of `load`. protocol: of the split, in words.
        say: called with the folder and words where something has changed, or is not known.
    """
    from ..data import load

    found = stored(folder)
    if found is None:
        say(folder, "its images were not stored; the split is drawn from the data as it is now.")
        return load(**config), Changes()
    apart = {"unlabelled": None, "cover": 0}
    try:
        task = load(**config | apart | {"labelled": found["labelled"]})
        changed = changes(found, task)
    except S4Error:  # some may be gone, or be drawn as scored images now
        task = load(**config | apart | {"labelled": "all"})
        changed = changes(found, task)
        if not (changed.missing or changed.moved):
            raise
    if changed:
        say(folder, f"the data is not as it was when the run began: {changed}.")
    return _own(found, task, config, protocol), changed


def _own(found: dict[str, Any], task: Task, config: dict[str, Any], protocol: str) -> Task:
    train, val = (_source(found[name], task) for name in ("train", "val"))
    places = {name: row for row, name in enumerate(found["train"])}
    labelled, unlabelled = (tuple(places[name] for name in found[part]) for part in ("labelled", "unlabelled"))
    more = {name: _further(ids, task.more[name]) for name, ids in found.get("more", {}).items()}
    own = replace(task, train=train, val=val, labelled=labelled, unlabelled=unlabelled, more=more)
    return replace(own, config=config, protocol=protocol)


def _further(names: list[str], of: Further) -> Further:
    """A further list with the run's own images, in their order."""
    same = names == [of.source.ids[row] for row in of.rows]
    return of if same else replace(of, source=Gathered(names, (of.source,)), rows=tuple(range(len(names))))


def _source(names: list[str], task: Task) -> Source:
    """The source of these images: one of the task's where it is the same, else those that are there."""
    same = next((source for source in (task.train, task.val) if source.ids == names), None)
    return same or Gathered(names, (task.train, task.val))


def need(folder: Path, task: Task, names: Sequence[str], to: str, mend: str) -> None:
    """Refuse where images of these lists are gone.

    Args:
        to: what they are needed for. mend: what else can be done.

    Raises:
        S4Error: names them.
    """
    gone = {name: set(getattr(task.val if name == "val" else task.train, "missing", ())) for name in names}
    gone |= {name: set(getattr(of.source, "missing", ())) for name, of in task.more.items()}
    missing = {name: [i for i in ids if i in gone[name]] for name, ids in lists(task).items() if gone.get(name)}
    missing = {name: ids for name, ids in missing.items() if ids}
    if missing:
        words = str(Changes(missing))
        raise S4Error(f"{folder} cannot {to}: {words}. Put them back under their names, or {mend}.")


def same(folder: Path, task: Task) -> None:
    """Refuse to continue a run on other images than its own, or where some of its own are gone.

    Raises:
        S4Error: names the list, and images in which they differ.
    """
    other = difference(folder, task)
    if other:
        raise S4Error(
            f"The run in {folder} cannot go on with this task, which has other {other}. `open_run({str(folder)!r})"
            ".task()` has the run's own images; or start another run."
        )
    need(folder, task, USED, "go on", "start another run")


def say(folder: Path, words: str) -> None:
    """Say something of a run on stderr, once in a process."""
    from . import distributed

    if (str(folder), words) not in _said and distributed.rank() == 0:
        print(f"{folder}: {words}", file=sys.stderr)
    _said.add((str(folder), words))
