"""`literature`: what papers and their code report for the kit's methods, with the source of every number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import S4Error
from ..tables import Table

FILE = Path(__file__).with_name("literature.json")


@lru_cache(maxsize=1)
def entries() -> tuple[dict[str, Any], ...]:
    """All rows; the fields are explained in the file's "fields"."""
    return tuple(json.loads(FILE.read_text(encoding="utf-8"))["rows"])


def score_of(row: Mapping[str, Any]) -> str:
    """The name of the score that a row reports, as `Run.score`."""
    return row.get("score", "mIoU")


def value_of(row: Mapping[str, Any]) -> float:
    """The number that a row reports, in percent."""
    return row[score_of(row).lower()]


def literature(methods: Sequence[str] | str | None = None, data: str = "voc", score: str = "mIoU") -> Table:
    """Reported validation scores (%) of the kit's methods, with sources.

    Numbers of different splits, protocols, networks or crops are not comparable with each other, nor with those of a
    short lesson. Most are the best evaluation on the validation set.

    Args:
        methods: names as in the kit; None = all that the list has.
        data: "voc" (both protocols), "voc_classic", "voc_blended", "cityscapes", "coco" or "ade20k".
        score: its name; numbers of two scores never stand in one table.

    Raises:
        S4Error: nothing is listed for this data set, or nothing of this score.
    """
    names = [methods] if isinstance(methods, str) else methods
    on_data = [row for row in entries() if row["dataset"] == data or row["dataset"].split("_")[0] == data]
    if not on_data:
        raise S4Error(
            "The list of reported results has voc, voc_classic, voc_blended, cityscapes, coco and ade20k, not "
            f"{data!r}."
        )
    asked = [row for row in on_data if names is None or row["name"] in names]
    rows = [row for row in asked if score_of(row) == score]
    if asked and not rows:
        raise S4Error(f"What is listed here is {', '.join(sorted(set(map(score_of, asked))))}, not {score}.")
    head = ("method", "protocol", "labelled", "network", "crop", score, "source")
    shown = [
        (
            row["name"],
            row["dataset"] + (f", lists of {row['split_protocol']}" if row.get("split_protocol") else ""),
            row["split"],
            row["backbone"],
            row["crop"],
            f"{value_of(row):.1f}",
            row["source"] + (f" ({row['note']})" if row.get("note") else ""),
        )
        for row in rows
    ]
    return Table(head, shown, "Compare only rows with the same protocol, labels, network and crop.")
