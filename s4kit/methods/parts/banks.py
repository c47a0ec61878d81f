"""Memory banks of features, as buffers of fixed size: they checkpoint, move device and are never read by the host."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from .contrast import draw, nth
from .precision import float32
from .processes import gathered
from .roles import NOWHERE, unknown


class Queues(nn.Module):
    """One first-in first-out queue of feature rows per class (U2PL's memory bank).

    The queues are rings that lie behind each other in one buffer, so classes may differ in capacity; row 0 of a queue
    is its oldest. With several processes, what each one writes is gathered first and written by all in rank order, as
    one process would that takes the parts one after the other: all ranks hold the same queues.

    Args:
        capacity: largest number of rows per class; its length is the number of classes K.
        dim: features per row, D.
        dtype: of the stored rows; float16 halves the memory (0.67 GB in float32 at U2PL's published size).
        fresh: most rows per class that one `write` adds, evenly spread over all that are offered; None = all.

    Attributes:
        count: (K,) long, rows held now.
    """

    def __init__(
        self, capacity: Sequence[int], dim: int, dtype: torch.dtype = torch.float32, fresh: int | None = None
    ) -> None:
        super().__init__()
        self.largest, self.fresh = max(capacity), fresh
        starts = [0, *accumulate(capacity)]
        self.register_buffer("rows", torch.zeros(starts[-1] + 1, dim, dtype=dtype))  # the last one is scrap
        self.register_buffer("count", torch.zeros(len(capacity), dtype=torch.long))
        self.register_buffer("head", torch.zeros(len(capacity), dtype=torch.long))  # where the next row goes
        self.register_buffer("start", torch.tensor(starts[:-1]), persistent=False)
        self.register_buffer("capacity", torch.tensor(capacity), persistent=False)

    @torch.no_grad()
    def write(self, features: Tensor, offered: Tensor) -> None:
        """Append rows; the oldest make room.

        Args:
            features: (N, D).
            offered: (K, N) bool, which rows go into which queue, in their order.
        """
        self.append(*self._choose(features, offered))

    @torch.no_grad()
    def append(self, new: Tensor, number: Tensor) -> None:
        """`write` of rows that are chosen already: (K, W, D), of which the last `number` (K,) count in each queue."""
        for rows, many in _all_ranks(new.to(self.rows.dtype), number):
            self._append(rows, many)

    @property
    def ready(self) -> Tensor:
        """(K,) bool: which queues hold any row."""
        return self.count > 0

    @property
    def full(self) -> Tensor:
        """(K,) bool: which queues hold as many rows as they can."""
        return self.count == self.capacity

    def snapshot(self) -> Tensor:
        """(K, R, D) float32, a copy of all queues, in no order; for queues of one capacity R. Free places are 0."""
        return self.rows[:-1].unflatten(0, (len(self.count), -1)).float().clone()

    def draw(self, which: int, number: int) -> Tensor:
        """(number,) long: rows of the queue of class `which`, uniform, with replacement."""
        return draw(self.count[which : which + 1], number)[0]

    def take(self, which: int, index: Tensor) -> Tensor:
        """Rows `index` (n,) long, 0 = oldest, of the queue of class `which`, as (n, D) float32.

        An index beyond the rows held (an empty queue has none) gives some finite row; the caller leaves it out.
        """
        ring = (self.head[which] - self.count[which] + index) % self.capacity[which]
        return self.rows.index_select(0, self.start[which] + ring).float()

    def whence(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """What a row was, see `contrast.Negatives`: it has outlived its image, and its class was not kept."""
        return torch.full_like(index, NOWHERE), unknown(index)

    def _choose(self, features: Tensor, offered: Tensor) -> tuple[Tensor, Tensor]:
        """Of what is offered, the rows to write: (K, W, D), the chosen ones last, and their number (K,), at most W."""
        found, most = offered.sum(1), min(self.fresh or offered.shape[1], offered.shape[1])
        number = found.clamp(max=most)
        width = min(most, self.largest)
        place = number[:, None] - width + torch.arange(width, device=found.device)  # the j-th chosen; negative = none
        shift = torch.rand((), device=found.device)
        spread = ((place + shift) * (found / most)[:, None]).long()  # every (found / most)-th, from a random start
        rank = torch.where(found[:, None] > most, torch.minimum(spread, found[:, None] - 1), place)
        return features[nth(offered, rank)], number.clamp(max=width)

    def _append(self, new: Tensor, number: Tensor) -> None:
        """Write the last min(number, capacity) rows of (K, W, D) at the heads of the rings."""
        width = new.shape[1]
        kept = torch.minimum(number, self.capacity)
        place = torch.arange(width, device=new.device) - (width - kept)[:, None]
        ring = (self.head[:, None] + place) % self.capacity[:, None] + self.start[:, None]
        target = torch.where(place >= 0, ring, len(self.rows) - 1)
        self.rows.index_copy_(0, target.flatten(), new.flatten(0, 1))
        self.rows[-1] = 0  # what lands on the scrap row must not make two checkpoints differ
        self.head.copy_((self.head + kept) % self.capacity)
        self.count.copy_(torch.minimum(self.count + kept, self.capacity))


@float32
def surest(features: Tensor, score: Tensor, offered: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The rows of each class with the highest score, the highest first; in their own order if there are not more.

    Args:
        features: (N, D). score: (N,). offered: (K, N) bool, which rows are whose. most: of a class, W.

    Returns:
        (K, W, D) of which the last `number` count, and `number` (K,), as `Queues.append` wants them.
    """
    found, width = offered.sum(1), min(most, offered.shape[1])
    place = -torch.arange(len(score), device=score.device, dtype=score.dtype)
    order = torch.where(found[:, None] >= most, score, place).masked_fill(~offered, -torch.inf)
    index, number = order.topk(width, dim=1).indices, found.clamp(max=width)
    behind = torch.arange(width, device=score.device) - (width - number)[:, None]  # the chosen ones go to the end
    return features[index.gather(1, behind.clamp(min=0))], number


def _all_ranks(new: Tensor, number: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What every process offers, in rank order."""
    return list(zip(gathered(new), gathered(number)))
