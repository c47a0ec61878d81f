"""PCR against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from harness import Recording, adapter, task_of

from s4kit.data.task import VOID
from s4kit.methods.contrastive.pcr import PCR, read
from s4kit.methods.parts.contrast import rows
from s4kit.methods.parts.prototypes import PrototypeSets


def sets_of(r: Recording) -> PrototypeSets:
    given, each = r.tensor("prototypes"), r.hyper["num_micro_proto"]
    sets = PrototypeSets(len(given) // each, each, given.shape[1])
    sets.mean.copy_(given.view_as(sets.mean))
    return sets


@adapter("pcr", "proto_predict")
def pcr_proto_predict(r: Recording) -> dict[str, Any]:
    feat = r.tensor("feat")
    batch, _, height, width = feat.shape
    method = PCR(task_of(r.hyper["num_classes"]), net="tiny", temperature=r.hyper["temperature"])
    method.prototypes = sets_of(r)
    nobody = torch.full((batch * height * width,), VOID)
    before = method.prototypes.mean.clone()
    logits = method.near(rows(feat), nobody)
    assert torch.equal(before, method.prototypes.mean)
    return {
        "out_logits": logits.view(batch, height, width, -1).permute(0, 3, 1, 2),
        "out_match": method.prototypes.nearest(rows(feat))[1],
    }


@adapter("pcr", "proto_update")
def pcr_proto_update(r: Recording) -> dict[str, Any]:
    """The selected locations are read from the features as from a map that need not be enlarged."""
    places, sets, feat = r.tensor("select").nonzero(as_tuple=True), sets_of(r), r.tensor("feat")
    assert len(places[0]) == r.hyper["grid"] ** 2
    h = read(feat, places, feat.shape[-2:], True)
    label = r.label("target")[:, *places].flatten()
    sets.average(h, label.where(r.tensor("cond") == 1, VOID), r.tensor("match"), float(r.inputs["in_momentum"]))
    return {"out_prototypes": sets.mean.flatten(0, 1)}
