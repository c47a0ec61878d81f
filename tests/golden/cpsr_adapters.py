"""CPSR against a recording of its official code."""

from __future__ import annotations

from typing import Any

from harness import Recording, adapter, grad_of

from s4kit.data.task import VOID
from s4kit.methods.consistency.cpsr import reshape


@adapter("cpsr", "losses")
def cpsr_losses(r: Recording) -> dict[str, Any]:
    p, valid, h = r.tensor("prob_weak"), (r.label("ignore") != VOID).float(), r.hyper
    answers: dict[str, Any] = {}
    for term, name in (("ckr", "shrink"), ("tps", "npl")):
        z = r.tensor("logits_student", grad=True)
        found = reshape(z, p, valid, h["conf"], intended=False)
        loss = getattr(found, term).mean() * (h["shrink_weight"] if term == "ckr" else 1)
        loss.backward()
        answers |= {f"out_{name}": loss, f"out_grad_{name}": grad_of(z)}
    return answers | {"out_removed": (found.cut - 1).float().mean()}
