"""Which images of a catalog are labelled and which unlabelled, as `load` is told."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...errors import S4Error
from ..catalog import Catalog
from ..corrections import Corrections
from .lists import read_list, rows_of
from .published import rows_under
from .splits import Labelled, count_of, draw, is_list


def published_rows(
    catalog: Catalog, name: str, unlabelled: Labelled | None, overlap: bool, root: str | None
) -> tuple[str, list[int], list[int], str, str]:
    """The canonical name, rows of labelled and of unlabelled images, and the words that describe both."""
    split, rows, rest, every = rows_under(name, catalog.name, catalog.train, root)
    _need_labels(catalog, rows, split.name)
    if unlabelled is not None:
        rest, more = unlabelled_rows(catalog, rows, unlabelled, overlap)
        return split.name, rows, rest, f"{split.name} ({split.count} labelled)", more
    if overlap:
        return split.name, rows, every, split.protocol, f"all {len(every)} used unlabelled"
    return split.name, rows, rest, split.protocol, ""


def _need_labels(catalog: Catalog, rows: Sequence[int], where: str) -> None:
    without = [row for row in rows if row in catalog.maskless]
    if without:
        raise S4Error(f"{where}: {catalog.train.ids[without[0]]} is listed as labelled but has no label map.")


def labelled_rows(
    catalog: Catalog, labelled: Labelled, seed: int, cover: int, made: Corrections | None
) -> tuple[list[int], str]:
    """Rows of the labelled images and the words that describe the draw.

    Raises:
        S4Error: the list cannot be read or names what is not there; no image has a label; a count or share out of
            range.
    """
    if is_list(labelled):
        ids, where = read_list(labelled)
        rows = rows_of(ids, catalog.train, catalog.val, where)
        _need_labels(catalog, [row for row in rows if made is None or catalog.train.ids[row] not in made.made], where)
        return rows, f"{len(rows)} labelled of {os.path.basename(where)}"
    able = [row for row in range(len(catalog.train)) if row not in catalog.maskless]
    if not able:
        raise S4Error(f"{catalog.name}: no training image has a label map; at least one must.")
    count = count_of(labelled, len(able))
    rows = draw(catalog.train, able, count, seed, cover, catalog.classes)
    covered = f", each class in >= {cover}" if cover else ""
    return rows, f"seeded {labelled} ({count} of {len(able)}), seed {seed}{covered}"


def unlabelled_rows(
    catalog: Catalog, labelled: list[int], unlabelled: Labelled | None, overlap: bool
) -> tuple[list[int], str]:
    """Rows of the unlabelled images, and the words that describe the choice.

    Raises:
        S4Error: no list, one that cannot be read, or one that names what is not there.
    """
    taken = set(labelled)
    if unlabelled is None:
        rest = [row for row in range(len(catalog.train)) if overlap or row not in taken]
        return rest, "labelled images also unlabelled" if overlap else ""
    if not is_list(unlabelled):
        raise S4Error(f"unlabelled={unlabelled!r}: give a list of ids or the path of a text file of ids.")
    ids, where = read_list(unlabelled)
    return rows_of(ids, catalog.train, catalog.val, where), f"unlabelled of {os.path.basename(where)}"
