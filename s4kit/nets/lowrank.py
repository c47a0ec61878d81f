"""Features of an image, seen in several views, rebuilt of a few atoms that the views share (SLRNet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available

from .layers import conv_block
from .segnet import Features, Fused, SegNet

EPS = 1e-6


class Factors(NamedTuple):
    """N pixels as K atoms: `map` (B, N, D), the features rebuilt; `coding` (B, K, N), whose sum over the atoms is 1;
    `atoms` (B, K, D), of unit length."""

    map: Tensor
    coding: Tensor
    atoms: Tensor


def unit(x: Tensor) -> Tensor:
    """Vectors (..., D) at length 1, but for `EPS`."""
    return x / (EPS + x.norm(dim=-1, keepdim=True))


def class_centres(x: Tensor, logits: Tensor) -> Tensor:
    """(B, K, D): the mean of features (B, N, D) by class, each pixel counted as often as logits (B, K, N) say."""
    p = logits.softmax(1)
    return (p / (p.sum(2, keepdim=True) + EPS)) @ x


class LowRank(nn.Module):
    """Pixels as mixtures of atoms, and atoms as means of pixels, in turn; what the mixtures leave out is noise.

    One linear layer is in front of pixels and atoms, another one behind the mixture, which is added to the features.
    In float32: a weight is one pixel's share of all.

    Args:
        channels: D. iterations: how often. temperature: of the softmax over the atoms.
    """

    def __init__(self, channels: int, iterations: int = 1, temperature: float = 1.0) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.iterations, self.temperature = iterations, temperature

    def forward(self, x: Tensor, centres: Tensor) -> Factors:
        """Of features (B, N, D), beginning with `centres` (B, K, D)."""
        if not is_autocast_available(x.device.type):
            return self.factorise(x, centres)
        with torch.autocast(x.device.type, enabled=False):
            return self.factorise(x.float(), centres.float())

    def factorise(self, x: Tensor, centres: Tensor) -> Factors:
        """As `forward`, at the precision of its arguments."""
        y, atoms = self.enter(x), unit(self.enter(centres))
        for _ in range(self.iterations):
            coding = (atoms @ y.mT / self.temperature).softmax(1)
            share = coding + EPS
            atoms = unit(share / share.sum(2, keepdim=True) @ y)
        mixed = (coding.mT @ atoms).relu()
        return Factors((x + self.leave(mixed)).relu(), coding, atoms)


class Factorised(nn.Module):
    """A decoder whose fused map, behind one more 3x3 convolution, is rebuilt of an atom for each class before it is
    classified.

    The atoms begin as the class means that an auxiliary head sees; neither gets a gradient through them. `classify`
    knows one view; a method with several calls `rebuilt` and `score` itself.

    Args:
        decoder: of a `SegNet`. classes: K. fixed: the first class is what is left: its logit is 1 and the decoder has
            K - 1 others, and for the auxiliary head 1 less the largest of them.
        iterations, temperature: see `LowRank`.

    Norms are of the decoder's own kind.
    """

    def __init__(
        self, decoder: nn.Module, classes: int, fixed: bool, iterations: int = 1, temperature: float = 1.0
    ) -> None:
        super().__init__()
        width, channels = decoder.fused_channels, decoder.embedding_channels
        norm = "group" if any(isinstance(m, nn.GroupNorm) for m in decoder.modules()) else "batch"
        self.decoder, self.fixed = decoder, fixed
        self.before = conv_block(width, width, 3, norm=norm)
        self.aux = nn.Sequential(
            conv_block(width, channels, 3, norm=norm, dropout=0.5, dropout_kind="element"),
            nn.Conv2d(channels, classes - fixed, 1),
        )
        self.lowrank = LowRank(width, iterations, temperature)
        self.fused_channels, self.embedding_channels = width, channels
        self.align_corners = decoder.align_corners

    def fuse(self, features: Features) -> Fused:
        """The inner decoder's fused map, after one more layer."""
        fused = self.decoder.fuse(features)
        return Fused(self.before(fused.map), fused.context)

    def hint(self, map: Tensor) -> Tensor:
        """(B, K, h, w) float32 logits of the auxiliary head."""
        z = self.aux(map).float()
        return torch.cat([1 - z.amax(1, keepdim=True), z], 1) if self.fixed else z

    def rebuilt(self, maps: Sequence[Tensor], hint: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, D, h, w) of several views of an image, of any size, rebuilt of shared atoms, and the codings
        (B, K, h, w) of their pixels; `hint` are the logits of the first view."""
        flat = [map.flatten(2).mT.float() for map in maps]
        centres = class_centres(flat[0], hint.flatten(2)).detach()
        found = self.lowrank(torch.cat(flat, 1), centres)
        counts = [rows.shape[1] for rows in flat]
        parts = zip(maps, found.map.split(counts, 1), found.coding.split(counts, 2))
        shaped = [(made.mT.reshape(m.shape).to(m.dtype), code.unflatten(2, m.shape[2:])) for m, made, code in parts]
        return [made for made, _ in shaped], [code for _, code in shaped]

    def score(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K, h', w') and embedding of a rebuilt map."""
        z, embedding = self.decoder.classify(map)
        return (torch.cat([torch.ones_like(z[:, :1]), z], 1) if self.fixed else z), embedding

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """(logits, embedding) of a fused map rebuilt from low rank, both at its size; the hint begins the atoms,
        without gradient."""
        (made,), _ = self.rebuilt([map], self.hint(map).detach())
        return self.score(made)

    def branch(self) -> nn.Module:
        """The inner decoder's, see there: fused map to logits."""
        return self.decoder.branch()


def factorised(net: SegNet, classes: int, fixed: bool, **options: float) -> SegNet:
    """A network, made with K logits or, if the first class is `fixed`, with K - 1, whose decoder is `Factorised`; in
    place."""
    net.decoder, net.classes = Factorised(net.decoder, classes, fixed, **options), classes
    return net
