"""S4AL against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor

from s4kit.data.task import VOID
from s4kit.methods.active.s4al import S4AL
from s4kit.methods.parts.losses import entropy, pixel_ce
from s4kit.methods.parts.masks import chosen_mask
from s4kit.methods.parts.queries import cell_means, cells_asked
from s4kit.nets.segnet import resize
from s4kit.views import paste


@adapter("s4al", "acquisition")
def acquisition(r: Recording) -> dict[str, Any]:
    h, known = r.hyper, r.tensor("labelled_mask") == 1
    doubt = entropy(resize(r.tensor("logit"), known.shape[-2:], True)).masked_fill(known, 0.0)
    asked = cells_asked(doubt, h["region_size"], h["num_regions"])
    return {
        "out_labelled_mask": (known | asked).int(),
        "out_region_score": cell_means(doubt, h["region_size"]),
    }


@adapter("s4al", "unsup_loss")
def unsup_loss(r: Recording) -> dict[str, Any]:
    """The file calls pixels without a label -1: the two columns that it leaves out, and void among the asked."""
    found: dict[str, Any] = {}
    teacher, pred = r.tensor("teacher_logit"), r.tensor("pred", grad=True)
    view = views(torch.zeros(len(teacher), 3, *teacher.shape[-2:]), torch.ones(len(teacher), *teacher.shape[-2:]))
    truth = r.tensor("gt")
    view.maps = {"asked": r.tensor("region_mask"), "truth": truth.where(truth >= 0, VOID)}
    for k, sure in enumerate((False, True)):
        method = S4AL(
            task_of(teacher.shape[1]), net=lambda **_: Recorded([]), tau=r.hyper["strong_threshold"], sure=sure
        )
        label, confidence, valid = method.told(teacher, view)
        valid[:, :, :2] = 0
        loss = pixel_ce(pred, method.weighed(label, confidence, valid), over="valid")
        (gradient,) = torch.autograd.grad(loss, pred)
        found |= {f"out_loss_w{k}": loss, f"out_grad_w{k}": gradient}
        found |= {"out_label": label.where(valid > 0, -1), "out_conf": confidence}
    assert grad_of(pred).sum() == 0
    return found


@adapter("s4al", "biased_mix")
def biased_mix(r: Recording) -> dict[str, Any]:
    """The second half of the images is pasted on the first."""
    label = r.tensor("label")
    known = label.where(label >= 0, VOID)
    mask = chosen_mask(known.chunk(2)[1], r.tensor("chosen") == 1)

    def both(x: Tensor) -> Tensor:
        own, donors = x.chunk(2)
        return paste(mask, donors, own)

    return {"out_img": both(r.tensor("img")), "out_label": both(label), "out_conf": both(r.tensor("conf"))}
