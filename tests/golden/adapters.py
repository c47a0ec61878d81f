"""Every recording that the kit answers, by (method, what), and the reasons why some are left out."""

import baseline_adapters
import consistency_adapters
import cps_adapters
import net_adapters
import u2pl_adapters
import view_adapters
from harness import ADAPTERS

__all__ = [
    "ADAPTERS", "LEFT_OUT", "baseline_adapters", "consistency_adapters", "cps_adapters", "net_adapters",
    "u2pl_adapters", "view_adapters",
]  # fmt: skip

# Recordings of methods that the kit has, which it does not answer.
LEFT_OUT: dict[str, str] = {
    "cps_epoch_pairing": "the kit draws from endless permutations of both lists instead of stretching the shorter one",
}
