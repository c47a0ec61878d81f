"""IFR against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import views
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.methods.base import Clock
from s4kit.methods.video.ifr import IFR, ClassMeans, prototypes, rebuild
from s4kit.nets.segnet import Features, Fused, SegNet
from s4kit.views import Batch


@adapter("ifr", "prototypes")
def class_prototypes(r: Recording) -> dict[str, Any]:
    features, z = r.tensor("feat", grad=True), r.tensor("logit")
    found = prototypes(features, z.argmax(1), z.shape[1])
    (found.mean.mT * r.tensor("cotangent")).sum().backward()
    return {
        "out_prototypes": found.mean.mT,
        "out_present": found.there.float(),
        "out_grad_feat": grad_of(features),
    }


@adapter("ifr", "reconstruct")
def reconstruct(r: Recording) -> dict[str, Any]:
    features, mean = r.tensor("feat", grad=True), r.tensor("prototypes", grad=True)
    of = ClassMeans(mean.mT[None], torch.ones(1, mean.shape[1], dtype=torch.bool))
    made = rebuild(features[None], of, r.hyper["temperature"])
    (made * r.tensor("cotangent")).sum().backward()
    return {"out_recon": made, "out_grad_feat": grad_of(features), "out_grad_prototypes": grad_of(mean)}


class Backbone(nn.Module):
    """One convolution of stride 4."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.conv = _filled(nn.Conv2d(weight.shape[1], weight.shape[0], 3, 4, 1), weight, bias)

    def forward(self, image: Tensor, levels: Any = (), after: Any = None) -> tuple[Tensor, ...]:
        return (self.conv(image),)


class Decoder(nn.Module):
    """One convolution and ReLU, then the classifier."""

    align_corners = False

    def __init__(self, head: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.head, self.classifier = head, classifier

    def fuse(self, features: Features) -> Fused:
        return Fused(features.high, features.high)

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.head(map).relu()
        return self.classifier(embedding), embedding


def _filled(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv.weight.data, conv.bias.data = weight.clone(), bias.clone()
    return conv


@adapter("ifr", "step")
def step(r: Recording) -> dict[str, Any]:
    h, w = r.hyper, {key: r.tensor(key) for name in ("backbone", "head", "cls") for key in (f"w_{name}", f"b_{name}")}
    classes, width = w["w_cls"].shape[:2]
    head = _filled(nn.Conv2d(w["w_head"].shape[1], width, 3, 1, 1), w["w_head"], w["b_head"])
    classifier = _filled(nn.Conv2d(width, classes, 1), w["w_cls"], w["b_cls"])
    net = SegNet(Backbone(w["w_backbone"], w["b_backbone"]), Decoder(head, classifier), classes)
    steps = 10 * h["rampup_length"]
    method = IFR(
        task_of(classes), net=lambda **_: net, temperature=h["temperature"], logit_temperature=h["temperature_logits"],
        labelled=h["weight_re_labeled"], unlabelled=h["weight_re_unlabeled"], strong=h["weight_re_strong"],
        ramp=h["rampup_length"] / steps,
    )  # fmt: skip
    label = r.label("gt")

    def seen(name: str, strong: bool = False, label: Tensor | None = None) -> Any:
        image = r.tensor(f"img_{name}")
        made = views(image, torch.ones(len(image), *image.shape[-2:]), label)
        made.strong = [r.tensor(f"img_{name}_s")] if strong else []
        return made

    batch = Batch(x=seen("v0_0", label=label), x_other=seen("v0_1", True), u=seen("v1_0"), u_other=seen("v1_1", True))
    losses = method.losses(batch, Clock(h["iter"], steps))
    losses.total.backward()
    return {
        "out_loss_seg": losses["x"][0],
        "out_loss_unsup": losses.total - losses["x"][0],
        "out_rampup": torch.tensor([losses["pair"][1] / h["weight_re_labeled"]]),
        "out_grad_w_backbone": net.backbone.conv.weight.grad,
        "out_grad_w_head": head.weight.grad,
        "out_grad_w_cls": classifier.weight.grad,
    }
