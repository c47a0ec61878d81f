"""GuidedMix-Net against a recording of its official code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods.consistency import guidedmix
from s4kit.methods.consistency.guidedmix import GuidedMix
from s4kit.nets import Decoded
from s4kit.nets.segnet import Fused
from s4kit.views import Batch


class Stub(Recorded):
    """A recorded fused map and its recorded logits; the second head is a real one."""

    def __init__(self, fused: Tensor, logits: Tensor, head: nn.Module) -> None:
        super().__init__([])
        self.fused, self.logits = fused, logits
        self.decoder = SimpleNamespace(branch=lambda: head, align_corners=False)

    def fuse(self, features: Any) -> Fused:
        return Fused(self.fused, self.fused)

    def classify(self, map: Tensor, size: Any = None) -> Decoded:
        return Decoded(self.logits, map, map)


@adapter("guidedmix", "decouple")
def guidedmix_decouple(r: Recording) -> dict[str, Any]:
    """The release permutes the unlabelled side, the kit the labelled one by the inverse: the same pairs."""
    h, perm = r.hyper, r.tensor("perm")
    z_x, z_u = r.tensor("logits_labelled", grad=True), r.tensor("logits_unlabelled")
    w, w_cls = r.tensor("mixhead_bottleneck_w"), r.tensor("mixhead_cls_w")
    head = nn.Sequential(
        nn.Conv2d(w.shape[1], len(w), w.shape[2:], padding=w.shape[2] // 2), nn.ReLU(), nn.Conv2d(len(w), len(w_cls), 1)
    )
    for layer, name in ((head[0], "bottleneck"), (head[2], "cls")):
        layer.weight.data, layer.bias.data = r.tensor(f"mixhead_{name}_w"), r.tensor(f"mixhead_{name}_b")
    fused = torch.cat([r.tensor("aspp_labelled"), r.tensor("aspp_unlabelled")])
    method = GuidedMix(
        task_of(h["num_classes"]),
        net=lambda **_: Stub(fused, torch.cat([z_x, z_u]), head),
        most=h["lambda_factor"],
        weight=h["loss_weight"],
        gamma=h["gamma"],
        alpha=h["alpha"],
    )
    image = torch.zeros(len(z_x), 3, *z_x.shape[2:])
    void = torch.full(z_x[:, 0].shape, VOID)
    x, u = (views(image, torch.ones(void.shape), void, strong=[image]) for _ in "xu")
    decoupled, focal = [], guidedmix.sigmoid_focal

    def watch(d: Tensor, *rest: Any) -> Tensor:
        decoupled.append(d.detach())
        return focal(d, *rest)

    with (
        patch.object(guidedmix.random, "betavariate", lambda *_: float(r.inputs["in_beta_draw"])),
        patch.object(guidedmix.torch, "randperm", lambda *_, **__: perm.argsort()),
        patch.object(guidedmix, "sigmoid_focal", watch),
    ):
        losses = method.losses(Batch(x=x, u=u), START)
    losses.total.backward()
    return {
        "out_lambda": guidedmix.fold(float(r.inputs["in_beta_draw"])),
        "out_decoupled_unlabelled": decoupled[0][perm],
        "out_target_label": losses.seen["target"].label[perm],
        "out_loss": losses.total,
        "out_grad_mixhead_bottleneck_w": head[0].weight.grad,
        "out_grad_cls_b": grad_of(z_x).sum((0, 2, 3)),
    }
