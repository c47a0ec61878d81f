"""shape3d: two moved copies of a shape must agree on points and on parts, and one level of the parts with the next.

Deviation of the release from its paper: the symmetric divergence is its default, where a squared distance is an
option; 1e-7 is added inside of the logarithm, behind the division. One thing is not as released: its octree of
depth 6 is a dense grid here, of 64^3 cells where they are to be as small, see `nets.voxel`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.points.clouds import PartEvaluation
from ...nets import evaluating
from ...nets.voxel import voxel
from ...views import Batch, PointStream, ViewPlan, Views
from ...views.points import in_cube
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.nested import Nested, per_shape_ce, shape_means
from ..parts.precision import float32

CLIP = 1e-7


@float32
def divergence(p: Tensor, q: Tensor) -> Tensor:
    """(B, N) the mean of KL(p, q) and KL(q, p) of probabilities (B, K, N) at each point."""

    def against(p: Tensor, q: Tensor) -> Tensor:
        return p * torch.log(p / q.clamp(CLIP, 1 - CLIP) + CLIP)

    return 0.5 * (against(p, q) + against(q, p)).sum(1)


@float32
def part_differences(p: Tensor, q: Tensor, valid: Tensor) -> Tensor:
    """(B, K) how far p and q (B, K, N) are apart in the mean over a part, and over all that is not the part.

    The parts are those that p predicts, and, in the other half, those that q predicts. Of each, the squared difference
    of the means of p_k and q_k inside and that outside are averaged; a side without points is left out.
    """
    return 0.5 * (_differences(p, q, valid) + _differences(q, p, valid))


def _differences(p: Tensor, q: Tensor, valid: Tensor) -> Tensor:
    inside = F.one_hot(p.argmax(1), p.shape[1]).mT.to(p.dtype)
    gap, total, sides = p - q, 0.0, 0.0
    for chosen in (inside * valid[:, None], (1 - inside) * valid[:, None]):
        number = chosen.sum(2)
        total = total + ((gap * chosen).sum(2) / number.clamp(min=1)).square()
        sides = sides + (number > 0).to(p.dtype)
    return total / sides.clamp(min=1)


class Shape3D(Method):
    """Semi-supervised 3D shape segmentation with multilevel consistency and part substitution (Sun et al., CVM 2022).

    Idea: turn, scale and shift a shape a little, and its parts stay what they are. Every shape, labelled or not, is
    seen in two such copies, and the network's two answers are made alike three times over: at each point; in the mean
    over each part that one of them predicts, where single points may err; and between levels, since what is a chair's
    leg must be a part of its base, whichever copy says so. There is no teacher, no threshold and no pseudo-label: both
    answers move towards each other, and only where a part begins and ends (the argmax) is held fixed.

    Equations; p_l, q_l the class probabilities of the copies a, b at level l, from 1 (coarse) to L (fine); M_l sums
    those of the parts of level l + 1 that belong to a part of level l:
        D(p, q)    = ( KL(p, q) + KL(q, p) ) / 2
        Point_l    = mean over shapes of the mean over points of D(p_l, q_l)
        Part_l     = mean over shapes and classes k of ( (mean of p_k - q_k where argmax p is k)^2
                     + (the same where it is not)^2 ) / 2, made symmetric in p and q
        Hier_l     = mean over shapes and points of ( D(M_l p_l+1, q_l) + D(M_l q_l+1, p_l) ) / 2
        L = sum over l of [ (CE(a, y_l) + CE(b, y_l)) / 2 + point Point_l + part Part_l ] + hierarchy sum over l Hier_l
    A cross entropy is the mean over a shape's points, then over the labelled shapes. Points that leave the cube
    [-1, 1]^3 are cut away: of either copy by itself for the cross entropy, of both for the rest, which is taken over
    labelled and unlabelled shapes alike.

    The other half of the paper happens before the training: `load("shapes", substituted=64)` adds labelled shapes made
    by part substitution, see `data.points.substituted`. It is a matter of data, so any method for points can have it.

    Cost: two forwards of all shapes and their gradients, four times the work of `supervised`.

    Args:
        task: the data, of points whose parts may be nested; of one level there is no term between levels.
        net: network spec, see `nets.voxel.voxel`.
        point, part, hierarchy: weights.
    """

    card = Card(
        family="points",
        title="Semi-supervised 3D shape segmentation with multilevel consistency and part substitution",
        venue="CVM",
        year=2022,
        authors="Sun et al.",
        arxiv="2204.08824",
        code="https://github.com/isunchy/semi_supervised_3d_segmentation",
        extends=("supervised",),
        parity="golden",
    )
    views = ViewPlan(x=PointStream("labelled"), u=PointStream("unlabelled"))
    scored_by = PartEvaluation
    recipes: ClassVar = {
        "partnet": {
            "task": {"category": "Chair", "labelled": 0.02},
            "method": {"net": "voxel(width=32, grid=64, depth=4)"},
            "fit": {"steps": 80_000, "batch": 8, "lr": 0.1, "head": 1.0, "schedule": "tenths"},
            "processes": 1,
            "differs": [
                "backbone: octree U-Net of depth 6 there, U-Net on a dense grid of 64^3 cells here",
                "batch: 16 shapes as they come in a list of labelled and unlabelled ones there, 8 of each here",
                "classes: an output for points without a part that no loss looks at there, none here",
                "labels: a point may lack a part at one level alone there; without one of the finest it has none here",
                "evaluation: scored by the part IoU of each shape there, over the points of all shapes here",
                "unsure: substituted: how many shapes are made of the labelled ones is not said; none here",
            ],
        },
    }

    def __init__(
        self, task: Any, net: str = "voxel", point: float = 0.01, part: float = 0.01, hierarchy: float = 0.01
    ) -> None:
        super().__init__()
        self.student, self.nested = voxel(net, task), Nested(task)
        self.point, self.part, self.hierarchy = point, part, hierarchy

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        """What the finest level says; all of it counts, though nothing is trained on as a label."""
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        a, b = (torch.cat(copies) for copies in ((x.weak, u.weak), (x.strong[0], u.strong[0])))
        z_a, z_b = self.student.levels(a), self.student.levels(b)
        p, q = ({level: z.softmax(1) for level, z in logits.items()} for logits in (z_a, z_b))
        both = torch.cat([x.valid, u.valid])
        losses, labels = Losses(), self.nested.labels(x.label)
        for level, y in labels.items():
            own = (per_shape_ce(z[level][: len(x)], y, in_cube(c[: len(x)])) for z, c in ((z_a, a), (z_b, b)))
            losses.add(f"x_{level}", 0.5 * sum(own))
            apart = divergence(p[level], q[level])
            losses.add(f"point_{level}", shape_means(apart, both).mean(), self.point)
            losses.add(f"part_{level}", part_differences(p[level], q[level], both).mean(), self.part)
        for coarse, fine in self.nested.steps:
            losses.add(f"hierarchy_{coarse}", self.between(p, q, coarse, fine, both), self.hierarchy)
        target = self.pseudo_labels(z_a[level][len(x) :].detach(), u, clock)
        return losses.see(weak=u.weak, mixed=u.strong[0], target=target, loss=self.point * (apart * both)[len(x) :])

    def between(self, p: dict[str, Tensor], q: dict[str, Tensor], coarse: str, fine: str, valid: Tensor) -> Tensor:
        """How far the merged parts of one copy are from the coarser parts of the other."""
        one = divergence(self.nested.merged(p[fine], coarse), q[coarse])
        two = divergence(self.nested.merged(q[fine], coarse), p[coarse])
        return shape_means(0.5 * (one + two), valid).mean()
