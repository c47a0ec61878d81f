"""Mask classification: a few queries, each with a mask and a class (MaskFormer, arXiv 2107.06278), on a fused map."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv_block
from .segnet import SegNet, resize


class Regions(NamedTuple):
    """What N queries answer of each image: `classes` (B, N, K + 1) logits, the last one of "no object"; `masks`
    (B, N, h, w) logits; `map` (B, D, h, w), the embedding of pixels, all float32."""

    classes: Tensor
    masks: Tensor
    map: Tensor

    def semantic(self) -> Tensor:
        """(B, K, h, w) probabilities: sum over queries of softmax(class) sigmoid(mask), divided by the sum over K."""
        p, m = self.classes.softmax(2)[..., :-1], self.masks.sigmoid()
        summed = torch.einsum("bnk,bnhw->bkhw", p, m)
        return summed / summed.sum(1, keepdim=True).clamp(min=1e-8)


class MaskHead(nn.Module):
    """A transformer decoder whose queries look at a fused map, one in sixteen of its cells, and at each other.

    MaskFormer without a pixel decoder of its own: this is the decoder that fuses the map, with one convolution behind
    it. Losses are taken behind the last layer alone.

    Args:
        inputs: channels of the map. classes: K. queries: N. dim: of queries and pixels, D. layers, heads, dropout: of
            the transformer. norm: of the convolution, "batch" or "group".
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        queries: int = 100,
        dim: int = 256,
        layers: int = 6,
        heads: int = 8,
        dropout: float = 0.1,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(conv_block(inputs, dim, 3, norm=norm), nn.Conv2d(dim, dim, 1))
        self.queries = nn.Parameter(torch.randn(queries, dim))
        layer = nn.TransformerDecoderLayer(dim, heads, 8 * dim, dropout, batch_first=True)
        self.layers = nn.TransformerDecoder(layer, layers, nn.LayerNorm(dim))
        self.label = nn.Linear(dim, classes + 1)
        self.mask = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, map: Tensor) -> Regions:
        """Of a fused map (B, inputs, h, w)."""
        pixels = self.embed(map)
        coarse = F.avg_pool2d(pixels, 4, ceil_mode=True)
        tokens = (coarse + waves(coarse)).flatten(2).mT
        q = self.layers(self.queries.expand(len(map), -1, -1), tokens)
        masks = torch.einsum("bnd,bdhw->bnhw", self.mask(q).float(), pixels.float())
        return Regions(self.label(q).float(), masks, pixels.float())


def waves(like: Tensor) -> Tensor:
    """(1, D, h, w) sines and cosines of the row in the first half of the channels, of the column in the second."""
    dim, height, width = like.shape[1:]
    count = -(-dim // 4)
    rates = torch.exp(-math.log(10_000) / count * torch.arange(count, device=like.device))
    row, column = (torch.arange(n, device=like.device)[:, None] * rates for n in (height, width))
    row, column = (torch.cat([t.sin(), t.cos()], 1) for t in (row, column))
    both = torch.cat([row[:, None].expand(-1, width, -1), column[None].expand(height, -1, -1)], 2)
    return both.permute(2, 0, 1)[None, :dim].to(like.dtype)


class Masked(nn.Module):
    """A network with a `MaskHead` in `heads["masks"]`, as one network from image to logits, the logarithm of
    `Regions.semantic`."""

    def __init__(self, net: SegNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        p = regions_of(self.net, image).semantic()
        return resize(p, image.shape[-2:], self.net.decoder.align_corners).clamp(min=1e-8).log()


def regions_of(net: SegNet, image: Tensor) -> Regions:
    """What the queries of `heads["masks"]` answer on images (B, 3, H, W) in [0, 1]."""
    return net.heads["masks"](net.fuse(net.encode(image)).map)
