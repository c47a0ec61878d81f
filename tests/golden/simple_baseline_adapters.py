"""SimpleBaseline against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from harness import Recording, adapter, grad_of, relative_error
from torch import nn

from s4kit.data.task import VOID
from s4kit.methods.parts.corrected import corrected_map, trust
from s4kit.methods.parts.losses import ce
from s4kit.nets import split_after, with_two_domains


def beside_its_summands(answer: Any, expected: np.ndarray, key: str) -> float:
    """The mean square behind a normalisation hardly changes with what is before it: summands of 0.005 cancel down to
    1e-4 and less, of which float32 keeps three digits. So there the error is a share of the summands."""
    if key == "out_grad_x" or key.startswith("out_grad_bn1"):
        return float(np.abs(answer.numpy() - expected).max() / 5e-3)
    return relative_error(answer, expected)


@adapter("simple_baseline", "dsbn", error=beside_its_summands)
def dsbn(r: Recording) -> dict[str, Any]:
    h, (first, second) = r.hyper, (r.tensor("conv0_weight"), r.tensor("conv3_weight"))
    net = nn.Sequential(
        nn.Conv2d(first.shape[1], first.shape[0], first.shape[2], padding=first.shape[2] // 2),
        nn.BatchNorm2d(first.shape[0], eps=h["eps"][0], momentum=h["momentum"]),
        nn.ReLU(),
        nn.Conv2d(second.shape[1], second.shape[0], second.shape[2]),
        nn.BatchNorm2d(second.shape[0], eps=h["eps"][1], momentum=h["momentum"]),
    )
    for name, place in (("conv0", 0), ("bn1", 1), ("conv3", 3), ("bn4", 4)):
        values = {key.split("_", 2)[2]: r.tensor(key[3:]) for key in r.inputs if key.startswith(f"in_{name}_")}
        net[place].load_state_dict(values, strict=False)
    with_two_domains(net)
    x = r.tensor("x", grad=True)
    with split_after(net, h["dsbn_size"]):
        out = net.train()(x)
    out.square().mean().backward()
    found = {"out_train": out, "out_grad_x": x.grad, "out_eval": net.eval()(x.detach())}
    for name, place in (("bn1", 1), ("bn4", 4)):
        for branch in ("main", "aux"):
            norm = getattr(net[place], branch)
            found[f"out_grad_{name}_{branch}_weight"] = norm.weight.grad
            for key in ("running_mean", "running_var"):
                found[f"out_{name}_{branch}_{key}"] = getattr(norm, key)
    return found


def corrected(r: Recording) -> dict[str, Any]:
    """With several pseudo-labelled images the release weighs each with the mean of all their maps."""
    h, label, noisy = r.hyper, r.label("label"), r.tensor("is_noisy") == 1
    known = label[noisy]
    found: dict[str, Any] = {}
    for name in ("dyn", "half"):
        z = r.tensor("pred", grad=True)
        w = trust(z[noisy], h["switch"]) if name == "dyn" else torch.full(known.shape, 0.5)
        w = w.mean(0, keepdim=True).expand_as(w)
        part = corrected_map(z[noisy], known, w, h["alpha"], h["beta"]).mean()
        clean = ce(z[~noisy], label[~noisy])
        (part + clean).backward()
        found |= {f"out_loss_{name}": part + clean, f"out_grad_{name}": grad_of(z)}
        found |= {"out_noisy_dyn": part, "out_clean": clean} if name == "dyn" else {}
    assert not bool((known == VOID).any())
    return found


for what in ("sce", "sce_batch"):
    adapter("simple_baseline", what)(corrected)
