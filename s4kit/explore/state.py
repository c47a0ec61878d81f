"""Where an explorer stands: image, snapshot, threshold, policy, what is shown and selected; checked on assignment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from ..engine.tags import LONGEST
from ..errors import S4Error, closest
from .outcomes import outcomes
from .policies import POLICIES
from .selections import limits

SHOWN = 4  # tracks side by side before one is asked for more


@dataclass
class State:
    """What the controls say.

    Attributes:
        image: index of the probe image.
        snapshot: index into the steps of the first shown track; the others show their nearest step.
        threshold: of the policies but "own", in [0, 1]; acts in levels of 1/255.
        policy: "own" (the method's recorded rule), "fixed", "entropy" or "adaptive".
        tracks: indices of the tracks that are shown.
        hidden: class indices that are not drawn and not counted in the maps.
        selection: {}, or {"kind": one of `SELECTIONS`, and its numbers}, such as {"kind": "pixel", "x": 10, "y": 20}.
        marks: what was marked, in order: {"tag": a word, "image", "track", "snapshot": indices, "selection": the pixels
            that are meant, {} for the image}.
    """

    image: int = 0
    snapshot: int = 0
    threshold: float = 0.95
    policy: str = "own"
    tracks: list[int] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    selection: dict[str, Any] = field(default_factory=dict)
    marks: list[dict[str, Any]] = field(default_factory=list)


NAMES = tuple(f.name for f in fields(State))


def for_browser(meta: dict[str, Any]) -> dict[str, Any]:
    """What `Pack.meta` says, and what the browser has from here: ranges of the selections, colours of outcomes."""
    return meta | {"selections": limits(meta), "outcomes": outcomes(meta["palette"])}


def start(meta: dict[str, Any], threshold: float, given: dict[str, Any]) -> State:
    """The state to open with: the first image at the last snapshot, but for what is given.

    Raises:
        S4Error: an unknown name, or a value out of range.
    """
    for name in given.keys() - set(NAMES):
        raise S4Error(f"The explorer has no {name!r}. {closest(name, list(NAMES))}")
    state = State(threshold=threshold, tracks=list(range(min(SHOWN, len(meta["tracks"])))))
    for name in ("tracks", *(n for n in NAMES if n != "tracks")):  # the snapshot's range depends on the first track
        if name in given:
            setattr(state, name, check(meta, asdict(state), name, given[name]))
    if "snapshot" not in given:
        state.snapshot = len(meta["tracks"][state.tracks[0]]["steps"]) - 1
    return state


def check(meta: dict[str, Any], state: dict[str, Any], name: str, value: Any) -> Any:
    """`value` in plain Python types where it may stand as `name`; negative indices count from the end.

    Args:
        meta: what `pack.meta` says of the runs.
        state: the other values (the tracks, of which the snapshots are counted).

    Raises:
        S4Error: it may not; the message names the value and the range.
    """
    if name == "image":
        return _index(value, len(meta["images"]), "image")
    if name == "snapshot":
        track = meta["tracks"][check(meta, {}, "tracks", state["tracks"])[0]]
        return _index(value, len(track["steps"]), f"snapshot of {track['title']!r}")
    if name == "threshold":
        return _share(value)
    if name == "policy":
        if value not in POLICIES:
            raise S4Error(f"policy={value!r} is none of {', '.join(POLICIES)}.")
        return str(value)
    if name == "tracks":
        found = _indices(value, len(meta["tracks"]), "track")
        if not found:
            raise S4Error("tracks=[] would show nothing; name at least one track, such as tracks=[0].")
        return found
    if name == "hidden":
        return _indices(value, len(meta["classes"]), "class")
    return _marks(meta, value) if name == "marks" else _selection(meta, value)


def _index(value: Any, length: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or not -length <= value < length:
        raise S4Error(f"There is no {what} {value!r}: give a whole number from 0 to {length - 1}.")
    return int(value) % length


def _indices(values: Any, length: int, what: str) -> list[int]:
    if isinstance(values, Integral):
        values = [values]
    if not isinstance(values, list | tuple | set | range):
        raise S4Error(f"{what}: {values!r} is no list of whole numbers from 0 to {length - 1}.")
    return list(dict.fromkeys(_index(value, length, what) for value in values))


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
        raise S4Error(f"threshold={value!r}: give a number from 0 to 1.")
    return float(value)


def _selection(meta: dict[str, Any], value: Any) -> dict[str, Any]:
    kinds = limits(meta)
    if not isinstance(value, dict):
        raise S4Error(f'selection={value!r}: give {{}} or a dict such as {{"kind": "pixel", "x": 10, "y": 20}}.')
    if not value:
        return {}
    wanted = kinds.get(value.get("kind"))
    if wanted is None:
        raise S4Error(f"selection={value!r}: its kind is one of {', '.join(kinds)}.")
    if value.keys() != {"kind", *wanted}:
        raise S4Error(f"selection={value!r}: a selection of kind {value['kind']!r} has {' and '.join(wanted)}.")
    return {"kind": value["kind"]} | {key: _index(value[key], length, key) for key, length in wanted.items()}


def _marks(meta: dict[str, Any], value: Any) -> list[dict[str, Any]]:
    names = {"tag", "image", "track", "snapshot", "selection"}
    if not isinstance(value, list | tuple) or not all(isinstance(one, dict) and one.keys() == names for one in value):
        raise S4Error(f"marks={value!r}: give a list of dicts with {', '.join(sorted(names))}.")
    return [_mark(meta, one) for one in value]


def _mark(meta: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    tag = one["tag"].strip() if isinstance(one["tag"], str) else ""
    if not 0 < len(tag) <= LONGEST:
        raise S4Error(f"tag={one['tag']!r}: give a text of 1 to {LONGEST} letters.")
    track = _index(one["track"], len(meta["tracks"]), "track")
    at = _index(one["snapshot"], len(meta["tracks"][track]["steps"]), "snapshot")
    image = _index(one["image"], len(meta["images"]), "image")
    return {"tag": tag, "image": image, "track": track, "snapshot": at, "selection": _selection(meta, one["selection"])}
