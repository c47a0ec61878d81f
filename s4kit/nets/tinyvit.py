"""TinyViT (Wu et al., ECCV 2022, arXiv 2207.10666): convolutions at first, then attention in windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import S4Error
from .attention import products
from .stages import Backbone, cycled
from .weights import load_weights


class WholeBlock(nn.Module):
    """A block of timm's TinyViT that attends to the whole map instead of to windows, without biases by position (as
    TriKD changes the last one, so that its attention can be compared with a ViT's).

    Maps (B, h, w, C) to (B, h, w, C).
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        own = block.attn
        self.heads, self.norm, self.qkv, self.proj = own.num_heads, own.norm, own.qkv, own.proj
        self.local_conv, self.mlp, self.drop_path1 = block.local_conv, block.mlp, block.drop_path1
        self.drop_path2 = block.drop_path2

    def queries(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values (B, heads, h w, d)."""
        each = self.qkv(self.norm(x)).flatten(1, 2).unflatten(-1, (self.heads, -1))
        return each.transpose(1, 2).chunk(3, -1)

    def forward(self, x: Tensor) -> Tensor:
        found = F.scaled_dot_product_attention(*self.queries(x)).transpose(1, 2).flatten(2)
        x = x + self.drop_path1(self.proj(found).unflatten(1, x.shape[1:3]))
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.drop_path2(self.mlp(x))


class LastStage(nn.Module):
    """The coarsest stage, (B, C, h, w) to (B, C', h/2, w/2), its last block a `WholeBlock`."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.downsample, self.blocks = stage.downsample, stage.blocks[:-1]
        self.last = WholeBlock(stage.blocks[-1])

    def before(self, x: Tensor) -> Tensor:
        """(B, h/2, w/2, C'), the input of the last block."""
        return self.blocks(self.downsample(x).permute(0, 2, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.before(x)).permute(0, 3, 1, 2)


class TinyViT(Backbone):
    """Four stages of strides 4, 8, 16 and 32, see `Backbone`.

    Attributes:
        heads: of the last block's attention.
    """

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        first = nn.Sequential(net.patch_embed, net.stages[0])
        last = LastStage(net.stages[-1])
        super().__init__([first, *net.stages[1:-1], last], [f["num_chs"] for f in net.feature_info], mean, std)
        self.heads = last.last.heads

    def attend(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The levels, and what the last block attends to: (B, heads, N, N) products over the places of the map."""
        levels = ()
        for stage in self.stages[:-1]:
            levels = (*levels, stage(levels[-1] if levels else x))
        last = self.stages[-1]
        tokens = last.before(levels[-1])
        q, k, _ = last.last.queries(tokens)
        return (*levels, last.last(tokens).permute(0, 3, 1, 2)), products(q, k)


def tiny_vit(name: str, mean: Sequence[float], std: Sequence[float], **size: Any) -> Callable[..., TinyViT]:
    """A builder of timm's network `name`; with `size` (embed_dims, depths, ...) one that has no published weights, and
    raises S4Error where they are asked for."""

    def build(in_channels: int, weights: str = "auto") -> TinyViT:
        import timm

        if size and weights == "imagenet":
            raise S4Error("This network of a size of its own has no pretrained weights: weights should be 'none'.")
        net = timm.create_model(name, in_chans=in_channels, num_classes=0, **size)
        load_weights(net, name, "none" if size and weights == "auto" else weights)
        return TinyViT(net, *cycled(mean, std, in_channels))

    return build
