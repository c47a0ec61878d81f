"""SLRNet against recordings of its official code."""

from __future__ import annotations

import re
from typing import Any

import torch
from consistency_adapters import views
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods.base import Clock
from s4kit.methods.parts import pamr
from s4kit.methods.parts.claims import chosen, image_scores
from s4kit.methods.weak.slrnet import Seen, SLRNet, balanced_ce
from s4kit.nets.lowrank import LowRank, class_centres
from s4kit.nets.segnet import Features, Fused, SegNet, resize
from s4kit.views import Batch

LATE = Clock(99, 100)


def filled(layer: nn.Module, r: Recording, name: str) -> nn.Module:
    layer.weight.data, layer.bias.data = r.tensor(f"w{name}"), r.tensor(f"b{name}")
    return layer


def conv(r: Recording, name: str, **options: int) -> nn.Conv2d:
    out, into, side, _ = r.inputs[f"in_w{name}"].shape
    return filled(nn.Conv2d(into, out, side, **options), r, name)


@adapter("slrnet", "lowrank")
def lowrank(r: Recording) -> dict[str, Any]:
    h, x = r.hyper, r.tensor("x", grad=True)
    net = LowRank(x.shape[2], h["num_iters"], h["temperature"])
    filled(net.enter, r, "1"), filled(net.leave, r, "2")
    centres = class_centres(x, r.tensor("p").flatten(2)).detach()
    found = net(x, centres)
    (found.map * r.tensor("cotangent")).sum().backward()
    return {
        "out_dict_init": centres.mT,
        "out_recon": found.map,
        "out_coding": found.coding,
        "out_dictionary": found.atoms,
        "out_grad_x": grad_of(x),
        "out_grad_w1": net.enter.weight.grad,
    }


@adapter("slrnet", "pamr")
def refined(r: Recording) -> dict[str, Any]:
    return {"out_mask": pamr.refined(r.tensor("image"), r.tensor("mask"), r.hyper["num_iter"], r.hyper["dilations"])}


def told(tags: Tensor | None) -> Tensor | None:
    """Tags with the background's in front."""
    return None if tags is None else torch.cat([torch.ones(len(tags), 1), tags], 1)


@adapter("slrnet", "pseudo")
def pseudo(r: Recording) -> dict[str, Any]:
    mask, z = r.tensor("mask"), r.tensor("features")
    found = {"out_cls": image_scores(z, z.softmax(1))[:, 1:]}
    for name, tags in (("tags", r.tensor("tags")), ("notags", None)):
        h = r.hyper[name]
        limits = (h["cutoff_top"], h["bg_factor"], h["cutoff_low"])
        method = SLRNet(task_of(mask.shape[1]), net="tiny", tags=name == "tags", thresholds=limits)
        view = views(torch.zeros(len(mask), 3, *mask.shape[2:]), torch.ones(len(mask), *mask.shape[2:]))
        view.tags = told(tags)
        logits = r.tensor("logits", grad=True)
        large = resize(logits, mask.shape[2:], align_corners=True)
        loss = balanced_ce(large, method.pseudo_labels(mask, view, LATE)).mean((1, 2))
        loss.sum().backward()
        claimed = chosen(mask * method.there(view)[:, :, None, None], method.factors, method.low)
        found |= {f"out_pseudo_{name}": claimed.float(), f"out_loss_{name}": loss, f"out_grad_{name}": grad_of(logits)}
    return found


class Backbone(nn.Module):
    """One convolution and ReLU. It sees the recorded image where it is shown the raw one, and makes it smaller where
    it is shown a smaller one."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, r: Recording, order: Tensor) -> None:
        super().__init__()
        self.conv, self.image = conv(r, "_enc", stride=2, padding=1), r.tensor("img")[order]

    def forward(self, image: Tensor, levels: Any = (), after: Any = None) -> tuple[Tensor, ...]:
        return (self.conv(resize(self.image, image.shape[-2:], align_corners=True)).relu(),)


class Decoder(nn.Module):
    """The 1x1 convolution alone."""

    align_corners = True

    def __init__(self, r: Recording) -> None:
        super().__init__()
        self.last = conv(r, "_seg")
        self.fused_channels = self.embedding_channels = self.last.in_channels

    def fuse(self, features: Features) -> Fused:
        return Fused(features.high, features.high)

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        return self.last(map), map


@adapter("slrnet", "step_tags")
def step_tags(r: Recording) -> dict[str, Any]:
    return step(r, True)


@adapter("slrnet", "step_notags")
def step_notags(r: Recording) -> dict[str, Any]:
    return step(r, False)


def figures(text: str) -> tuple[float, float, float]:
    """Thresholds that a file says in words: "cutoff_top 0.6, cutoff_low 0.2, background factor 0.7"."""
    said = dict(part.strip().rsplit(" ", 1) for part in text.partition(" (")[0].partition(";")[0].split(","))
    return float(said["cutoff_top"]), float(said["background factor"]), float(said["cutoff_low"])


def step(r: Recording, tags: bool) -> dict[str, Any]:
    h, classes, n = r.hyper, r.inputs["in_seg"].shape[1], int(r.inputs["in_labelled"].sum())
    order = r.tensor("labelled").argsort(descending=True, stable=True)  # in the kit the labelled ones come first
    back = order.argsort()
    raw, truth, named = (r.tensor(key)[order] for key in ("raw", "seg", "tags"))
    built = SegNet(Backbone(r, order), Decoder(r), classes)
    method = SLRNet(
        task_of(classes), net=lambda **_: built, tags=tags, thresholds=figures(h["pseudo"]), shrink=h["scale_factor"],
        weights=tuple(float(w) for w in re.findall(r"[\d.]+(?=\*)", r.text("out_total"))[:4]),
        iterations=h["num_iters"], temperature=h["temperature"], rounds=h["pamr_iter"], dilations=h["pamr_dilations"],
    )  # fmt: skip
    decoder = built.decoder
    decoder.before, decoder.aux = nn.Identity(), conv(r, "_aux")
    filled(decoder.lowrank.enter, r, "1"), filled(decoder.lowrank.leave, r, "2")
    x, u = (views(raw[rows], torch.ones_like(raw[rows, 0])) for rows in (slice(n), slice(n, None)))
    x.label = truth[:n].argmax(1).where(truth[:n].sum(1) > 0, VOID)
    u.tags = told(named[n:]) if tags else None
    losses = method.losses(Batch(x=x, u=u), LATE)
    losses.total.backward()

    seen = method.look(raw)
    belief = method.believed(seen, raw)[n:]
    target = method.truth(x).zip_with(lambda *both: torch.cat(both), method.pseudo_labels(belief, u, LATE))
    seg = method.far(seen, target).mean((1, 2))
    of_tags = [method.of_tags(Seen(*(t[i : i + 1] for t in seen)), named[i : i + 1]) for i in range(n, len(raw))]
    claimed = chosen(belief * method.there(u)[:, :, None, None], method.factors, method.low)
    return {
        "out_cls_loss": torch.cat([seg[:n], torch.stack(of_tags) if tags else torch.zeros(len(raw) - n)])[back],
        "out_seg_loss": seg[back],
        "out_reg_loss": losses["reg"][0][None],
        "out_code_loss": losses["code"][0][None],
        "out_pseudo": torch.cat([truth[:n], claimed.float()])[back],
        "out_total": losses.total,
        "out_grad_w_enc": built.backbone.conv.weight.grad,
        "out_grad_w_seg": decoder.decoder.last.weight.grad,
        "out_grad_w1": decoder.lowrank.enter.weight.grad,
    }
