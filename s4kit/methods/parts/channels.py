"""A memory of channels: what filters answer over an image, kept under the class that they follow (AllSpark)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import float32
from .processes import gathered


@float32
def followed(tokens: Tensor, logits: Tensor) -> Tensor:
    """(B, C) long: the class whose map each channel is most like, by the cosine over positions.

    Args:
        tokens: (B, N, C), of h x w positions. logits: (B, K, h, w).
    """
    channels, classes = F.normalize(tokens.mT, dim=2), F.normalize(logits.flatten(2), dim=2)
    return (channels @ classes.mT).argmax(2)


class ChannelMemory(nn.Module):
    """Of each class the last C channels that followed it, in all processes.

    Args:
        classes, channels: K and C. size: positions of a channel, h and w; those of other sizes are resized.

    Attributes:
        maps: (K, C, h, w), normal noise at first. place: (K,) long, where the next one goes.
    """

    def __init__(self, classes: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("maps", torch.randn(classes, channels, *size))
        self.register_buffer("place", torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def write(self, tokens: Tensor, logits: Tensor, size: tuple[int, int]) -> None:
        """Keep the channels of (B, h w, C) tokens; logits (B, K, ., .) are resized to h x w = `size`."""
        low = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        classes, (k, c) = followed(tokens, low), self.maps.shape[:2]
        maps = self.sized(tokens.mT.float().unflatten(2, size), self.maps.shape[-2:])
        for of_rank, class_of_rank in zip(gathered(maps), gathered(classes)):
            for map, own in zip(of_rank, class_of_rank):
                belongs = F.one_hot(own, k)
                rank = (belongs.cumsum(0) - 1).gather(1, own[:, None])[:, 0]
                slot = own * c + (self.place[own] + rank) % c
                self.maps.flatten(0, 1).index_copy_(0, slot, map)
                self.place.copy_((self.place + belongs.sum(0)) % c)

    def tokens(self, size: tuple[int, int]) -> Tensor:
        """(K, h w, C) of h x w = `size`: the memory as that of K images."""
        return self.sized(self.maps, size).flatten(2).mT

    @staticmethod
    def sized(maps: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, C, H, W) maps at this size, resized where it is another one."""
        return maps if maps.shape[-2:] == tuple(size) else F.interpolate(maps, size, mode="bilinear")
