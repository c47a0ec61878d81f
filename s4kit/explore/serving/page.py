"""Which part of the runs goes into a page of 8 MB: the worst images, others spread over the quality, all steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import S4Error
from ..packing.pack import Pack
from ..state import State, check
from . import html

BUDGET = 8_000_000 - 400_000  # bytes; frame, script, description and summaries need the rest
BESIDE = 2_000_000  # of a page that lies beside a report, where there are many
FEW = 3  # images that are worth leaving out every second snapshot for; and snapshots that are not given up for images
PATHS = 0.3  # share of it, at most, for the images' ways through training
ROLES = 0.15  # and for those who take part in contrasts


@dataclass
class Saved:
    """A page that was written, and what is in it.

    Attributes:
        path: of the page. size: bytes. images: indices into the runs' probe images. steps: training steps.
        paths: examples of the way through training, over all tracks. why: how they were chosen.
    """

    path: Path
    size: int
    images: list[int]
    of: int
    steps: list[int]
    paths: int
    why: str

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.images))
        return (
            f"{self.path}: {self.size / 2**20:.1f} MB; {len(self.images)} of {self.of} images ({shown}: {self.why}), "
            f"{len(self.steps)} snapshots, {self.paths} examples of the way through training."
        )


def save(
    path: Path,
    view: Any,
    state: State,
    images: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    budget: int | None = None,
) -> Saved:
    """Write the page of a `View` in a state.

    Args:
        images: indices; default: the one of the state, the worst one, and others spread over the quality.
        steps: training steps; default: all, or every second, fourth, ... where three images would not fit.
        budget: bytes that may be filled with pictures; default: as many as a page by e-mail can have.

    Raises:
        S4Error: no such image or step, what was asked for is larger than 8 MB, or the page cannot be written.
    """
    wanted = None if steps is None else _known(view, steps)
    thin = iter([wanted]) if wanted else _thinner(_all_steps(view))
    budget = BUDGET if budget is None else budget
    for chosen_steps in thin:
        data = Pack(view.runs, view.titles, None, chosen_steps)
        ways, counts = _paths(data, PATHS * budget)
        keys = [f"{kind}/{t}" for kind in ("cells", "story") for t in range(len(data.tracks))]
        tables = {key: data.pack(key) for key in keys}  # of all images, held or not
        parts, held = _roles(data, ROLES * budget)
        room = budget - html.size(ways | tables | parts)
        chosen, why = (_checked(view, images), "as asked") if images is not None else _fitting(data, view, state, room)
        if len(chosen) >= min(FEW, len(view.meta["images"])) or (chosen and len(chosen_steps) <= FEW) or images:
            break
    if not chosen:
        raise S4Error(f"Not even one image with one of its snapshots fits into a page of {html.LIMIT >> 20} MB.")
    small = Pack(view.runs, view.titles, chosen, chosen_steps)
    packs = {f"image/{new}": data.pack(f"image/{old}") for new, old in enumerate(chosen)}
    for t in range(len(small.tracks)):
        packs |= {f"track/{t}/{new}": data.pack(f"track/{t}/{old}") for new, old in enumerate(chosen)}
        packs[f"summary/{t}"] = data.pack(f"summary/{t}")  # over all of the run's
    meta = small.meta
    for track, count, many in zip(meta["tracks"], counts, held):
        track["path"] = count
        track["roles"] = track["roles"][:many]
        for name in ("path_names", "path_ids"):
            track[name] = track[name][:count]
    html.save_html(path, meta, packs | ways | tables | parts, _moved(view, state, chosen, meta))
    kept = _all_steps(small)
    size = path.stat().st_size
    return Saved(path, size, [int(k) for k in chosen], len(view.meta["images"]), kept, sum(counts), why)


def ranked(view: Any) -> list[int]:
    """Images, the worst first, at the last snapshot: by accuracy over all tracks, without truth by coverage."""

    def quality(k: int) -> float:
        found = [track["quality"][-1][k] for track in view.meta["tracks"]]
        return sum(q["coverage"] if q["accuracy"] is None else q["accuracy"] for q in found)

    return sorted(range(len(view.meta["images"])), key=quality)


def spread(count: int) -> list[int]:
    """The places 0..count-1 so that every beginning of the list is spread evenly: first, last, middle, quarters, ..."""
    order, gaps = [0, count - 1] if count > 1 else [0], [(0, count - 1)]
    while gaps:
        low, high = gaps.pop(0)
        middle = (low + high) // 2
        if low < middle < high:
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


def _fitting(data: Pack, view: Any, state: State, room: float) -> tuple[list[int], str]:
    """As many images as fit into `room` bytes; [] where none does."""
    by_quality = ranked(view)
    order = dict.fromkeys([state.image, *(by_quality[place] for place in spread(len(by_quality)))])
    chosen: list[int] = []
    for k in order:
        keys = [f"image/{k}", *(f"track/{t}/{k}" for t in range(len(data.tracks)))]
        room -= html.size({key: data.pack(key) for key in keys})
        if room < 0:
            break
        chosen.append(k)
    why = "all" if len(chosen) == len(order) else "the one shown, and others from the worst to the best"
    return sorted(chosen), why


def _paths(data: Pack, room: float) -> tuple[dict[str, bytes], list[int]]:
    """The ways through training that fit, in turn from each track; and how many of each."""
    most = max(len(track.examples) for track in data.tracks)
    tracks = list(enumerate(data.tracks))
    return _packed(
        data, ((t, f"path/{t}/{k}") for k in range(most) for t, track in tracks if k < len(track.examples)), room
    )


def _roles(data: Pack, room: float) -> tuple[dict[str, bytes], list[int]]:
    """The contrasts that fit, in their order; and how many of each track."""
    tracks = enumerate(data.tracks)
    return _packed(data, ((t, f"roles/{t}/{c}") for t, track in tracks for c in range(len(track.contrasts))), room)


def _packed(data: Pack, wanted: Iterable[tuple[int, str]], room: float) -> tuple[dict[str, bytes], list[int]]:
    """The packs (track, key) that fit into `room` bytes, up to the first that does not; and how many of each track."""
    packs: dict[str, bytes] = {}
    counts = [0] * len(data.tracks)
    for t, key in wanted:
        found = {key: data.pack(key)}
        room -= html.size(found)
        if room < 0:
            break
        packs |= found
        counts[t] += 1
    return packs, counts


def _moved(view: Any, state: State, chosen: Sequence[int], meta: dict[str, Any]) -> State:
    """The state in the page's own numbers of images and snapshots; a selection stays with its image."""
    image = list(chosen).index(state.image) if state.image in chosen else 0
    step = view.meta["tracks"][state.tracks[0]]["steps"][state.snapshot]
    steps = meta["tracks"][state.tracks[0]]["steps"]
    nearest = min(range(len(steps)), key=lambda i: abs(steps[i] - step))
    selection = state.selection if state.image in chosen else {}
    marks = [
        one | {"image": list(chosen).index(one["image"]), "snapshot": _nearest(view, meta, one)}
        for one in state.marks
        if one["image"] in chosen
    ]
    return replace(state, image=image, snapshot=nearest, selection=selection, marks=marks)


def _nearest(view: Any, meta: dict[str, Any], mark: dict[str, Any]) -> int:
    """The page's snapshot that is nearest to a mark's."""
    step = view.meta["tracks"][mark["track"]]["steps"][mark["snapshot"]]
    steps = meta["tracks"][mark["track"]]["steps"]
    return min(range(len(steps)), key=lambda i: abs(steps[i] - step))


def _all_steps(data: Any) -> list[int]:
    """The steps of all tracks of a `View` or a `Pack`."""
    return sorted({step for track in data.meta["tracks"] for step in track["steps"]})


def _thinner(steps: list[int]) -> Iterator[list[int]]:
    """All steps, every second one, ...; the last one always stays."""
    while True:
        yield steps
        if len(steps) == 1:
            return
        steps = steps[::-1][::2][::-1]


def _known(view: Any, steps: Sequence[int]) -> list[int]:
    there = _all_steps(view)
    for step in steps:
        if step not in there:
            raise S4Error(f"There is no snapshot of step {step!r}; there are {', '.join(map(str, there))}.")
    if not steps:
        raise S4Error("steps=[] asks for a page without snapshots.")
    return sorted({int(step) for step in steps})


def _checked(view: Any, images: Sequence[int]) -> list[int]:
    if not len(images):
        raise S4Error("images=[] asks for a page without images.")
    return list(dict.fromkeys(check(view.meta, {}, "image", k) for k in images))
