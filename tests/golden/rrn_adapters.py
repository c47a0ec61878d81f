"""RRN against recordings of its official code."""

from __future__ import annotations

from typing import Any

from harness import Recording, adapter

from s4kit.methods.parts.judging import accepted, human, sharpening


@adapter("rrn", "selection")
def rrn_selection(r: Recording) -> dict[str, Any]:
    z = r.tensor("logits", grad=True)
    d = r.tensor("d_out").view(len(z), 1, 1)
    kept = accepted(d, r.hyper["threshold_st"], z.shape[-2:])
    loss = sharpening(z, kept)
    loss.backward()
    return {
        "out_count": kept[:, 0, 0].sum(),
        "out_loss_st": loss,
        "out_grad_logits": z.grad,
        "out_onehot": human(r.label("mask"), z.shape[1]),
    }
