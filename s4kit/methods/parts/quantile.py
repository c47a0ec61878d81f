"""Percentiles of the masked pixels of a map, without a look at them from the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .precision import float32


@float32
def percentiles(values: Tensor, shares: Sequence[float], where: Tensor) -> list[Tensor]:
    """Percentiles by linear interpolation, as `np.percentile(values[where], shares)`.

    One sort serves all of them; `torch.quantile` refuses more than 16 million values.

    Args:
        values: any shape.
        shares: the percentiles asked for, each in [0, 100].
        where: bool, like `values`: what is counted.

    Returns:
        One scalar tensor per share; +inf when nothing is counted.
    """
    ordered = _sorted(torch.where(where, values, torch.inf).flatten())
    last = (where.sum() - 1).clamp(min=0)
    return [_between(ordered, last, share) for share in shares]


def _sorted(values: Tensor) -> Tensor:
    """The values in order: by integers that are ordered as they are, which a CPU sorts several times faster."""
    whole = {4: torch.int32, 8: torch.int64}[values.itemsize]
    most = torch.iinfo(whole).max

    def swap(bits: Tensor) -> Tensor:  # of a negative number all bits but the sign, and back
        return torch.where(bits < 0, bits ^ most, bits)

    return swap(swap(values.view(whole)).sort().values).view(values.dtype)


def _between(ordered: Tensor, last: Tensor, share: float) -> Tensor:
    place = last * share / 100  # in this order whole results stay whole: 80 * 5 / 100 = 4, while 0.8 * 5 may not be
    low = place.floor()
    # `take`, since indexing by a 0-dimensional tensor reads it from the host
    below, above = ordered.take(torch.stack([low.long(), torch.minimum(low.long() + 1, last)]))
    return torch.where(place > low, below + (above - below) * (place - low), below)
