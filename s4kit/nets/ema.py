"""Exponential moving averages of networks: the mean teacher (Tarvainen & Valpola, NeurIPS 2017)."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import S4Error

BUFFERS = ("average", "copy", "none")


def copy_of(net: nn.Module) -> nn.Module:
    """A deep copy without gradients, in eval mode, that keeps its own mode when its method's `train()` is called.

    A method whose teacher forwards in train mode (CutMix-Seg) says so once: `self.teacher.train()`.
    """
    clone = copy.deepcopy(net).requires_grad_(False)
    clone.own_mode = True
    return clone.eval()


def warm(decay: float, k: int) -> float:
    """min(1 - 1/(k+1), decay): the average over all steps so far until `decay` is reached; 0 at k = 0."""
    return min(1 - 1 / (k + 1), decay)


@torch.no_grad()
def ema(target: nn.Module, source: nn.Module, decay: float, buffers: str = "average", but: Iterable[str] = ()) -> None:
    """target <- decay * target + (1 - decay) * source, in place, parameter by parameter.

    Args:
        target: the averaged network. source: a network of the same architecture, on the same device.
        decay: in [0, 1]; 0 makes target's parameters equal to source's.
        buffers: what happens to buffers (BN running statistics). "average": like parameters (CutMix-Seg, UniMatch
            V2, AugSeg); the integer batch counters are averaged and truncated, which is what writing a float
            average into an integer buffer does. "copy": taken from source. "none": left alone, so that the target
            keeps what its own forwards wrote (Mean Teacher of PixelSSL, U2PL).
        but: dotted prefixes of names that are left alone (GTA-Seg transfers all but the classifier).

    Raises:
        S4Error: the networks differ in their names, or `buffers` is none of the three.
    """
    if buffers not in BUFFERS:
        raise S4Error(f"ema(buffers={buffers!r}): choose one of {', '.join(BUFFERS)}.")
    skip = tuple(but)
    ours, theirs = _pairs(target.named_parameters(), source.named_parameters(), skip)
    _average(ours, theirs, decay)
    if buffers == "none":
        return
    ours, theirs = _pairs(_buffers(target), _buffers(source), skip)
    if buffers == "copy" and ours:
        torch._foreach_copy_(ours, theirs)
    elif ours:
        is_float = [t.is_floating_point() for t in ours]
        _average(_pick(ours, is_float, True), _pick(theirs, is_float, True), decay)
        _average_integers(_pick(ours, is_float, False), _pick(theirs, is_float, False), decay)


def _pairs(target: Iterable, source: Iterable, skip: tuple[str, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors of both sides in one order, less the names that start with one of `skip`."""
    target, source = dict(target), dict(source)
    if target.keys() != source.keys():
        odd = sorted(target.keys() ^ source.keys())[0]
        raise S4Error(f"ema needs two networks of the same architecture; only one of these has {odd!r}.")
    names = [n for n in target if not _inside(n, skip)]
    return [target[n] for n in names], [source[n].detach() for n in names]


def _buffers(net: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that are state: those of the state dict (constants such as the net's mean and std are not)."""
    parameters = {name for name, _ in net.named_parameters()}
    return [(name, t) for name, t in net.state_dict().items() if name not in parameters]


def _inside(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in prefixes)


def _pick(tensors: list[Tensor], mask: list[bool], value: bool) -> list[Tensor]:
    return [t for t, m in zip(tensors, mask) if m is value]


def _average(ours: list[Tensor], theirs: list[Tensor], decay: float) -> None:
    if ours:
        torch._foreach_mul_(ours, decay)
        torch._foreach_add_(ours, theirs, alpha=1 - decay)


def _average_integers(ours: list[Tensor], theirs: list[Tensor], decay: float) -> None:
    """Counters are 0-dim and many: one fused average over the stacked values, then written back truncated."""
    if ours:
        mixed = torch.stack(ours) * decay + torch.stack(theirs) * (1 - decay)
        torch._foreach_copy_(ours, list(mixed.unbind()))
