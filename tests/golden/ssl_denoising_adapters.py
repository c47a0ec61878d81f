"""Pseudo-label noise suppression against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from consistency_adapters import views
from harness import Recording, adapter, task_of
from torch import Tensor, nn

from s4kit.methods import Clock
from s4kit.methods.parts.cow import cow_mask
from s4kit.methods.selftraining import ssl_denoising
from s4kit.nets import Decoded, Features, SegNet
from s4kit.views import Batch


def but_for_ties(answer: Tensor, expected: np.ndarray, key: str) -> float:
    """A pixel whose smoothed noise is the threshold to seven digits may fall to either side: one in a thousand, say."""
    differ = float((answer.numpy() != expected).mean())
    return differ if differ > 1e-3 else 0.0


@adapter("ssl_denoising", "cow_mask", error=but_for_ties)
def masks(r: Recording) -> dict[str, Any]:
    found = {}
    for key in (key for key in r.inputs if key.startswith("in_noise_")):
        k = key.rsplit("_", 1)[1]
        sigma, offset = float(r.inputs[f"in_sigma_{k}"]), float(r.inputs[f"in_offset_{k}"])
        found[f"out_mask_{k}"] = cow_mask(r.tensor(f"noise_{k}")[None], sigma, offset)[0].to(torch.uint8)
    return found


class Toy(SegNet):
    """The recorded network: a scaled 3x3 convolution."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: float) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias, self.scale = nn.Parameter(weight.clone()), nn.Parameter(bias.clone()), scale
        self.heads, self.aux = nn.ModuleDict(), None

    def encode(self, image: Tensor, start: Features | None = None) -> Features:
        return Features((image, image))

    def decode(self, features: Features, size: Any = None) -> Decoded:
        z = self.scale * nn.functional.conv2d(features.low, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        return Decoded(z, z, z)


@adapter("ssl_denoising", "unsup_step")
def unsupervised_step(r: Recording) -> dict[str, Any]:
    h = r.hyper
    method = ssl_denoising.SSLDenoising(
        task_of(h["num_classes"]),
        net=lambda **_: Toy(r.tensor("student_weight"), r.tensor("student_bias"), h["logit_scale"]),
        decay=h["ema"],
    )
    with torch.no_grad():
        for name in ("teacher", "ema"):
            net = method.teacher if name == "teacher" else method.average
            net.weight.copy_(r.tensor(f"{name}_weight"))
            net.bias.copy_(r.tensor(f"{name}_bias"))
    optimiser = torch.optim.SGD(
        method.student.parameters(), h["lr"], h["momentum"], nesterov=h["nesterov"], weight_decay=h["weight_decay"]
    )
    images, m = r.tensor("images"), r.tensor("cow_mask")[:, 0] == 1
    u, v = (views(part, torch.ones(part[:, 0].shape)) for part in (images[0::2], images[1::2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl_denoising, "draw_cow_mask", lambda *_: m)
        losses = method.unsupervised(Batch(u=u, v=v), Clock(1, 10, stage=1))
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(method.student.parameters(), h["grad_clip_norm"])
    optimiser.step()
    method.after_step(Clock(1, 10, stage=1))
    target = losses.seen["target"]
    return {
        "out_mixed_images": losses.seen["mixed"][: len(r.expected["out_mixed_images"])],
        "out_label": target.label,
        "out_weight": target.weight,
        "out_loss": losses["u"][0],
        "out_student_weight": method.student.weight,
        "out_student_bias": method.student.bias,
        "out_ema_weight": method.average.weight,
        "out_ema_bias": method.average.bias,
    }
