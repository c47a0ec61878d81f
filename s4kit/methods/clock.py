"""Where a training stands: what a method may know of the loop around it."""

from __future__ import annotations

from dataclasses import dataclass

from .lengths import Length, steps_of


@dataclass(frozen=True)
class Clock:
    """Where the training stands.

    Attributes:
        step, steps: current step (0-based) and number of steps of this stage.
        epoch_steps, labelled_steps: steps of one pass over the unlabelled list, and over the labelled one.
        stage: index of the stage.
        overall: progress over all stages, in [0, 1].
        score: last validation score of the first predictor (of images its mIoU), None before the first evaluation.
    """

    step: int
    steps: int
    epoch_steps: int = 1
    stage: int = 0
    overall: float = 0.0
    score: float | None = None
    labelled_steps: int = 1

    @property
    def progress(self) -> float:
        """Share of the stage that is done, in [0, 1)."""
        return self.step / self.steps

    @property
    def epoch(self) -> int:
        """The pass over the unlabelled list that the step belongs to, from 0."""
        return self.step // self.epoch_steps

    @property
    def epochs(self) -> int:
        """Passes over the unlabelled list in the stage, the last one perhaps cut; at least 1."""
        return max(1, -(-self.steps // self.epoch_steps))

    def steps_of(self, length: Length) -> int:
        """Steps that a length takes in this stage: a share of it, or words such as "5 labelled epochs"."""
        return steps_of(length, self.steps, {"unlabelled": self.epoch_steps, "labelled": self.labelled_steps})

    def since(self, length: Length) -> int:
        """Steps since a length of the stage was done; negative before."""
        return self.step - self.steps_of(length)
