"""Which images are labelled: fractions, counts, lists, and seeded draws that cover every class."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from ...errors import S4Error
from ..corrections import is_corrections
from ..seeding import mix_seeds
from ..task import VOID, Source

Labelled = str | int | float | Sequence[str] | os.PathLike


def is_list(labelled: Labelled) -> bool:
    """Whether `labelled` names images (a text file, a folder of corrected ones, a sequence of ids), not how many."""
    if isinstance(labelled, str):
        return labelled.endswith((".txt", ".lst")) or Path(labelled).is_file() or is_corrections(labelled)
    return not isinstance(labelled, int | float | Fraction)


def count_of(labelled: str | int | float, total: int) -> int:
    """How many of `total` images: "1/16", 0.0625, 23, "23" or "all". A fraction rounds up (367/16 gives 23).

    Raises:
        S4Error: not a number, not positive, or more than there are.
    """
    share = _number(labelled)
    wanted = share * total
    count = -(-wanted.numerator // wanted.denominator) if _is_share(labelled, share) else int(share)
    if count < 1:
        raise S4Error(f"labelled={labelled!r} leaves no labelled image; ask for at least 1.")
    if count > total:
        raise S4Error(f"labelled={labelled!r} asks for {count} labelled images, but only {total} have a label.")
    return count


def _number(labelled: str | int | float) -> Fraction:
    if labelled == "all":
        return Fraction(1, 1)
    try:
        if isinstance(labelled, bool):
            raise ValueError
        value = Fraction(labelled.strip()) if isinstance(labelled, str) else Fraction(labelled)
        return value if isinstance(labelled, str | int) else value.limit_denominator(1_000_000)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise S4Error(
            f"labelled={labelled!r} is no fraction (1/16, 0.1), count (23), 'all', list of ids or path of a .txt list."
        ) from None


def _is_share(labelled: str | int | float, share: Fraction) -> bool:
    """A decimal or a/b is a share of the images, and so is 1.0; a plain integer is a count."""
    if labelled == "all":
        return True
    written = isinstance(labelled, float) or (isinstance(labelled, str) and ("/" in labelled or "." in labelled))
    if written and share > 1:
        raise S4Error(f"labelled={labelled!r} is more than all images; write a count as an integer.")
    return written


def shuffled(ids: Sequence[str], rows: Sequence[int], seed: int) -> list[int]:
    """`rows` in an order that only (seed, id) decides: the same on every platform, for any order of the list.

    A larger share of the same seed contains the smaller one.
    """
    names = [ids[row] for row in rows]
    return [row for _, _, row in sorted(zip(mix_seeds("split", seed, names=names), names, rows))]


def draw(source: Source, rows: Sequence[int], count: int, seed: int, cover: int, classes: Sequence[str]) -> list[int]:
    """`count` of `rows`, seeded; with `cover`, each class is in at least that many of them.

    Labels are read one by one and only as far as needed.

    Raises:
        S4Error: no choice was found in which each class is in `cover` images.
    """
    order = shuffled(source.ids, rows, seed)
    chosen = order[:count]
    if cover:
        chosen = _covering(order, count, cover, classes, _presence(source, len(classes)))
    return sorted(chosen)


def _presence(source: Source, classes: int) -> Callable[[int], frozenset[int]]:
    seen: dict[int, frozenset[int]] = {}

    def classes_of(row: int) -> frozenset[int]:
        if row not in seen:
            label = source.read(row).label
            seen[row] = frozenset(label.unique().tolist()) - {VOID} if label is not None else frozenset()
        return seen[row]

    return classes_of


def _covering(
    order: list[int],
    count: int,
    cover: int,
    names: Sequence[str],
    classes_of: Callable[[int], frozenset[int]],
) -> list[int]:
    """Start from the first `count` of the order; swap in, for each scarce class, the next image that shows it.

    Where every image that could go is needed for another class, the choice is made anew, rare classes first.
    """
    if cover > count:
        raise S4Error(f"cover={cover} asks for every class in {cover} labelled images, but there are only {count}.")
    chosen = order[:count]
    tally = [sum(c in classes_of(row) for row in chosen) for c in range(len(names))]
    for scarce in range(len(names)):
        for candidate in order[count:]:
            if tally[scarce] >= cover:
                break
            if candidate in chosen or scarce not in classes_of(candidate):
                continue
            out = _spare(chosen, candidate, tally, cover, classes_of)
            if out is None:
                continue
            chosen[chosen.index(out)] = candidate
            for c in classes_of(candidate):
                tally[c] += 1
            for c in classes_of(out):
                tally[c] -= 1
        if tally[scarce] < cover:
            return _from_the_rarest(order, count, cover, names, classes_of)
    return chosen


def _from_the_rarest(
    order: list[int],
    count: int,
    cover: int,
    names: Sequence[str],
    classes_of: Callable[[int], frozenset[int]],
) -> list[int]:
    """Take the image with most of what is still missing, rare classes counting more; fill up in the given order."""
    held = [sum(c in classes_of(row) for row in order) for c in range(len(names))]
    missing = [cover] * len(names)
    chosen: list[int] = []
    while any(missing) and len(chosen) < count:
        rest = [row for row in order if row not in chosen]
        row = max(rest, key=lambda r: sum(1 / held[c] for c in classes_of(r) if missing[c]))
        chosen.append(row)
        missing = [max(0, m - (c in classes_of(row))) for c, m in enumerate(missing)]
    if any(missing):
        scarce = max(range(len(names)), key=lambda c: missing[c])
        raise S4Error(
            f"No choice of {count} labelled images was found that has {names[scarce]!r} in {cover} of them "
            f"({held[scarce]} of the {len(order)} images show it). Lower `cover`, or ask for more labelled images."
        )
    return chosen + [row for row in order if row not in chosen][: count - len(chosen)]


def _spare(
    chosen: list[int], candidate: int, tally: list[int], cover: int, classes_of: Callable[[int], frozenset[int]]
) -> int | None:
    """The last chosen image that no covered class needs and that the candidate can replace; None if there is none."""
    for row in reversed(chosen):
        lost = classes_of(row) - classes_of(candidate)
        if all(tally[c] > cover for c in lost):
            return row
    return None
