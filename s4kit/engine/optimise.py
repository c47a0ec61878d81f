"""From a recipe to optimisers: groups for the pretrained backbone and the new layers, no decay on norms on request."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import S4Error
from ..methods.base import Clock, Optim

KINDS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def groups(spec: Optim, train: tuple[nn.Module, ...] = ()) -> list[dict]:
    """Parameter groups with `factor` (of the learning rate) and `weight_decay`."""
    wanted = {id(p) for net in train for p in net.parameters()} if train else None
    parts: dict[tuple[float, float], list[nn.Parameter]] = {}
    for net in spec.nets:
        split = net.param_groups() if hasattr(net, "param_groups") else {"head": list(net.parameters())}
        for name, parameters in split.items():
            factor = 1.0 if name == "backbone" else spec.head
            for p in parameters:
                if not p.requires_grad or (wanted is not None and id(p) not in wanted):
                    continue
                decay = spec.weight_decay if spec.decay_norms or p.dim() > 1 else 0.0
                parts.setdefault((factor, decay), []).append(p)
    return [{"params": ps, "factor": factor, "weight_decay": decay} for (factor, decay), ps in parts.items()]


def build(specs: dict[str, Optim], train: tuple[nn.Module, ...] = ()) -> dict[str, torch.optim.Optimizer]:
    """One optimiser per spec that has something to train.

    Raises:
        S4Error: unknown kind.
    """
    built = {}
    for name, spec in specs.items():
        if spec.kind not in KINDS:
            raise S4Error(f"optimiser is one of {', '.join(KINDS)}, not {spec.kind!r}.")
        parameters = groups(spec, train)
        if not parameters:
            continue
        options = {"momentum": 0.9, "nesterov": spec.nesterov} if spec.kind == "sgd" else {"betas": spec.betas}
        on_gpu = parameters[0]["params"][0].device.type == "cuda"
        built[name] = KINDS[spec.kind](parameters, lr=spec.lr, fused=on_gpu or None, **options)
    return built


def restore(optimiser: torch.optim.Optimizer, state: dict) -> None:
    """Load an optimiser's state; how it computes (`fused`) stays as built for the device at hand."""
    fused = [group.get("fused") for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, own in zip(optimiser.param_groups, fused):
        group["fused"] = own


def set_rates(optimisers: dict[str, torch.optim.Optimizer], specs: dict[str, Optim], clock: Clock) -> float:
    """Set the learning rates for this step; returns the backbone's rate of the first optimiser."""
    for name, optimiser in optimisers.items():
        rate = specs[name].lr * specs[name].schedule(clock)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
    first = next(iter(optimisers))
    return specs[first].lr * specs[first].schedule(clock)
