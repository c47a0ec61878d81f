"""Batch norms of two domains: weakly and strongly augmented images have statistics and affine parts of their own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class TwoNorms(nn.Module):
    """A batch norm twice, from equal values on (DSBN, Chang et al., CVPR 2019, as SimpleBaseline has it).

    In train mode the first `split` images of a batch go through `main`, the others through `aux`; all of them where
    `split` is None. In eval mode all go through `main`.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.main, self.aux = norm, copy.deepcopy(norm)
        self.split: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.split is None or self.split >= len(x):
            return self.main(x)
        return torch.cat([self.main(x[: self.split]), self.aux(x[self.split :])])


def with_two_domains(net: nn.Module) -> nn.Module:
    """Make every live batch norm of a network a `TwoNorms`, in place; frozen ones are left. Returns the network."""
    for name, child in net.named_children():
        if isinstance(child, _BatchNorm):
            if not getattr(child, "own_mode", False):
                setattr(net, name, TwoNorms(child))
        else:
            with_two_domains(child)
    return net


@contextmanager
def split_after(net: nn.Module, images: int) -> Iterator[None]:
    """Train-mode forwards inside: so many images of the first domain come first in the batch."""
    norms = [module for module in net.modules() if isinstance(module, TwoNorms)]
    for norm in norms:
        norm.split = images
    try:
        yield
    finally:
        for norm in norms:
            norm.split = None


def first_domain(net: nn.Module) -> tuple[nn.Module, ...]:
    """The modules that hold the parameters of a network without those of its second domain."""
    second = {id(p) for module in net.modules() if isinstance(module, TwoNorms) for p in module.aux.parameters()}
    holders = (m for m in net.modules() if any(True for _ in m.parameters(recurse=False)))
    return tuple(m for m in holders if not any(id(p) in second for p in m.parameters(recurse=False)))


@torch.no_grad()
def second_from_first(net: nn.Module) -> None:
    """Give the second domain the values of the first, statistics and affine part."""
    for module in net.modules():
        if isinstance(module, TwoNorms):
            module.aux.load_state_dict(module.main.state_dict())
