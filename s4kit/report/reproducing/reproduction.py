"""What is reproduced: a line of a paper's table, with everything that its set-up leaves to defaults."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

from ..planning.rates import rates
from .reported import Reported


@dataclass
class Reproduction:
    """What is reproduced, before anything of it is trained.

    Attributes:
        method, data: names. split: the list's full name ("voc/classic/183").
        recipe: see `methods.recipe`, with what the user changed, and: "published_crop"; "stands_in", whether the shared
            figures stand in for the paper's.
        counts: images: labelled, unlabelled, val.
        steps: optimiser steps. passes: how the paper counts them. evaluations: how often val is scored on the way.
        rows: reported numbers, the nearest first.
        changed: what the user changed, in words; the numbers are then not comparable.
        chosen: another network or crop of the user's for which there are reported numbers, in words.
        notes: what must be said of the list.
    """

    method: str
    data: str
    split: str
    recipe: dict[str, Any]
    counts: dict[str, int]
    steps: int
    passes: str
    evaluations: int
    rows: list[Reported]
    changed: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def protocol(self) -> Any:
        """The paper's way to score; a window has the size of the paper's crop."""
        from ...engine.protocols import protocol

        found = protocol(self.recipe["evaluation"])
        if found.evaluation.mode != "sliding":
            return found
        return replace(found, evaluation=replace(found.evaluation, window=self.recipe["published_crop"]))

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        fields = ("method", "data", "split", "counts", "steps", "passes", "evaluations", "changed", "chosen", "notes")
        found = {name: getattr(self, name) for name in fields}
        found["rates"] = rates(self.recipe)
        found["setup"] = self.recipe | {"network": network_facts(self.recipe["method"]["net"])}
        found["protocol"] = str(self.protocol)
        found["reported"] = [
            {**r.row, "exact": r.exact, "differs": list(r.other), "not_stated": list(r.unsaid)} for r in self.rows
        ]
        return found


def network_facts(net: str) -> dict[str, Any]:
    """Everything that a network spec leaves to defaults, said: backbone, output stride, ASPP rates, and so on."""
    from ...nets import TRANSFORMERS, DeepLabV3Plus, parse
    from ...nets.backbones import kind_of

    name, given = parse(net)
    kind = kind_of(name)
    if kind.head in TRANSFORMERS:
        return {"backbone": name, "decoder": kind.head, **given}
    facts = {"backbone": name, "decoder": "deeplabv3plus", "output_stride": 16, "multi_grid": None, "freeze_bn": False}
    signature = inspect.signature(DeepLabV3Plus).parameters
    decoder = {k: p.default for k, p in signature.items() if p.default is not p.empty and k != "norm"}
    if given.get("decoder") == "psp":
        decoder = {"align_corners": True}
    facts |= decoder | {"aux": False} | kind.decoder | given
    return {k: list(v) if isinstance(v, tuple) else v for k, v in facts.items()}
