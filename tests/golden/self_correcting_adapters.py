"""Self-correcting networks against recordings of a third party's version: there is no official code."""

from __future__ import annotations

from typing import Any

import torch
from harness import Recording, adapter, grad_of, task_of

from s4kit.methods import Clock
from s4kit.methods.parts.losses import ce
from s4kit.methods.selftraining.self_correcting import SelfCorrecting, between, soft_ce_map
from s4kit.nets.boxed import BoxAttention


@adapter("self_correcting", "linear")
def linear(r: Recording) -> dict[str, Any]:
    h = r.hyper
    ends = (h["alpha_start"], h["alpha_end"])
    method = SelfCorrecting(task_of(h["classes"]), net="tiny", correction="linear", alpha=ends)
    found: dict[str, list] = {"alpha": [], "target": [], "loss": [], "grad_primary": []}
    for step in r.tensor("step").tolist():
        method.alpha.fill_(between(*ends, Clock(step, h["total_steps"]), method.decay))
        primary, ancillary = r.tensor("primary", grad=True), r.tensor("ancillary")
        target = method.probabilities((primary, ancillary))
        loss = soft_ce_map(primary, target).mean()
        loss.backward()
        for key, value in zip(found, (method.alpha.clone(), target, loss, grad_of(primary))):
            found[key].append(value.detach())
    return {f"out_{key}": torch.stack(values) for key, values in found.items()}


@adapter("self_correcting", "conv")
def conv(r: Recording) -> dict[str, Any]:
    method = SelfCorrecting(task_of(r.hyper["classes"]), net="tiny", hidden=r.hyper["hidden"])
    first, last = method.module[0], method.module[2]
    with torch.no_grad():
        for layer, k in ((first, 1), (last, 2)):
            layer.weight.copy_(r.tensor(f"weight_{k}"))
            layer.bias.copy_(r.tensor(f"bias_{k}"))
    f, w = (r.tensor(f"primary_{key}", grad=True) for key in "fw")
    label = r.label("label_f")
    logits = method.corrected(f, r.tensor("ancillary_f"))
    l_primary, l_module = ce(f, label), ce(logits, label)
    (l_primary + l_module).backward()
    of_module = {"out_grad_weight_2": last.weight.grad.clone(), "out_grad_bias_1": first.bias.grad.clone()}
    target = method.probabilities((w, r.tensor("ancillary_w")))
    l_w = soft_ce_map(w, target).mean()
    l_w.backward()
    assert torch.equal(last.weight.grad, of_module["out_grad_weight_2"])
    return {
        **of_module,
        "out_logits_f": logits,
        "out_loss_primary": l_primary,
        "out_loss_module": l_module,
        "out_grad_primary_f": grad_of(f),
        "out_target_w": target,
        "out_loss_w": l_w,
        "out_grad_primary_w": grad_of(w),
    }


@adapter("self_correcting", "box_attention")
def box_attention(r: Recording) -> dict[str, Any]:
    found = {}
    for name in ("low", "high"):
        map, weight = r.tensor(name), r.tensor(f"weight_{name}")
        attention = BoxAttention(weight.shape[1], map.shape[1])
        attention.load_state_dict({"conv.weight": weight, "conv.bias": r.tensor(f"bias_{name}")})
        found[f"out_{name}"] = attention(map, r.tensor("box"))
    return found
