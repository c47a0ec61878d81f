"""Pixel losses with the normaliser spelled out.

Methods differ less in what they sum than in what they divide by, so every mean here says its divisor: `over=`

    "all"     every pixel of the batch, B * H * W (CPS; CutMix-Seg): void and padding shrink the loss
    "valid"   pixels that may carry a loss: not void, not padding (FixMatch, UniMatch; the supervised term)
    "kept"    valid pixels that the rule accepts, weight > 0 (U2PL): the loss does not shrink when few are accepted
    "weight"  the sum of weight * validity (confidence-weighted means)

Everything runs in float32, with fixed shapes and without a look at a value from the host; a mean over nothing is a zero
that still has a gradient (of zero), never NaN.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from ...errors import S4Error
from ...nets import Features, SegNet
from ..base import Losses, PseudoLabels
from .precision import float32

Criterion = Callable[[Tensor, Tensor], Tensor]
OVER = ("all", "valid", "kept", "weight")


@float32
def pixel_mean(values: Tensor, weight: Tensor, valid: Tensor, *, over: str) -> Tensor:
    """sum(values * weight * valid) divided by what `over` says.

    Args:
        values: (B, H, W) loss of each pixel.
        weight: (B, H, W), or anything that broadcasts to it; 0 = rejected.
        valid: (B, H, W) in [0, 1]; 0 = void or padding.
        over: "all", "valid", "kept" or "weight", see above.

    Returns:
        A scalar; 0 where the divisor is 0.
    """
    if over not in OVER:
        raise ValueError(f"over={over!r}: choose one of {', '.join(OVER)}.")
    used = (weight * valid).expand_as(values)
    if over == "all":
        return (values * used).sum() / values.numel()
    divisor = {"valid": valid.expand_as(values), "kept": (used > 0).to(values.dtype), "weight": used}[over].sum()
    return (values * used).sum() / torch.where(divisor > 0, divisor, 1.0)


@float32
def ce_map(logits: Tensor, label: Tensor) -> Tensor:
    """(B, H, W) cross entropy of (B, C, H, W) logits and a (B, H, W) long label; 0 where the label is 255."""
    return _CrossEntropy.apply(logits, label)


class _CrossEntropy(torch.autograd.Function):
    """Keeps the logits, which exist anyway, for the backward pass, not their logarithmic softmax beside them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor) -> Tensor:
        ctx.save_for_backward(logits, label)
        return F.cross_entropy(logits, label, ignore_index=VOID, reduction="none")

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        logits, label = ctx.saved_tensors
        known = label != VOID
        gradient, at = logits.softmax(1), torch.where(known, label, 0)[:, None]
        gradient.scatter_(1, at, gradient.gather(1, at) - 1)
        return gradient.mul_((upstream * known)[:, None]), None


def pixel_ce(logits: Tensor, target: Tensor | PseudoLabels, *, over: str) -> Tensor:
    """Cross entropy with a label map or with pseudo-labels.

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) long with 255 = void, or PseudoLabels, whose weight and validity multiply each pixel's loss.
        over: the divisor, see `pixel_mean`. For a label map "valid", "kept" and "weight" are all its non-void pixels.
    """
    if isinstance(target, PseudoLabels):
        return pixel_mean(ce_map(logits, target.label), target.weight, target.valid, over=over)
    known = (target != VOID).to(torch.float32)
    return pixel_mean(ce_map(logits, target), known, known, over=over)


def upweighted_ce(logits: Tensor, target: PseudoLabels) -> Tensor:
    """BHW/n times the mean cross entropy over the n pixels that are kept (U2PL's release)."""
    n = (target.weight * target.valid).sum().clamp(min=1)
    return target.weight.numel() / n * pixel_ce(logits, target, over="kept")


def labelled_terms(
    rule: Criterion, logits: Tensor, label: Tensor, net: SegNet, features: Features, weight: float
) -> Losses:
    """Terms of the labelled images, which come first in the batch: of the classifier, and of the auxiliary head.

    Args:
        logits: (B, K, H, W) of the labelled images. label: (B, H, W). features: of the whole batch.
        weight: of the auxiliary head's term, where the network has one.
    """
    losses = Losses(x=rule(logits, label))
    if net.aux is not None:
        hint = net.auxiliary(features, label.shape[-2:])  # of the whole batch: its BN sees it, too
        losses.add("x_aux", rule(hint[: len(label)], label), weight)
    return losses


@float32
def union_ce(z_x: Tensor, label: Tensor, z_u: Tensor, target: PseudoLabels) -> tuple[Tensor, Tensor]:
    """One mean over labelled and pseudo-labelled pixels, as its two summands (self-training on a joined list).

    Args:
        z_x, label: logits (B, C, H, W) and labels (B, H, W) of the labelled images.
        z_u, target: of the others; the weights multiply the pixels' losses and count in the divisor.
    """
    known, used = (label != VOID).float(), target.weight * target.valid
    over = (known.sum() + used.sum()).clamp(min=1)
    return ce_map(z_x, label).sum() / over, (ce_map(z_u, target.label) * used).sum() / over


@float32
def ce(logits: Tensor, label: Tensor) -> Tensor:
    """The supervised term: mean cross entropy over the non-void pixels of the batch; 0 when all are void."""
    return ce_map(logits, label).sum() / (label != VOID).sum().clamp(min=1)


def ohem(
    thresh: float = 0.7,
    min_kept: int = 100_000,
    per_image: int | None = None,
    class_weight: Sequence[float] | None = None,
) -> Criterion:
    """Online hard example mining (Shrivastava et al., CVPR 2016), as all official Cityscapes recipes have it.

    Only hard pixels count: those whose true class has a probability of at most t = max(`thresh`, the `min_kept`-th
    smallest such probability), void pixels counting as 1; the mean is over what is left. When the batch has fewer than
    `min_kept` valid pixels, or for `min_kept` = 0, it is the plain `ce`.

    Args:
        thresh: probability above which a pixel is easy.
        min_kept: number of pixels to keep at least, per process.
        per_image: the same per image of the batch, instead of `min_kept`. Papers give a number per GPU with two images
            each; counted per image the rule is the same on any number of GPUs.
        class_weight: of each class, in the mean over the pixels that are kept, which it divides as well; the choice of
            the hard pixels does not know it.

    Returns:
        A criterion like `ce`: (logits, label) -> scalar.
    """
    every = min_kept == 0 and per_image is None
    if every and class_weight is None:
        return ce

    @float32
    def hard_ce(logits: Tensor, label: Tensor) -> Tensor:
        nll = ce_map(logits, label)
        valid = label != VOID
        kept = (valid if every else valid & hard(nll, valid)).to(nll.dtype)
        weight = kept
        if class_weight is not None:
            weight = kept * sum(w * (label == k) for k, w in enumerate(class_weight))
        return pixel_mean(nll, weight, kept, over="weight")

    @torch.no_grad()
    def hard(nll: Tensor, valid: Tensor) -> Tensor:
        wanted = min_kept if per_image is None else per_image * len(nll)
        true_class = torch.exp(-nll).flatten()  # void pixels have nll 0, hence probability 1
        kth = true_class.kthvalue(min(wanted, len(true_class))).values
        return (true_class.view_as(nll) <= kth.clamp(min=thresh)) | (valid.sum() < wanted)

    return hard_ce


def criterion(spec: str | Criterion) -> Criterion:
    """The supervised criterion of a method from its spec: "ce", "ohem", "ohem(thresh=0.7, per_image=100000)", or a
    function.

    Recipes and run configurations hold the text.

    Raises:
        S4Error: the text is none of these.
    """
    if callable(spec):
        return spec
    try:
        tree = ast.parse(spec, mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        values = [ast.literal_eval(a) for a in call.args]
        options = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        return {"ce": lambda: ce, "ohem": ohem}[call.func.id](*values, **options)
    except (SyntaxError, AttributeError, KeyError, TypeError, ValueError):
        raise S4Error(f"supervised={spec!r}: write ce, ohem or ohem(thresh=0.7, per_image=100000).") from None


def image_share(sure: Tensor, valid: Tensor) -> Tensor:
    """(B, H, W): every pixel of an image counts as much as the share of sure ones among its valid pixels (ReCo).

    Args:
        sure, valid: (B, H, W), 1 or 0.
    """
    share = sure.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    return share[:, None, None].expand_as(sure)


@float32
def entropy(logits: Tensor) -> Tensor:
    """(B, H, W) entropy in nats of (B, C, H, W) logits, between 0 and log C."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)
