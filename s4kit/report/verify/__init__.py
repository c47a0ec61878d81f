"""`s4kit verify`: does the kit hold on this machine's GPU? One command, no network, one report to send.

Written for CUDA. On a CPU (`--device cpu --quick`) every part runs tiny, and says what only a GPU can show.
"""

from .run import PARTS, verify

__all__ = ["PARTS", "verify"]
