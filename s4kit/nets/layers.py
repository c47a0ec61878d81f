"""Small layers shared by decoders and heads."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import S4Error


class PooledBatchNorm(nn.BatchNorm2d):
    """Batch norm behind global pooling.

    With one image in the batch a pooled map has one value per channel: its variance is 0 and torch raises. Then, and
    only then, this layer normalises by its running statistics (and leaves them alone), so that a batch of one trains.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class ReLU6(nn.Module):
    """min(max(x, 0), 6) in place; the gradient is the same, told by what comes out, which the next layer keeps anyway.

    PyTorch's own keeps a copy of what came in besides: in EfficientNets and MobileNets a third of all activations.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not x.requires_grad:
            return F.relu6(x, inplace=not x.requires_grad)
        return _ReLU6.apply(x)


class _ReLU6(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        F.relu6(x, inplace=True)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(upstream, y, 0.0, 6.0)


def slim(net: nn.Module) -> nn.Module:
    """Puts this `ReLU6` in the place of every one of PyTorch's; returns the network."""
    for part in net.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(part, name, ReLU6())
    return net


def make_norm(norm: str, channels: int, pooled: bool = False) -> nn.Module:
    """A normalisation layer: "batch", or "group" (groups of 8 channels, or one group where 8 does not divide).

    Group norm looks at one image at a time, so that results do not depend on how a batch is cut over processes.

    Raises:
        S4Error: no such normalisation.
    """
    if norm == "batch":
        return PooledBatchNorm(channels) if pooled else nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)
    raise S4Error(f"norm={norm!r}: choose batch or group.")


def conv_block(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    dilation: int = 1,
    stride: int = 1,
    norm: str = "batch",
    dropout: float = 0.0,
    dropout_kind: str = "channel",
) -> nn.Sequential:
    """Convolution without bias, normalisation, ReLU and, if asked for, dropout. Keeps the size at stride 1."""
    padding = dilation * (kernel // 2)
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
        make_norm(norm, outputs),
        nn.ReLU(inplace=True),
    ]
    return nn.Sequential(*layers, *([make_dropout(dropout_kind, dropout)] if dropout else []))


def make_dropout(kind: str, rate: float) -> nn.Module:
    """Dropout of whole channels of an image ("channel"), or of each value by itself ("element").

    Raises:
        S4Error: no such kind.
    """
    if kind not in ("channel", "element"):
        raise S4Error(f"dropout_kind={kind!r}: choose channel or element.")
    return nn.Dropout2d(rate) if kind == "channel" else nn.Dropout(rate)


def fresh(module: nn.Module) -> nn.Module:
    """A module of the same shape with weights of its own, drawn as at its making."""
    clone = copy.deepcopy(module)
    for part in clone.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return clone
