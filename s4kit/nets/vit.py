"""Plain vision transformers as encoders: DINOv2 (Oquab et al., TMLR 2024, arXiv 2304.07193) and DeiT (Touvron et al.,
ICML 2021, arXiv 2012.12877)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import S4Error
from .attention import products
from .segnet import resize
from .weights import load_weights


class ViT(nn.Module):
    """A vision transformer as a backbone: the tokens of some blocks as maps.

    All levels have one width and one stride, the patch. An image whose sides are no multiples of the patch is first
    resized to the nearest ones, as the authors evaluate.

    Args:
        vit: timm's VisionTransformer with `dynamic_img_size`.
        blocks: indices of the blocks that are read, from shallow to deep.
        mean, std: what images in [0, 1] are normalised by, one value per input channel.
        norm: the tokens pass the final layer norm (DINOv2).

    Attributes:
        heads: of each block's attention.
    """

    def __init__(
        self, vit: nn.Module, blocks: Sequence[int], mean: Sequence[float], std: Sequence[float], norm: bool = True
    ) -> None:
        super().__init__()
        self.vit, self.blocks, self.norm, self.heads = vit, tuple(blocks), norm, vit.blocks[-1].attn.num_heads
        if not norm:
            vit.norm = nn.Identity()  # nothing would train its weights
        self.patch, self.channels = vit.patch_embed.patch_size[0], (vit.embed_dim,) * len(blocks)
        self.mean, self.std = tuple(mean), tuple(std)

    def parts(self) -> list[nn.Module]:
        """What is called as a whole, see `compiled`."""
        return list(self.vit.blocks)

    def forward(
        self, x: Tensor | None, levels: tuple[Tensor, ...] = (), after: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """Maps (B, D, H / patch, W / patch) of a normalised image.

        Raises:
            S4Error: `levels` or `after` are given; a level is normalised for the decoder, the next block cannot go on
                from it.
        """
        if levels or after:
            raise S4Error(
                "A vision transformer cannot resume after a level. Take a convolutional network for this method."
            )
        found = self.vit.forward_intermediates(
            self._fitting(x), indices=list(self.blocks), norm=self.norm, intermediates_only=True
        )
        return tuple(found)

    def attend(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The levels, and what the last block attends to: (B, heads, N, N) products over all tokens, class tokens
        first.

        Raises:
            S4Error: the levels are normalised, so that the last block's input is not among them.
        """
        if self.norm:
            raise S4Error("The attention of a DINOv2 encoder is not read: take a DeiT for this method.")
        before, last = len(self.vit.blocks) - 2, self.vit.blocks[-1]
        wanted = sorted({*self.blocks, before})
        found = self.vit.forward_intermediates(
            self._fitting(x), indices=wanted, return_prefix_tokens=True, intermediates_only=True
        )
        of = dict(zip(wanted, found))
        tokens = torch.cat([of[before][1], of[before][0].flatten(2).mT], 1)
        q, k, _ = last.attn.qkv(last.norm1(tokens)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        return tuple(of[block][0] for block in self.blocks), products(q, k)

    def _fitting(self, x: Tensor) -> Tensor:
        """The image, its sides brought to multiples of the patch."""
        sides = [max(1, int(side / self.patch + 0.5)) * self.patch for side in x.shape[-2:]]
        if sides != list(x.shape[-2:]):
            x = resize(x, sides, align_corners=True)
        return x


def vit(
    name: str, blocks: Sequence[int], mean: Sequence[float], std: Sequence[float], norm: bool = True, **size: Any
) -> Callable:
    """A builder of timm's network `name`; with `size` (embed_dim, depth, ...) one that has no published weights, and
    raises S4Error where they are asked for."""

    def build(in_channels: int, weights: str = "auto") -> ViT:
        import timm

        net = timm.create_model(name, in_chans=in_channels, num_classes=0, dynamic_img_size=True, **size)
        if size and weights == "imagenet":
            raise S4Error("This network of a size of its own has no pretrained weights: weights should be 'none'.")
        load_weights(net, name, "none" if size and weights == "auto" else weights)
        cycled = ([values[i % len(values)] for i in range(in_channels)] for values in (mean, std))
        return ViT(net, blocks, *cycled, norm)

    return build
