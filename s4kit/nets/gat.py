"""Graph attention (Velickovic et al., ICLR 2018) between the nodes of dense graphs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GraphAttention(nn.Module):
    """h'_i = sum over j of a_ij W h_j, a_ij = softmax over the neighbours of LeakyReLU(u . [W h_i; W h_j]).

    Args:
        inputs: channels. outputs: of each head; the heads stand behind each other.
    """

    def __init__(self, inputs: int, outputs: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(inputs, heads * outputs, bias=False)
        self.centre, self.neighbour = (nn.Parameter(torch.empty(heads, outputs)) for _ in range(2))
        for part in (self.project.weight, self.centre, self.neighbour):
            nn.init.xavier_uniform_(part)

    def attention(self, h: Tensor, edges: Tensor) -> Tensor:
        """(B, heads, N, N) of projected nodes (B, heads, N, outputs); a row sums to 1 over its edges (B, N, N)."""
        of, to = ((h * u[:, None]).sum(3) for u in (self.centre, self.neighbour))
        score = F.leaky_relu(of[..., :, None] + to[..., None, :], 0.2).float()
        return score.masked_fill(~edges[:, None], -torch.inf).softmax(3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(B, N, inputs), (B, N, N) bool with each node its own neighbour, to (B, N, heads x outputs)."""
        h = self.project(nodes).unflatten(2, (self.heads, -1)).transpose(1, 2)
        return (self.attention(h, edges).to(h.dtype) @ h).transpose(1, 2).flatten(2)


class GraphClassifier(nn.Module):
    """Two layers of graph attention, several heads and then one: (B, N, inputs) to (B, N, classes) float32 logits."""

    def __init__(self, inputs: int, classes: int, hidden: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.first, self.last = GraphAttention(inputs, hidden, heads), GraphAttention(heads * hidden, classes)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        return self.last(F.elu(self.first(nodes, edges)), edges).float()
