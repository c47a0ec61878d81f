"""One seed governs everything: every random draw is a pure function of (seed, what, where).

No generator is ever stored, so a run that resumes at step k draws exactly what the uninterrupted run drew there,
with any number of decode workers.
"""

from __future__ import annotations

import zlib

import numpy as np

_MASK = (1 << 63) - 1


def mix_seed(*keys: int | str) -> int:
    """A 63-bit seed from a sequence of integers and strings; stable over platforms and Python versions."""
    state = 0x9E3779B97F4A7C15
    for key in keys:
        value = zlib.crc32(key.encode()) if isinstance(key, str) else int(key)
        state = (state ^ (value & _MASK)) * 0xBF58476D1CE4E5B9 & ((1 << 64) - 1)
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & ((1 << 64) - 1)
        state ^= state >> 31
    return state & _MASK


def generator(*keys: int | str) -> np.random.Generator:
    """A numpy generator seeded by `mix_seed(*keys)`."""
    return np.random.default_rng(mix_seed(*keys))
