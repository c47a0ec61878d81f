"""Warp-refine: labels go with the motion, and a network that knows how motion spoils labels mends them on the way.

Reconstruction: there is no code, and the text that is public leaves open how R takes the label in (there it is
joined with features of the semantic network), what stands in holes, how long each stage is, and which pixels the
last one leaves out. All of these are options.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID, Task
from ...nets import evaluating, make
from ...views import Batch, Cycle, Stream, ViewPlan, Views, unimatch_box
from ...views.motion import carried
from ..base import Card, Clock, Losses, PseudoLabels, Stage
from ..lengths import Length
from ..parts.losses import ce, union_ce
from ..parts.rounds import KEPT, Rounds, believed, hard, kept_of

SURE = 254  # levels of the doubt that is kept; 255 = nothing is kept


class WarpRefine(Rounds):
    """Warp-refine propagation: semi-supervised auto-labeling via cycle-consistency (Ganeshan et al., ICCV 2021,
    arXiv 2109.13432).

    Idea: a label that is carried along the motion is exact, but it has holes where something comes into sight, and
    wanders off; a network that looks at the frame alone has neither fault and is less exact. A refining network sees
    both, the frame and the label that was carried to it. Where does it learn how labels are spoilt, when only one frame
    of a clip has a label? From a cycle: the label is carried away and back to its own frame, where the truth is known.
    What it adds to `st`: the labels of unlabelled frames come from the frame beside, not from the frame itself.

    Equations; w(a > b) carries a label from frame a to frame b, from frame to frame along the motion, R the refining
    network, f the semantic one, t a labelled frame:
        semantic   L = CE(f(x_t), y_t)
        refine     y~ = w(t+k > t)(w(t > t+k)(y_t)),  k from +-1..reach;   L = CE(R(x_t, y~), y_t)
        propagate  y_{t+-(k+1)} = argmax R(x_{t+-(k+1)}, w(y_{t+-k})),  y_t the label
        final      L = mean over the pixels of x_t with a label, and of x_{t+-k} where R is sure, of CE(f(.), label)
    R is the semantic network with C + 1 further channels in its first layer, C for the label and one that says where
    it is known, and a 1x1 convolution of these that is added to its logits, for they are of a quarter of the
    resolution. The first begin at 0, the other with `trust` for the class of the label: R begins as the label where
    that is known, unless the semantic network is very sure of another class, and as that network elsewhere. In `refine`
    a box of the carried label is left out, with probability `drop`, so that R knows larger holes than the cycle makes.
    Every mean is over pixels with a label.

    Cost: three trainings, of which `start` and `refine` share out as much as the last one has; a pass over the frames
    about labelled ones. The motion itself is the data set's: known, or estimated once for each pair of
    frames, by a CPU, and kept in the cache folder.

    Args:
        task: the data, of clips with known motion.
        net: network spec, see `nets.make`.
        reach: frames from the labelled one that labels go at most.
        sure: probability from which R's label of a pixel is trained on; 0 believes all.
        holes: "unknown", or "ghost": the label of what covers a pixel in the other frame, see `views.motion.carried`.
        drop: probability of a box without a label in `refine`.
        trust: what a carried label adds to the logit of its class before R has learned.
        start, refine: lengths of the first two stages, per step of the last one.

    Raises:
        S4Error: a `reach` below 1, or an unknown `holes`.
    """

    card = Card(
        family="video",
        title="Warp-Refine Propagation: Semi-Supervised Auto-labeling via Cycle-consistency",
        venue="ICCV",
        year=2021,
        authors="Ganeshan et al.",
        arxiv="2109.13432",
        extends=("st",),
        parity="reconstruction",
    )
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", maps=("label", "doubt")))
    recipes: ClassVar = {
        "cityscapes": {
            "task": {"sequences": True, "size": 0.5, "crop": 360, "scale": (1.0, 1.0)},
            "method": {"net": "resnet101c(output_stride=8, decoder='pspnet')"},
            "fit": {"steps": 40_000, "batch": 4, "lr": 1e-3, "head": 10.0},
            "evaluation": "cityscapes/whole",
            "source": "no set-up is public: that of IFR on the same sequences stands in (jfzhuang/IFR)",
            "differs": [
                "unsure: crop, batch, lr, length, backbone and head: none of them is public",
                "motion: of a network of its own there, torchvision's RAFT here, its file of weights as `flow`",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        reach: int = 4,
        sure: float = 0.9,
        holes: str = "unknown",
        drop: float = 0.5,
        trust: float = 5.0,
        start: Length = 0.5,
        refine: Length = 0.5,
    ) -> None:
        super().__init__()
        self.cycle = Cycle(reach, holes)
        self.student = make(net, task)
        self.classes, self.rows = self.student.classes, tuple(getattr(task, "unlabelled", ()))
        self.refiner = make(net, task, in_channels=3 + self.classes + 1)
        self.refiner.mean[:, 3:], self.refiner.std[:, 3:] = 0, 1  # a 0 stays one: nothing is said of the label
        self.refiner.heads["trust"] = nn.Conv2d(self.classes + 1, self.classes, 1, bias=False)
        with torch.no_grad():
            self.refiner.heads["trust"].weight.copy_(trust * torch.eye(self.classes, self.classes + 1)[..., None, None])
        self.sure, self.drop, self.lengths = sure, drop, (start, refine)
        self.register_buffer("reached", torch.ones(len(self.rows), dtype=torch.long))

    def stages(self) -> list[Stage]:
        alone = ViewPlan(x=Stream("labelled", batch=2.0))
        spoilt = ViewPlan(x=Stream("labelled", masks=(unimatch_box(p=self.drop),), batch=2.0, maps=(self.cycle,)))
        start, refine = self.lengths
        return [
            Stage("semantic", start, self.semantic, alone, train=(self.student,)),
            Stage("refine", refine, self.refine, spoilt, train=(self.refiner,), prepare=self.inherit),
            Stage("final", train=(self.student,), prepare=self.propagate, restart=(self.student,)),
        ]

    def sampling(self, task: Any) -> dict[str, Tensor]:
        return {"unlabelled": self.reached}

    # ---- the refining network ----

    def refined(self, image: Tensor, label: Tensor) -> Tensor:
        """(B, C, H, W) logits of R for an image and a label (B, H, W) that was carried to it, 255 = unknown."""
        known = (label != VOID)[:, None].float()
        said = torch.cat([hard(label, self.classes) * known, known], 1)
        return self.refiner(torch.cat([image, said], 1)) + self.refiner.heads["trust"](said).float()

    def inherit(self, sweep: Any = None) -> None:
        """R becomes the semantic network, whose features do not listen to the label yet."""
        own = self.refiner.state_dict()
        for name, value in self.student.state_dict().items():
            if own[name].shape == value.shape:
                own[name].copy_(value)
            else:  # the first layer
                own[name].zero_()[:, :3] = value

    def propagate(self, sweep: Any) -> None:
        """Labels of the frames about labelled ones, one frame further each time."""
        ways = nearest(sweep.task, self.cycle.reach)
        self.reached.copy_(torch.tensor([row in ways for row in self.rows]))
        for row, view in sweep.over("labelled"):
            self.keep(sweep, row, view.label[0], (view.label[0] == VOID).float())
        for distance in range(1, self.cycle.reach + 1):
            sweep.gather({})  # labels of the frames beside may be those of another process
            for row, view in sweep.over("unlabelled", [row for row, (far, _) in ways.items() if far == distance]):
                label = self.carry(sweep.task, ways[row][1], row, view.weak.shape[-2:]).to(view.weak.device)
                with evaluating(self.refiner):
                    confidence, label = self.refined(view.weak, label[None]).float().softmax(1).max(1)
                self.keep(sweep, row, label[0], 1 - confidence[0])

    def carry(self, task: Task, before: int, row: int, size: Any) -> Tensor:
        """(H, W) long, the kept label of the frame beside, carried to a frame."""
        flow, seen = task.train.flow(row, before)
        label = task.map_of("label", before, tuple(size))
        return torch.from_numpy(carried(label, flow.numpy(), seen.numpy(), self.cycle.holes)).long()

    def keep(self, sweep: Any, row: int, label: Tensor, doubt: Tensor) -> None:
        """Keep the label (H, W) of a frame, and how much it is doubted, (H, W) in [0, 1], in steps of 1 / `SURE`."""
        sweep.keep("label", row, label)
        sweep.keep("doubt", row, (doubt * SURE).round())

    # ---- training ----

    def semantic(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the student learns from labelled frames."""
        return Losses(x=ce(self.student(batch.x.weak), batch.x.label))

    def refine(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the second stage: R repairs a label carried to another frame and back, with a box left out."""
        x = batch.x
        spoilt = x.maps["cycle"].where(~x.masks[0], VOID)
        return Losses(x=ce(self.refined(x.weak, spoilt), x.label))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        target = self.carried_labels(u)
        z_x, z_u = self.student.joint(x.weak, u.weak)
        l_x, l_u = union_ce(z_x.logits, x.label, z_u.logits, target)
        return Losses(x=l_x, u=l_u).see(weak=u.weak, mixed=u.weak).see(KEPT, target=target, student=z_u.logits)

    # ---- the rule ----

    def pseudo_labels(self, evidence: Any, view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        return {**super().pseudo_labels(evidence, view, clock), KEPT: self.carried_labels(view)}

    def carried_labels(self, view: Views) -> PseudoLabels:
        """What was carried to a view and refined, where R was sure of it."""
        found, doubt = believed(kept_of(view), view), kept_of(view, "doubt")
        confidence = (1 - doubt.clamp(max=SURE) / SURE) * found.weight
        return replace(found, confidence=confidence, weight=found.weight * (confidence >= self.sure))


def nearest(task: Task, reach: int) -> dict[int, tuple[int, int]]:
    """For each frame at most `reach` from a labelled one how far it is, and the frame beside it on the way there.

    A labelled frame is 0 away, and beside itself; of two labelled ones equally far the first counts.
    """
    found: dict[int, tuple[int, int]] = {row: (0, row) for row in task.labelled}
    for row in task.labelled:
        clip = list(task.train.clip(row))
        here = clip.index(row)
        for k, frame in enumerate(clip):
            far = abs(k - here)
            if far <= reach and far < found.get(frame, (reach + 1, frame))[0]:
                found[frame] = far, clip[k + (1 if k < here else -1)]
    return found
