"""A normalising flow: an invertible network whose change of volume is known, so that it gives densities."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Coupling(nn.Module):
    """Both halves of a vector are scaled and shifted by functions of each other, then the channels are shuffled
    (Dinh et al., ICLR 2017, arXiv 1605.08803, in the form of GLOW).

    Args:
        dim: even. hidden: width of the two subnets. clamp: log scales stay within +- clamp.
    """

    def __init__(self, dim: int, hidden: int, clamp: float) -> None:
        super().__init__()
        self.first, self.second = (self._subnet(dim, hidden) for _ in range(2))
        self.clamp = clamp
        self.register_buffer("order", torch.randperm(dim))

    @staticmethod
    def _subnet(dim: int, hidden: int) -> nn.Sequential:
        inner = [nn.Linear(dim // 2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        net = nn.Sequential(*inner, nn.Linear(hidden, dim))
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.05)
        return net

    def _change(self, subnet: nn.Module, given: Tensor) -> tuple[Tensor, Tensor]:
        """(log scale, shift) for the other half."""
        scale, shift = subnet(given).chunk(2, 1)
        return self.clamp * 0.636 * torch.atan(scale), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        s, t = self._change(self.second, b)
        a = s.exp() * a + t
        s_b, t = self._change(self.first, a)
        b = s_b.exp() * b + t
        return torch.cat([a, b], 1)[:, self.order], s.sum(1) + s_b.sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """The (N, D) that `forward` makes (N, D) `y` of."""
        a, b = y[:, self.order.argsort()].chunk(2, 1)
        s, t = self._change(self.first, a)
        b = (b - t) * (-s).exp()
        s, t = self._change(self.second, b)
        return torch.cat([(a - t) * (-s).exp(), b], 1)


class MixtureFlow(nn.Module):
    """A flow to a latent space in which every class is a Gaussian of unit covariance, all classes equally likely.

    Args:
        dim: of the vectors, even. classes: number of Gaussians K. blocks: of coupling. hidden, clamp: see `Coupling`.
    """

    def __init__(self, dim: int, classes: int, blocks: int = 2, hidden: int = 256, clamp: float = 2.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Coupling(dim, hidden, clamp) for _ in range(blocks))
        self.means = nn.Parameter(torch.randn(classes, dim))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) to latents (N, D) and log-determinants (N,)."""
        total = torch.zeros_like(x[:, 0])
        for block in self.blocks:
            x, logdet = block(x)
            total = total + logdet
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """(N, D) latents back to vectors."""
        for block in reversed(self.blocks):
            z = block.inverse(z)
        return z
