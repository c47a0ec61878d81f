"""TWIST: objects tell their points which class they are of, and classes tell points which object; both teach.

Reconstruction: the code that was announced is not to be had. Public are the two kinds of pseudo-labels, the modules
A, B (which is trained) and C, and the rounds. What is ours: how points are grouped (cells that touch, in place of a
search with a radius), what B sees and says, that it also learns from the true objects themselves, how its word and
the points' are weighed (`vote`), every threshold, that a round goes on from the weights of the one before (`anew`),
the number of rounds and all lengths and weights. There is no elastic distortion, and points have normals, no
colours. With `vote` = 1 a majority of the points mends the classes, else what B has learned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ...data.points.clouds import RoomEvaluation
from ...data.task import OBJECTS, PER_CLASS, VOID
from ...nets import evaluating
from ...nets.rooms import Groups, Judged, Read, room_net
from ...views import Batch, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts.proposals import DIFFERS, LABELLED, SCANNED, least_points, room_stream, room_terms
from ..parts.rounds import KEPT, NOW, believed, hard, kept_of

UNSURE = (
    "unsure: lr, batch, length, schedule, weight, thresholds, warm_up, rounds: its sources do not say them; those of "
    "PointGroup and the kit's own stand in"
)


class Corrected(NamedTuple):
    """What is believed of rooms: (B, N) long label, 255 = nothing; (B, N) long ids of objects, see `data.objects`; and
    (B, K, N) what the network says of the classes."""

    label: Tensor
    ids: Tensor
    p: Tensor


class Twist(Method):
    """TWIST: two-way inter-label self-training for semi-supervised 3D instance segmentation (Chu et al., CVPR 2022).

    Idea: of a room two things are asked, the class of each point and which points are one object, and each is evidence
    for the other. A chair of which some points are called table is a chair: the object mends the classes. Two halves
    that were apart because they had different classes are one as soon as they have the same: the classes mend the
    objects. Both kinds of pseudo-label, mended in turn, are what the next round learns from. What it adds to `st`: a
    label is not believed because a point is sure of it, but because the object is that the point belongs to.

    Equations; s the class probabilities of the points, o their ways to the middle of their object:
        A  groups: points of one thing, by argmax s, that meet where o leads them
        B  of each group q, the chances of what it is as a whole (no object, or one of the things), and its quality
        C  v = vote mean s over the group + (1 - vote) q,  k = argmax v
           objects to classes:  label = k  where quality * (1 - q_none) >= sure and v_k >= share and k is a thing,
                                else argmax s  where max s >= tau,  else nothing
           classes to objects:  A again with these labels (argmax s where there is none), B again;
                                an object = a group with quality * (1 - q_none) >= sure, all of whose points get its
                                class; a point of a thing that is of no object is of an unknown one
        L = terms(x, y_x) + weight * terms(u, pseudo);   terms = class + offset + 0.3 direction + 0.3 kind + 0.3 quality
    see `parts.proposals.room_terms`. B is trained with all the rest, in round 0 by the labelled rooms, later by the
    pseudo-objects as well. Stages: round 0 on the labelled rooms; then in each round A, B and C over all unlabelled
    rooms, and training on both lists.

    Cost: a step of a round has the labelled and the unlabelled rooms in one forward; between two rounds each unlabelled
    room is looked at once. Groups are counted, so the device is waited for.

    Args:
        task: the data, of rooms. net: network spec, see `nets.rooms.room_net`.
        rounds: how often the unlabelled rooms are labelled.
        tau: confidence from which a point without a reliable object keeps its class.
        sure: of a group, from which it is an object. share: of the evidence, from which its class is believed.
        vote: weight of the points' own word against B's.
        weight: of the unlabelled rooms' terms.
        start: length of round 0, per step of a later one.
        anew: each round begins with fresh weights.
    """

    card = Card(
        family="points",
        title="TWIST: Two-Way Inter-Label Self-Training for Semi-Supervised 3D Instance Segmentation",
        venue="CVPR",
        year=2022,
        authors="Chu et al.",
        extends=("st",),
        parity="reconstruction",
    )
    views = ViewPlan(x=LABELLED, u=room_stream("unlabelled", "label", OBJECTS))
    scored_by = RoomEvaluation
    syncs = True
    recipes: ClassVar = {
        "scannet": SCANNED | {"differs": [UNSURE, *DIFFERS, "lists: of labelled scans its own there, drawn here"]},
        "s3dis": SCANNED | {"differs": [UNSURE, *DIFFERS, "unsure: lists: which rooms are labelled; drawn here"]},
    }

    def __init__(
        self,
        task: Any,
        net: str = "voxel",
        rounds: int = 2,
        tau: float = 0.9,
        sure: float = 0.5,
        share: float = 0.6,
        vote: float = 0.3,
        weight: float = 1.0,
        start: Length = 1.5,
        anew: bool = False,
    ) -> None:
        super().__init__()
        self.student, self.least, self.classes = room_net(net, task), least_points(task), task.num_classes
        self.tau, self.sure, self.share, self.vote = tau, sure, share, vote
        self.rounds, self.weight, self.start, self.anew = rounds, weight, start, anew

    # ---- A, B and C ----

    def corrected(self, points: Tensor) -> Corrected:
        """What is believed of rooms (B, N, 6), by the network as it is now."""
        with evaluating(self.student):
            read = self.student.read(points)
            p = read.logits.softmax(1)
            groups, judged = self.grouped(read, points, p.argmax(1))
            label = self.objects_to_classes(p, groups, judged)
            again = label.where(label != VOID, p.argmax(1))
            return Corrected(*self.classes_to_objects(label, again, *self.grouped(read, points, again)), p)

    def grouped(self, read: Read, points: Tensor, label: Tensor) -> tuple[Groups, Judged]:
        """A and B: the groups of points that have these labels, and what they are as a whole."""
        groups = self.student.groups(points, label, read.offset)
        return groups, self.student.judged(read.features, points, groups)

    def objects_to_classes(self, p: Tensor, groups: Groups, judged: Judged) -> Tensor:
        """(B, N) long: the class of a reliable object for all of its points, that of a confident point; else 255."""
        things, q = self.student.things, judged.kind.softmax(1)
        votes = group_means(p, groups)[:, things]
        votes = torch.cat([1 - votes.sum(1, keepdim=True), votes], 1)
        chance, kind = (self.vote * votes + (1 - self.vote) * q).max(1)
        reliable = (self.score(judged) >= self.sure) & (chance >= self.share) & (kind > 0)
        confidence, label = p.max(1)
        own = label.where(confidence >= self.tau, VOID)
        named = of_points(things[kind - 1].where(reliable, VOID), groups)
        return named.where(named != VOID, own)

    def classes_to_objects(self, label: Tensor, again: Tensor, groups: Groups, judged: Judged) -> tuple[Tensor, Tensor]:
        """(B, N) long labels and ids: of the points of a group that is an object, its class and number; of others the
        label as it is, and no object where that is of no thing.

        Args:
            label: (B, N) long. again: the same without 255, by which the groups were made.
        """
        inside = of_points((self.score(judged) >= self.sure).long() * PER_CLASS, groups) == PER_CLASS
        unknown = (label == VOID) | torch.isin(label, self.student.things)
        first = groups.ids.where(groups.ids > 0, groups.count + 1).amin(1, keepdim=True)  # of a room
        ids = torch.where(inside, PER_CLASS * again + 1 + groups.ids - first, VOID * unknown.long())
        return again.where(inside, label), ids

    def score(self, judged: Judged) -> Tensor:
        """(n,) in [0, 1], how likely a group is an object, and a whole one."""
        return judged.quality.sigmoid() * (1 - judged.kind.softmax(1)[:, 0])

    # ---- the rounds ----

    def stages(self) -> list[Stage]:
        restart = (self.student,) if self.anew else ()
        later = (Stage(f"round {k}", prepare=self.label_all, restart=restart) for k in range(1, self.rounds + 1))
        alone = ViewPlan(x=self.views["x"])
        return [Stage("round 0", self.start, losses=self.labels_alone, views=alone), *later]

    def label_all(self, sweep: Any) -> None:
        """The labels and objects of the unlabelled rooms."""
        for row, view in sweep.over("unlabelled"):
            label, ids, _ = self.corrected(view.weak)
            sweep.keep("label", row, label[0])
            sweep.keep(OBJECTS, row, ids[0].int())

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the student learns from labelled rooms."""
        x = batch.x
        return room_terms(self.student, self.student.read(x.weak), x.weak, x.label, x.maps[OBJECTS], self.least, "x")

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        read = self.student.read(torch.cat([x.weak, u.weak]))
        of_x, of_u = (Read(*parts) for parts in zip(*(t.split([len(x), len(u)]) for t in read)))
        label, ids = kept_of(u), kept_of(u, OBJECTS)
        losses = room_terms(self.student, of_x, x.weak, x.label, x.maps[OBJECTS], self.least, "x")
        taught = room_terms(self.student, of_u, u.weak, label, ids, self.least, "u", self.weight)
        for name, (value, weight) in taught.items():
            losses.add(name, value, weight)
        losses.see(weak=u.weak, mixed=u.weak)
        return losses.see(KEPT, target=self.kept(label, ids, u), student=of_u.logits)

    # ---- the rule ----

    def teach(self, view: Views) -> tuple[Corrected, Tensor, Tensor]:
        """What is believed now, and the labels and objects that were kept, void where there are none."""
        return self.corrected(view.weak), kept_of(view), kept_of(view, OBJECTS)

    def pseudo_labels(
        self, evidence: tuple[Corrected, Tensor, Tensor], view: Views, clock: Clock
    ) -> dict[str, PseudoLabels]:
        (label, ids, p), *kept = evidence
        confidence, said = p.max(1)
        known = label != VOID
        objects = ids.where(ids >= PER_CLASS, 0)
        now = PseudoLabels(label.where(known, said), confidence, known.float(), view.valid, ids=objects)
        return {NOW: now, KEPT: self.kept(*kept, view)}

    def probabilities(self, evidence: tuple[Corrected, Tensor, Tensor]) -> dict[str, Tensor]:
        return {NOW: evidence[0].p, KEPT: hard(evidence[1], self.classes)}

    @staticmethod
    def kept(label: Tensor, ids: Tensor, view: Views) -> PseudoLabels:
        """Kept labels and objects, all of them trusted."""
        return replace(believed(label, view), ids=ids.where(ids >= PER_CLASS, 0))


def group_means(p: Tensor, groups: Groups) -> Tensor:
    """(n, K) the mean of p (B, K, N) over the points of each group."""
    at, values = groups.ids.flatten(), p.mT.flatten(0, 1)
    total = values.new_zeros(groups.count + 1, values.shape[1]).index_add(0, at, values)
    return (total / at.bincount(minlength=groups.count + 1).clamp(min=1)[:, None])[1:]


def of_points(values: Tensor, groups: Groups) -> Tensor:
    """(B, N) long, of each point the value (n,) of its group; 255 of one without."""
    return torch.cat([values.new_full((1,), VOID), values])[groups.ids]
