"""A teacher that averages its student: how it labels, and who is evaluated."""

from __future__ import annotations

from torch import Tensor, nn

from ...nets import SegNet, evaluating
from ...views import Views
from ..base import Clock, Method, PseudoLabels


class AveragedTeacher(Method):
    """Base of mean teachers: the teacher labels whole images in eval mode, and what is sure enough counts.

    Attributes:
        student, teacher: the networks; how one averages the other is the method's, in `after_step`.
        tau: confidence from which a pixel counts.
    """

    student: SegNet
    teacher: SegNet
    tau: float

    def said(self, view: Views) -> Tensor:
        """(B, K, H, W) logits of the teacher in eval mode."""
        with evaluating(self.teacher):
            return self.teacher(view.weak)

    def teach(self, view: Views) -> Tensor:
        return self.said(view)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, (confidence >= self.tau).float(), view.valid)

    def predictors(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher, "student": self.student}


class JudgedTeacher(AveragedTeacher):
    """Evidence is a pair: the logits that say the label, and what judges it; in training these are of two forwards."""

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        logits = self.said(view)
        return logits, self.judge(logits)

    def judge(self, logits: Tensor) -> Tensor:
        """What tells sure pixels, of logits (B, K, H, W)."""
        return logits

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> Tensor:
        return evidence[0].softmax(1)
