"""CCT against recordings of its official code."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.consistency.cct import CCT, spread
from s4kit.methods.parts import adversary
from s4kit.methods.parts.adversary import adversarial_noise
from s4kit.methods.parts.components import regions, windows
from s4kit.methods.parts.distances import distance
from s4kit.methods.parts.losses import ohem, pixel_mean
from s4kit.nets import Features, SegNet
from s4kit.nets.perturb import drop_active, hide, scale_noise
from s4kit.nets.psp import ShuffleDecoder
from s4kit.views import Batch


def method_of(classes: int, net: Any = "tiny", **options: Any) -> CCT:
    return CCT(SimpleNamespace(num_classes=classes), net=net, **options)


@adapter("cct", "rampup")
def cct_rampup(r: Recording) -> dict[str, Any]:
    """The kit's clock in place of epochs: the whole training is as long as theirs."""
    h = r.hyper
    method = method_of(h["num_classes"], weight=h["final_w"], ramp_up=h["rampup_ends_epochs"] / h["epochs"])
    at = (r.inputs["in_epoch"] * h["iters_per_epoch"] + r.inputs["in_iter"]).tolist()
    clocks = [Clock(i, h["iters_per_epoch"] * h["epochs"]) for i in at]
    images = views(torch.rand(2, 3, 32, 32), torch.ones(2, 32, 32))
    batch = Batch(x=images, u=images)
    return {
        "out_weight": torch.tensor([method.losses(batch, c)["u"][1] for c in clocks], dtype=torch.float64),
        "out_abce_threshold": torch.tensor([method.threshold(c) for c in clocks], dtype=torch.float64),
    }


@adapter("cct", "abce")
def cct_abce(r: Recording) -> dict[str, Any]:
    h, z = r.hyper, r.tensor("logits", grad=True)
    step = h["epoch"] * h["iters_per_epoch"] + h["iter"]
    threshold = method_of(z.shape[1]).threshold(Clock(step, h["epochs"] * h["iters_per_epoch"]))
    loss = ohem(threshold, per_image=h["min_kept"])(z, r.label("label"))
    loss.backward()
    return {"out_loss": loss, "out_grad_logits": grad_of(z), "out_threshold": threshold}


@adapter("cct", "consistency")
def cct_consistency(r: Recording) -> dict[str, Any]:
    """The rule and the distances of the method; with a threshold the release divides KL by all pixels, and by no C."""
    answers, q = {}, r.tensor("target_prob")
    classes = q.shape[1]
    view = views(torch.zeros(len(q), 3, *q.shape[2:]), torch.ones(q[:, 0].shape))
    cases = {"mse": "squared", "mse_conf": "squared", "kl": "kl", "kl_conf": "kl", "js": "js"}
    for name, kind in cases.items():
        z, method = r.tensor("aux_logits", grad=True), method_of(classes)
        method.tau = r.hyper["threshold"] if name.endswith("conf") else 0.0
        target = method.pseudo_labels(q.log(), view, START)
        far = distance(kind)(z, q.log()) / (1 if name == "kl_conf" else classes)
        loss = pixel_mean(far, target.weight, target.valid, over="all" if name == "kl_conf" else "kept")
        loss.backward()
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": grad_of(z)}
    return answers


@adapter("cct", "pairwise")
def cct_pairwise(r: Recording) -> dict[str, Any]:
    return {"out_loss": spread(r.tensor("outputs").softmax(2)).mean()}


def decoder_of(weight: Tensor, *pairs: Tensor) -> ShuffleDecoder:
    """The kit's decoder with recorded weights: the 1x1 convolution, then weight and bias of each doubling."""
    decoder = ShuffleDecoder(weight.shape[1], weight.shape[0], len(pairs) // 2).to(weight.dtype)
    with torch.no_grad():
        for own, given in zip(decoder.parameters(), (weight, *pairs), strict=True):
            own.copy_(given)
    return decoder


@adapter("cct", "main_decoder")
def cct_main_decoder(r: Recording) -> dict[str, Any]:
    doublings = range(1, int(math.log2(r.hyper["upscale"])) + 1)
    names = ["upsample_0_weight"] + [f"upsample_{i}_conv_{k}" for i in doublings for k in ("weight", "bias")]
    f = r.tensor("feature", grad=True)
    logits = decoder_of(*(r.tensor(n) for n in names))(f)
    (logits * r.tensor("grad_output")).sum().backward()
    return {"out_logits": logits, "out_grad_feature": f.grad}


@adapter("cct", "perturbations")
def cct_perturbations(r: Recording) -> dict[str, Any]:
    f, label = r.tensor("feature"), r.tensor("pred_logits").argmax(1)
    method = method_of(r.inputs["in_pred_logits"].shape[1])
    return {
        "out_context_masked": method.damage("context0", f, label),
        "out_object_masked": method.damage("objects0", f, label),
        "out_feature_drop": drop_active(r.tensor("feature_positive"), r.tensor("drop_factor")),
        "out_feature_noise": scale_noise(f, r.tensor("noise")),
    }


@adapter("cct", "guided_cutout")
def cct_guided_cutout(r: Recording) -> dict[str, Any]:
    """Their draws are whole numbers in the order of OpenCV's contours, from the bottom up; ours are uniforms."""
    thing, h = r.tensor("pred_label") > 0, r.hyper
    height, width = thing.shape[1:]
    found = regions(thing)
    uniform = torch.zeros(len(thing), height * width + 1, 2)
    draws, limits = r.tensor("draws"), r.tensor("draw_limits")
    share = (draws + 0.5) / (limits + 1)
    large = [
        (b, n) for b in range(len(thing)) for n in (found.edge[b] > h["min_contour_points"]).nonzero()[:, 0].tolist()
    ]
    large.sort(key=lambda key: (key[0], -int(found.bottom[key])))
    assert 2 * len(large) == len(draws)
    for i, (b, n) in enumerate(large):
        uniform[b, n] = share[2 * i : 2 * i + 2].flip(0)  # theirs: column, then row
        extents = torch.stack([found.right[b, n] - found.left[b, n], found.bottom[b, n] - found.top[b, n]])
        assert torch.equal((extents * (1 - h["erase"])).long(), limits[2 * i : 2 * i + 2])
    keep = ~windows(thing, uniform, h["erase"], h["min_contour_points"])
    return {"out_mask": hide(torch.ones(len(thing), 1, *h["feature_size"]), keep)}


def released_noise(predict: Any, x: Tensor, direction: Tensor, xi: float, radius: float) -> Tensor:
    """The releases differentiate for the unit direction: xi times the kit's gradient, beside the same 1e-8."""
    norms = iter((1e-8, 1e-8 / xi))
    with patch.object(adversary, "unit", lambda t: t / (adversary.length(t) + next(norms))):
        return adversarial_noise(predict, x, direction, xi, radius)


@adapter("cct", "vat")
def cct_vat(r: Recording) -> dict[str, Any]:
    h, f, u = r.hyper, *(torch.from_numpy(r.inputs[f"in_{k}"]) for k in ("feature", "uniform"))
    doublings = range(1, int(math.log2(h["upscale"])) + 1)
    names = ["0_weight"] + [f"{i}_conv_{k}" for i in doublings for k in ("weight", "bias")]
    decoder = decoder_of(*(torch.from_numpy(r.inputs[f"in_{n}"]) for n in names))
    noise = adversarial_noise(decoder, f, u - 0.5, h["xi"], h["eps"])
    released = released_noise(decoder, f, u - 0.5, 1e-6, h["eps"])
    return {
        "out_r_adv": noise,
        "out_r_adv_xi1e6": released,
        "out_norm": noise.flatten(1).norm(dim=1),
        "out_norm_xi1e6": released.flatten(1).norm(dim=1),
        "out_logits": decoder(f + noise),
    }


class Toy(SegNet):
    """A 1x1 convolution and the kit's shuffle decoders, which enlarge it.

    The recorded consistency lives at the decoders' size; the kit's at the image's. So unlabelled images come as large
    as that, and one pixel of each cell of them is read.
    """

    def __init__(self, r: Recording, read: Any) -> None:
        nn.Module.__init__(self)
        self.conv, self.heads, self.classes = nn.Conv2d(3, r.hyper["cin"], 1), nn.ModuleDict(), r.hyper["num_classes"]
        self.conv.weight.data, self.conv.bias.data = r.tensor("enc_w"), r.tensor("enc_b")
        self.decoder, self.size, up = nn.Module(), r.inputs["in_x_l"].shape[-2:], r.hyper["upscale"]
        self.every = (..., slice(None, None, up), slice(None, None, up))
        self.decoder.classifier = read(r.tensor("main_params"))
        first, second = r.tensor("aux_params").chunk(2)
        self.decoder.align_corners = True
        self.branches = [read(first), read(second)]
        self.decoder.branch = lambda: self.branches.pop(0)

    def encode(self, image: Tensor, start: Features | None = None) -> Features:
        return Features((self.conv(image if image.shape[-2:] == self.size else image[self.every]),) * 2)

    def fuse(self, features: Features) -> Any:
        return SimpleNamespace(map=features.high)

    def classify(self, map: Tensor, size: Any = None) -> Any:
        return SimpleNamespace(logits=self.enlarge(self.decoder.classifier(map), size))


@adapter("cct", "step")
def cct_step(r: Recording) -> dict[str, Any]:
    h = r.hyper
    cin, classes = h["cin"], h["num_classes"]
    doublings = int(math.log2(h["upscale"]))

    def read(flat: Tensor) -> ShuffleDecoder:
        decoder = ShuffleDecoder(cin, classes, doublings)
        nn.utils.vector_to_parameters(flat, decoder.parameters())
        return decoder

    method = method_of(classes, lambda **_: Toy(r, read), counts={"context": 1, "objects": 1}, weight=h["final_w"])
    epochs = 10 * h["rampup_ends_epochs"] + h["epoch"]  # how long the training is the file does not say
    method.ramp_up = h["rampup_ends_epochs"] / epochs
    clock = Clock(h["epoch"] * h["iters_per_epoch"] + h["iter"], epochs * h["iters_per_epoch"])
    label, image = r.label("y_l"), r.tensor("x_ul")
    large = F.interpolate(image, scale_factor=h["upscale"], mode="nearest")
    x, u = views(r.tensor("x_l"), label != VOID, label), views(large, torch.ones(large[:, 0].shape))
    losses = method.losses(Batch(x=x, u=u), clock)
    losses.total.backward()
    net = method.student

    def flat(module: nn.Module) -> Tensor:
        return torch.cat([p.grad.flatten() for p in module.parameters()])

    return {
        "out_loss_sup": losses["x"][0],
        "out_loss_unsup": losses["u"][0] * losses["u"][1],
        "out_total": losses.total,
        "out_grad_enc_w": net.conv.weight.grad,
        "out_grad_main": flat(net.decoder.classifier),
        "out_grad_aux": torch.cat([flat(net.heads["context0"]), flat(net.heads["objects0"])]),
        "out_pred_l": net(x.weak),
    }
