"""GTA-Seg against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.contrastive.gta import GTASeg
from s4kit.methods.parts.contrast import members
from s4kit.methods.parts.losses import upweighted_ce
from s4kit.nets import warm


@adapter("gta", "unsup_loss")
def gta_unsup_loss(r: Recording) -> dict[str, Any]:
    """Through the rule and the loss of the method; void pixels of the recorded labels are not valid. Without the
    weights of confidence it is U2PL's loss."""
    z, label = r.tensor("logits", grad=True), r.label("target")
    method = GTASeg(task_of(z.shape[1]), net="tiny", keep=float(r.inputs["in_percent"]))
    view = views(torch.zeros(len(z), 3, *z.shape[2:]), label != VOID)
    says = members(label.flatten(), z.shape[1]).T.float().view(*label.shape, -1).permute(0, 3, 1, 2)
    target = method.pseudo_labels((says, r.tensor("teacher_logits")), view, START)
    loss = method.unsupervised(z, target)
    loss.backward()
    kept = target.weight * target.valid > 0
    plain = PseudoLabels(target.label, target.confidence, (target.weight > 0).float(), target.valid)
    unweighted = upweighted_ce(z, plain)
    after = r.as_recorded(torch.where(kept, target.label, VOID))
    return {
        "out_loss": loss, "out_grad_logits": grad_of(z), "out_target_after": after, "out_loss_unweighted": unweighted
    }  # fmt: skip


class Named(nn.Module):
    """Nothing but tensors with the given dotted names."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in tensors.items():
            *path, last = name.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner._modules[part]
            if last.startswith("running_"):
                owner.register_buffer(last, value)
            else:
                owner.register_parameter(last, nn.Parameter(value))


@adapter("gta", "transfer")
def gta_transfer(r: Recording) -> dict[str, Any]:
    method = GTASeg(task_of(2), net="tiny", decay=float(r.inputs["in_teacher_ema"]))
    for net in ("student", "assistant", "teacher"):
        start = f"in_{net}."
        given = {k.removeprefix(start): r.tensor(k.removeprefix("in_")) for k in r.inputs if k.startswith(start)}
        setattr(method, net, Named(given))
    method.judging = (r.hyper["excluded_prefix"],)
    step, first = int(r.inputs["in_iteration"]), int(r.inputs["in_iters_per_epoch"] * r.inputs["in_sup_only_epoch"])
    method.warmup, since = first / (4 * step), step - first
    method.pass_on(since)
    method.after_step(Clock(step, 4 * step))
    found = {
        f"out_{net}.{k}": v for net in ("student", "teacher") for k, v in getattr(method, net).state_dict().items()
    }
    decays = {"student": warm(method.transmit, since), "teacher": warm(method.decay, since)}
    return found | {f"out_decay_{net}": decay for net, decay in decays.items()}
