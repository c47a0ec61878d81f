"""CISC-R against recordings of its official code."""

from __future__ import annotations

from typing import Any

from harness import Recording, adapter, grad_of

from s4kit.methods.contrastive.cisc_r import class_vectors, consistency, rectified, similarity


@adapter("cisc_r", "consistency")
def cisc_r_consistency(r: Recording) -> dict[str, Any]:
    one, two = r.tensor("feat1", grad=True), r.tensor("feat2", grad=True)
    maps, labels = [r.tensor(f"map{k}").float() for k in (1, 2)], [r.label(f"label{k}") for k in (1, 2)]
    vector = class_vectors(two, maps[1])
    loss = consistency(one, two, *maps, *labels)
    loss.backward()
    return {
        "out_vector2": vector, "out_similarity": similarity(one, vector, maps[0].shape[-2:]), "out_loss": loss,
        "out_grad_feat1": grad_of(one), "out_grad_feat2": grad_of(two),
    }  # fmt: skip


@adapter("cisc_r", "weighted_ce")
def cisc_r_weighted_ce(r: Recording) -> dict[str, Any]:
    z = r.tensor("logits", grad=True)
    loss = rectified(z, r.label("target"), r.tensor("map").float(), r.tensor("similarity")).mean()
    loss.backward()
    return {"out_loss": loss, "out_grad_logits": grad_of(z)}
