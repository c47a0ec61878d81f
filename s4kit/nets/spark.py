"""Channel-wise attention between labelled and unlabelled features (AllSpark, arXiv 2403.01818)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .segnet import SegNet


class Spark(nn.Module):
    """A block behind the last encoder stage: labelled features are rebuilt of the channels of unlabelled ones.

    A channel is what one filter answers at all N positions; attention weighs channels, not positions, so every
    labelled channel becomes a convex combination of given ones. Products are normalised over the whole C x C map
    (instance norm without scale) before the softmax.

    Args:
        channels: of the stage, C. heads: copies of every channel that are compared. dropout: of the attention and
            behind it.
    """

    def __init__(self, channels: int, heads: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.enter, self.leave = (nn.Sequential(nn.Conv2d(channels, channels, 1), nn.GELU()) for _ in range(2))
        self.norm, self.norm_out = nn.LayerNorm(channels, eps=1e-6), nn.LayerNorm(channels, eps=1e-6)
        for flow in ("own", "cross"):
            parts = {name: nn.Linear(channels, channels * heads, bias=False) for name in ("query", "key", "value")}
            parts["out"] = nn.Linear(channels * heads, channels, bias=False)
            setattr(self, flow, nn.ModuleDict(parts))
        self.dropout = nn.Dropout(dropout)

    def tokens(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to (B, h w, C) before and behind the first norm."""
        plain = rearrange(self.enter(map), "b c h w -> b (h w) c")
        return plain, self.norm(plain)

    def among(self, t: Tensor) -> Tensor:
        """Every image's channels from its own, head by head: (B, N, C) to (B, N, C)."""
        q, k, v = (
            rearrange(self.own[name](t), "b n (h c) -> b h c n", h=self.heads) for name in ("query", "key", "value")
        )
        mixed = self.weights(q @ k.mT) @ v
        return self.dropout(self.own["out"](rearrange(mixed, "b h c n -> b n (c h)")))

    def across(self, t: Tensor, source: Tensor) -> Tensor:
        """Channels of (B, N, C) from those of all of (S, N, C), heads merged: (B, N, C)."""
        q = self.cross["query"](t).mT
        k, v = (rearrange(self.cross[name](source), "s n c -> (s c) n") for name in ("key", "value"))
        return self.dropout(self.cross["out"]((self.weights((q @ k.T)[:, None])[:, 0] @ v).mT))

    def weights(self, products: Tensor) -> Tensor:
        """Softmax over the last of (B, h, C, S) products, each map normalised."""
        return self.dropout(F.instance_norm(products.float()).softmax(-1)).to(products.dtype)

    def restore(self, plain: Tensor, mixed: Tensor, like: Tensor) -> Tensor:
        """Tokens and what attention made of them, to a map of the shape of `like`."""
        joined = self.norm_out(plain + mixed)
        return self.leave(rearrange(joined, "b (h w) c -> b c h w", h=like.shape[-2]))

    def forward(self, map: Tensor) -> Tensor:
        """(B, D, h, w) as it came; at test time every image is rebuilt of its own channels."""
        plain, t = self.tokens(map)
        mixed = torch.cat([self.across(image, image) for image in t.split(1)])
        return self.restore(plain, mixed, map)


class Sparked(nn.Module):
    """A network with a `Spark` in `heads["spark"]`, as one network from image to logits."""

    def __init__(self, net: SegNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        features = self.net.encode(image)
        levels = (*features.levels[:-1], self.net.heads["spark"](features.high))
        return self.net.decode(features._replace(levels=levels), image.shape[-2:]).logits
