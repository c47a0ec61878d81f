"""The mode of a forward is part of a method, so it is written at the call: `with evaluating(teacher): ...`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def set_training(module: nn.Module, mode: bool = True) -> nn.Module:
    """`module.train(mode)` that passes over children which keep a mode of their own.

    A child with a true attribute `own_mode` (an EMA teacher, a frozen batch norm) is left as it is, with
    everything below it; `module` itself is always set.
    `SegNet.train` and `Method.train` are this function; it does not call overrides of `train` in children.
    """
    module.training = mode
    for child in module.children():
        if not getattr(child, "own_mode", False):
            set_training(child, mode)
    return module


def sync_bn(module: nn.Module) -> nn.Module:
    """Batch statistics over all processes, in place: every batch norm becomes synchronised but the frozen ones.

    `torch.nn.SyncBatchNorm.convert_sync_batchnorm` by itself would drop the activation that timm's layers contain
    (all of efficientnet_lite0's) and forget which layers are frozen. Train-mode forwards then need an accelerator.
    """
    from timm.layers import convert_sync_batchnorm

    for name, child in module.named_children():
        if not isinstance(child, _BatchNorm):
            sync_bn(child)
        elif not getattr(child, "own_mode", False):
            setattr(module, name, convert_sync_batchnorm(child))
    return module


LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of a tensor's axes


def place(module: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a module to a device, its weights with the channels last, which convolutions like."""
    module.to(device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() in LAYOUTS:
            tensor.data = tensor.data.contiguous(memory_format=layout_of(tensor))
    return module


def layout_of(tensor: torch.Tensor) -> torch.memory_format:
    """How `place` lays a weight or buffer in memory."""
    return LAYOUTS.get(tensor.dim(), torch.contiguous_format)


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; afterwards every sub-module has the mode it had before."""
    modes = [(m, m.training) for net in nets for m in net.modules()]
    for m, _ in modes:
        m.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for m, mode in reversed(modes):
            m.training = mode


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Gradients flow through the nets to their inputs, but not into their parameters."""
    parameters = [p for net in nets for p in net.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


@contextmanager
def bn_untouched(*nets: nn.Module) -> Iterator[None]:
    """Train-mode forwards inside use batch statistics but leave the running ones, and their counter, alone."""
    norms = [m for net in nets for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for m in norms:
        # A layer that does not track still normalises by its running statistics in eval mode, as wanted.
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in norms:
            m.track_running_stats = True


def full_depth(net: nn.Module) -> nn.Module:
    """Switches stochastic depth off for good: also in train mode no block is dropped. Returns the network."""
    from timm.layers import DropPath

    for part in net.modules():
        if isinstance(part, DropPath):
            part.drop_prob = 0.0
    return net


def live_norms(net: nn.Module) -> list[nn.Module]:
    """Batch norms that normalise by the batch in train mode: all but frozen ones and those of an EMA copy."""
    if getattr(net, "own_mode", False):
        return []
    return [net] if isinstance(net, _BatchNorm) else [m for child in net.children() for m in live_norms(child)]


@contextmanager
def by_batch(net: nn.Module) -> Iterator[None]:
    """As `evaluating`, but live batch norms normalise by the batch, as in a training step; nothing is written."""
    with evaluating(net), bn_untouched(net):
        for norm in live_norms(net):
            norm.training = True
        yield
