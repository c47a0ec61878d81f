"""What attends to what: the products of queries and keys, before the softmax."""

from __future__ import annotations

from torch import Tensor, nn


def products(q: Tensor, k: Tensor) -> Tensor:
    """(B, heads, N, N) scaled products of queries and keys (B, heads, N, d), in float32."""
    return (q @ k.mT).float() * q.shape[-1] ** -0.5


class AttentionHead(nn.Module):
    """Which place of a map would attend to which, for networks without attention: queries and keys from a 1x1
    convolution.

    Args:
        inputs: channels of the map. heads: number of answers. width: channels of each query and key.
    """

    def __init__(self, inputs: int, heads: int, width: int = 16) -> None:
        super().__init__()
        self.heads, self.project = heads, nn.Conv2d(inputs, 2 * heads * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, heads, h w, h w)."""
        q, k = self.project(x).flatten(2).unflatten(1, (2, self.heads, -1)).mT.unbind(1)
        return products(q, k)
