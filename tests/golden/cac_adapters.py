"""CAC against recordings of its official code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from consistency_adapters import views
from harness import Recording, adapter, task_of
from torch import Tensor, nn

from s4kit.methods.consistency import cac
from s4kit.methods.consistency.cac import CAC
from s4kit.methods.parts.losses import pixel_mean
from s4kit.views import Views, align, overlapping
from s4kit.views.geometry import Window, placement, source_of


def crop_of(flips: Tensor, size: tuple[int, int], corners: list[tuple[int, int]]) -> Views:
    """A view of `size` = (h, w) pixels of one image, which starts at the given corners of it; h and w may differ."""
    view, width = views(torch.zeros(len(corners), 3, *size), torch.ones(len(corners), *size)), size[1]
    rows = [
        (1.0, float(top), -1.0, left + width - 1.0) if f else (1.0, float(top), 1.0, float(left))
        for (top, left), f in zip(corners, flips)
    ]
    view.where = torch.tensor(rows)
    return view


class Plain(nn.Module):
    """The recorded classifier and projection behind features that are the network's answer."""

    def __init__(self, r: Recording) -> None:
        super().__init__()
        layer = {k: r.tensor(k) for k in ("cls_w", "cls_b", "proj0_w", "proj0_b", "proj1_w", "proj1_b")}

        def conv(name: str) -> nn.Conv2d:
            weight = layer[f"{name}_w"]
            made = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
            made.weight.data, made.bias.data = weight, layer[f"{name}_b"]
            return made

        self.decoder = SimpleNamespace(classifier=conv("cls"), embedding_channels=layer["cls_w"].shape[1])
        self.heads = nn.ModuleDict({"project": nn.Sequential(conv("proj0"), nn.ReLU(), conv("proj1"))})


def steps(r: Recording) -> dict[str, Any]:
    h, selected = r.hyper, r.tensor("selected")
    method = CAC(
        task_of(h["num_classes"]),
        net="tiny",
        tau=h["pos_thresh_value"],
        weight=h["weight_unsup"],
        temperature=h["temp"],
        samples=h["selected_num"],
        keep=h["step_save"] + 1,
        dim=r.inputs["in_proj1_w"].shape[0],
    )
    method.student = net = Plain(r)
    box1, box2, flip = r.tensor("box1"), r.tensor("box2"), r.tensor("flip")
    size = tuple(side // (2 if h["downsample"] else 1) for side in r.inputs["in_features"].shape[-2:])
    # crop 1 starts in the middle of an image; crop 2 so that the recorded boxes are the same cells
    middle = [size] * len(box1)
    other = [(m + int(a[0] - b[0]), n + int(a[1] - b[1])) for (m, n), a, b in zip(middle, box1, box2)]
    pair = crop_of(flip[:, 0], size, middle), crop_of(flip[:, 1], size, other)
    for view, box in zip(pair, (box1, box2)):
        view.valid = inside(box, view)  # the recorded boxes end where the image does
    l_1, l_2, sizes = [], [], []
    for number, given in enumerate(r.tensor("features")):
        leaf, draws = given.clone().requires_grad_(), list(selected[number])
        f = [F.avg_pool2d(k, 2) if h["downsample"] else k for k in (leaf[:, 0], leaf[:, 1])]
        with patch.object(cac, "draw_positions", lambda *_: draws.pop(0)):  # noqa: B023
            terms = method.contrast(f, pair)
        one, two = (pixel_mean(loss, kept, torch.ones_like(kept), over="weight") for loss, kept in terms)
        net.zero_grad()
        (method.weight * (one + two)).backward()
        l_1.append(one.detach())
        l_2.append(two.detach())
        sizes.append((min(number + 1, h["step_save"] + 1), int(method.bank.count)))
    held = method.bank.take(0, torch.arange(sizes[-1][1]))
    project = net.heads["project"]
    return {
        "out_loss1": torch.stack(l_1),
        "out_loss2": torch.stack(l_2),
        "out_loss_unsup": method.weight * (torch.stack(l_1) + torch.stack(l_2)),
        "out_bank_steps_and_size": np.array(sizes),
        "out_grad_features_last": leaf.grad,
        "out_grad_project_last": torch.cat([p.grad.flatten() for p in project.parameters()]),
        "out_bank_features_last": held[:, :-1],
        "out_bank_labels_last": held[:, -1],
    }


def inside(box: Tensor, view: Views) -> Tensor:
    """(B, h, w) 1 in the recorded box of what both crops show, which is meant for the crop before its flip."""
    mask = torch.zeros(view.valid.shape)
    for part, (top, left, bottom, right), a in zip(mask, box, view.where):
        part[top:bottom, left:right] = 1
        if a[2] < 0:
            part.copy_(part.flip(1))
    return mask


adapter("cac", "contrast")(steps)
adapter("cac", "bank")(steps)


class Draws:
    """A generator that gives recorded whole numbers in turn, and never flips."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def integers(self, *_: int) -> int:
        return self.numbers.pop(0)

    def random(self) -> float:
        return 1.0


@adapter("cac", "overlap")
def cac_overlap(r: Recording) -> dict[str, Any]:
    """Corners from the recorded draws, and the boxes of what both crops show of the image."""
    h, rows = r.hyper, []
    crop, stride = h["crop"], h["stride"]
    geometry = overlapping(stride=stride, iou=tuple(h["iou_bound"]), flip=0.0)
    for (height, width), draws in zip(r.inputs["in_hw"].tolist(), r.inputs["in_draws"].tolist()):
        first = Window(height, width, draws[1], draws[0], False)
        second = geometry.beside(Draws([d for d in draws[2:] if d >= 0]), first, crop)
        pair = []
        for window in (first, second):
            view = views(torch.zeros(1, 3, crop, crop), torch.ones(1, crop, crop))
            view.where = torch.tensor([source_of(window, (height, width), crop)])
            _, _, bottom, right = placement(window, crop)  # where the image ends; whole cells count
            view.valid[:, bottom if bottom == crop else bottom // stride * stride :] = 0
            view.valid[..., right if right == crop else right // stride * stride :] = 0
            pair.append(view)
        found = []
        for here, there in (pair, pair[::-1]):
            seen, shown = align(there.valid, there, here)
            ys, xs = ((seen * shown * here.valid)[0] > 0).nonzero().T
            found += [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]
        rows.append([first.top, first.left, second.top, second.left, *map(int, found)])
    return {"out_geometry": np.array(rows)}
