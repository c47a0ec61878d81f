"""What methods with rounds share: labels that an earlier stage has kept, as pseudo-labels and as probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from ...views import Views
from ..base import PseudoLabels

KEPT, NOW = "kept labels", "network now"  # what a stage trains on; what the next one's labels would be


def kept_of(view: Views, name: str = "label") -> Tensor:
    """(B, H, W) long, the kept label map of a view, 255 where nothing is kept (yet)."""
    return view.maps.get(name, torch.full_like(view.label, VOID))


def believed(label: Tensor, view: Views) -> PseudoLabels:
    """Kept labels (B, H, W), all of them trusted; 255 is not trained on."""
    known = (label != VOID).float()
    return PseudoLabels(label.where(known > 0, 0), known, known, view.valid)


def hard(label: Tensor, classes: int) -> Tensor:
    """(B, C, H, W) float32: all probability on the label; on the first class where it is 255."""
    return F.one_hot(label.where(label != VOID, 0), classes).movedim(-1, 1).float()
