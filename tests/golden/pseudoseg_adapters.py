"""PseudoSeg against recordings of its official lines."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, task_of

from s4kit.methods.consistency.pseudoseg import PseudoSeg, fuse
from s4kit.methods.parts.contrast import shrink
from s4kit.methods.parts.losses import pixel_mean
from s4kit.nets import AttentionCam, grad_cam


@adapter("pseudoseg", "fusion")
def pseudoseg_fusion(r: Recording) -> dict[str, Any]:
    """The rule of the method, and its consistency term; `fuse` with T = 1 is the mean before the sharpening."""
    a, b, z = r.tensor("decoder_logits"), r.tensor("attention_logits"), r.tensor("student_logits", grad=True)
    method = PseudoSeg(task_of(a.shape[1]), net="tiny", temperature=r.hyper["temperature"])
    view = views(torch.zeros(len(a), 3, *a.shape[2:]), r.tensor("valid"))
    target = method.pseudo_labels((a, b), view, START)
    far = -(target.soft * z.log_softmax(1)).sum(1)
    loss = r.hyper["unlabeled_weight"] * pixel_mean(far, target.weight, target.valid, over="valid")
    loss.backward()
    scale = (torch.stack([a, b]).square().mean() + 1e-8).rsqrt()
    return {
        "out_scaled_decoder_logits": scale * a,
        "out_mean_prob": fuse(a, b, 1.0),
        "out_pseudo_label": target.soft,
        "out_loss": loss,
        "out_grad_student_logits": grad_of(z),
    }


@adapter("pseudoseg", "sgc")
def pseudoseg_sgc(r: Recording) -> dict[str, Any]:
    high, mid, weight = r.tensor("feature_s16"), r.tensor("feature_s15"), r.tensor("cls_w")
    head = AttentionCam(high.shape[1] + mid.shape[1], r.hyper["num_classes"], dim=r.hyper["attention_dim"])
    with torch.no_grad():
        for own, key in ((head.key, "key_w"), (head.query, "query_w"), (head.mix, "pixelnorm_w")):
            own.weight.copy_(r.tensor(key)[:, :, None, None])
        head.norm.shift.copy_(r.tensor("pixelnorm_beta"))
    maps = grad_cam(high, weight, r.tensor("image_label"))
    valid = shrink(r.tensor("valid"), high.shape[-2:]) > 0
    return {
        "out_class_logits": high.mean((2, 3)) @ weight.T,
        "out_cam": head.complete(maps, 1.0),
        "out_attention_logits": head(high, mid, maps, valid),
    }
