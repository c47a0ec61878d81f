"""Imported by the process from which the sandboxes are forked: all that each of them would need.

The first tensor of another device imports nearly a thousand modules, a second's work.
"""

from __future__ import annotations

import torch
import torch._dynamo
import torch._subclasses.fake_tensor
import torch.fx.experimental.symbolic_shapes

from .worker import serve

__all__ = ["serve"]

torch.set_num_threads(1)  # a fork inherits no other threads, and would wait for them
