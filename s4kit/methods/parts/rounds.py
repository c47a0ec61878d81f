"""What methods with rounds share: labels that an earlier stage has kept, as pseudo-labels and as probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from ...nets import SegNet, evaluating
from ...views import Views
from ..base import Clock, Method, PseudoLabels

KEPT, NOW = "kept labels", "network now"  # what a stage trains on; what the next one's labels would be


def kept_of(view: Views, name: str = "label") -> Tensor:
    """(B, H, W) long, the kept label map of a view, 255 where nothing is kept (yet)."""
    return view.maps.get(name, torch.full_like(view.label, VOID))


def believed(label: Tensor, view: Views) -> PseudoLabels:
    """Kept labels (B, H, W), all of them trusted; 255 is not trained on."""
    known = (label != VOID).float()
    return PseudoLabels(label.where(known > 0, 0), known, known, view.valid)


def hard(label: Tensor, classes: int) -> Tensor:
    """(B, C, H, W) float32: all probability on the label; where it is 255, on every class alike."""
    known = label != VOID
    sure = F.one_hot(label.where(known, 0), classes).movedim(-1, 1).float()
    return sure.where(known[:, None], 1 / classes)


class Rounds(Method):
    """Base of methods whose network labels whole images between the stages, of which the next one learns.

    Attributes:
        student: the network. classes: C.
    """

    student: SegNet
    classes: int

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits (B, C, H, W) of the network as it is now, and the labels (B, H, W) that were kept, 255 where there are
        none."""
        with evaluating(self.student):
            return self.student(view.weak), kept_of(view)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        """What the network says now, of which the next stage's labels are made, and what this stage trains on."""
        confidence, label = evidence[0].softmax(1).max(1)
        now = PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)
        return {NOW: now, KEPT: believed(evidence[1], view)}

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {NOW: evidence[0].softmax(1), KEPT: hard(evidence[1], self.classes)}
