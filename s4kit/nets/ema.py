"""Exponential moving averages of networks: the mean teacher (Tarvainen & Valpola, NeurIPS 2017)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..errors import S4Error

BUFFERS = ("average", "copy", "none")


def copy_of(net: nn.Module) -> nn.Module:
    """A deep copy without gradients, in eval mode, that keeps its own mode when its method's `train()` is called.

    A method whose teacher forwards in train mode (U2PL) says so once: `self.teacher.train()`.
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
    if buffers == "average":
        # The state dict holds parameters and buffers that are state, but no constants (the net's mean and std).
        _average(*_pairs(target.state_dict(), source.state_dict(), skip), decay)
        return
    parameters = dict(target.named_parameters()), dict(source.named_parameters())
    _average(*_pairs(*parameters, skip), decay)
    if buffers == "copy":
        ours, theirs = _pairs(target.state_dict(), source.state_dict(), (*skip, *parameters[0]))
        if ours:
            torch._foreach_copy_(ours, theirs)


def _pairs(
    target: Mapping[str, Tensor], source: Mapping[str, Tensor], skip: tuple[str, ...]
) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors of both sides in one order, less those named in `skip` or below such a name."""
    if target.keys() != source.keys():
        odd = sorted(target.keys() ^ source.keys())[0]
        raise S4Error(f"ema needs two networks of the same architecture; only one of these has {odd!r}.")
    whole, below = set(skip), tuple(f"{name}." for name in skip)
    names = [n for n in target if n not in whole and not n.startswith(below)]
    return [target[n].detach() for n in names], [source[n].detach() for n in names]


def _average(ours: list[Tensor], theirs: list[Tensor], decay: float) -> None:
    """Fused over all tensors: a loop in Python would cost one launch for each."""
    floats = [(a, b) for a, b in zip(ours, theirs) if a.is_floating_point()]
    counters = [(a, b) for a, b in zip(ours, theirs) if not a.is_floating_point()]
    if floats:
        a, b = map(list, zip(*floats))
        torch._foreach_mul_(a, decay)
        torch._foreach_add_(a, b, alpha=1 - decay)
    if counters:
        a, b = map(list, zip(*counters))
        mixed = torch.stack(a) * decay + torch.stack(b) * (1 - decay)
        torch._foreach_copy_(a, list(mixed.unbind()))
