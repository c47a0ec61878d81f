"""The yardstick of the step benchmark: UniMatch as one flat loop, with the same network and the same forward passes.

Written the plain way: contiguous NCHW tensors, PyTorch's own activations, masks expanded to the images, in-place
pasting, one loss at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets import Features, SegNet
from ...nets.layers import ReLU6
from ...views import Batch


def plain_unimatch(
    net: SegNet, optimiser: torch.optim.Optimizer, tau: float = 0.95, drop: float = 0.5
) -> Callable[[Batch], None]:
    """A function that makes one training step on a batch with the streams x, u and v."""
    keep = nn.Dropout2d(drop)
    for part in net.modules():
        for name, child in part.named_children():
            if isinstance(child, ReLU6):
                setattr(part, name, nn.ReLU6(inplace=True))

    def step(batch: Batch) -> None:
        x, u, v = batch.x, batch.u, batch.v
        ignored = torch.where(u.valid > 0, 0, 255)
        ignored_v = torch.where(v.valid > 0, 0, 255)
        net.eval()
        with torch.no_grad():
            confidence_v, label_v = net(v.weak).softmax(1).max(1)
        net.train()
        strong = [s.clone() for s in u.strong]
        for image, other, mask in zip(strong, v.strong, u.masks):
            where = mask.unsqueeze(1).expand(image.shape)
            image[where] = other[where]

        features = net.encode(torch.cat([x.weak, u.weak]))
        low, high, size, n = features.low, features.high, x.weak.shape[-2:], len(x)
        both = Features((torch.cat([low, keep(low)]), torch.cat([high, keep(high)])))
        logits, dropped = net.decode(both, size).logits.chunk(2)
        logits_x, logits_u = logits[:n], logits[n:]
        logits_fp = dropped[n:]
        logits_s = net(torch.cat(strong)).chunk(2)

        confidence, label = logits_u.detach().softmax(1).max(1)
        loss = F.cross_entropy(logits_x, x.label, ignore_index=255) / 2
        for logits_i, mask in zip(logits_s, u.masks):
            label_i, confidence_i, ignored_i = label.clone(), confidence.clone(), ignored.clone()
            label_i[mask], confidence_i[mask], ignored_i[mask] = label_v[mask], confidence_v[mask], ignored_v[mask]
            loss = loss + _masked(logits_i, label_i, confidence_i, ignored_i, tau) / 8
        loss = loss + _masked(logits_fp, label, confidence, ignored, tau) / 4
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _masked(logits: Tensor, label: Tensor, confidence: Tensor, ignored: Tensor, tau: float) -> Tensor:
    loss = F.cross_entropy(logits, label, reduction="none")
    return (loss * ((confidence >= tau) & (ignored != 255))).sum() / (ignored != 255).sum()
