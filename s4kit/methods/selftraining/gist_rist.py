"""GIST and RIST: rounds of self-training on human labels alone or on labels of one's own alone, never on both.

There is no official code, and the abstract alone could be read: that RIST and GIST take turns between the two and
keep improving while FIST does not is in it. Unsure are the number of rounds, their length, that the network goes on
instead of beginning anew, and that the labels are hard.
"""

from __future__ import annotations

import random
from typing import Any

from ...errors import S4Error
from ...nets import make
from ...views import Batch, Stream, ViewPlan
from ..base import Card, Clock, Losses, Stage
from ..lengths import Length
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.rounds import KEPT, Rounds, believed

NAMES = {"h": "human labels", "p": "own labels", "m": "both"}


class GISTRIST(Rounds):
    """The GIST and RIST of iterative self-training (Teh et al., CRV 2022, arXiv 2103.17105). A reconstruction.

    Idea: repeated self-training on a fixed mixture of human and own labels (FIST) becomes worse from round to round,
    since the errors that a network has learned are labels of the next. A round on human labels alone forgets them, a
    round on own labels alone brings in the unlabelled images; taking turns, by chance, keeps the gain. What it adds to
    self-training as `st` has it: that the two never meet in one round.

    Equations; p the labels that the network of the round before gives the unlabelled images, once, all of them:
        L = a CE(f(w(x)), y) + (1 - a) CE(f(w(u)), p),   each a mean over its labelled pixels
        FIST: a = 1/2 in all rounds;   RIST: a = 0 or 1 by a coin for each round
        GIST: of a = 0 and a = 1 the one that scores better on the validation set
    A first stage learns from the human labels (a = 1). Then the network goes on from round to round. In a round with
    a = 0 no human label is seen, in one with a = 1 no unlabelled image.

    GIST is its sequence of rounds: it chooses them by scores on the validation set, which the kit leaves to whoever
    wants it: train "h" and "p", keep the better, go on with "hh" and "hp". `course` says any such sequence.

    Cost: all rounds together are one training; before each, one forward of every unlabelled image.

    Args:
        task: the data.
        net: network spec, see `nets.make`.
        course: "random" (RIST), or a letter for each round: h human labels, p own labels, m both (FIST: "mmmmmm").
        rounds: how many, where the course is random. toss: seed of the coin.
        start: length of the first stage, per step of a round; or passes, see `lengths`.
        supervised: criterion of the human labels, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: the course has another letter, or none.
    """

    card = Card(
        family="selftraining",
        title="The GIST and RIST of Iterative Self-Training for Semi-Supervised Segmentation",
        venue="CRV",
        year=2022,
        authors="Teh et al.",
        arxiv="2103.17105",
        extends=("st",),
        parity="reconstruction",
    )
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", maps=("label",)))

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        course: str = "random",
        rounds: int = 3,
        toss: int = 0,
        start: Length = 2.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        coin = random.Random(toss)
        self.course = "".join(coin.choice("hp") for _ in range(rounds)) if course == "random" else course
        if not self.course or set(self.course) - set(NAMES):
            raise S4Error(f"gist_rist: course={course!r}: write 'random', or a letter h, p or m for each round.")
        self.student, self.classes = make(net, task), task.num_classes
        self.start, self.supervised = start, criterion(supervised)

    def stages(self) -> list[Stage]:
        kinds = {
            "h": {"losses": self.of_humans, "views": ViewPlan(x=self.views["x"])},
            "p": {"losses": self.of_network, "views": ViewPlan(u=self.views["u"])},
            "m": {},
        }
        rounds = [
            Stage(f"round {k}, {NAMES[letter]}", prepare=None if letter == "h" else self.label, **kinds[letter])
            for k, letter in enumerate(self.course, 1)
        ]
        return [Stage("human labels", self.start, **kinds["h"]), *rounds]

    def label(self, sweep: Any) -> None:
        """The network as it is labels all unlabelled images."""
        for row, view in sweep.over("unlabelled"):
            sweep.keep("label", row, sweep.scores(self.student, view).argmax(1)[0])

    def of_humans(self, batch: Batch, clock: Clock) -> Losses:
        """a = 1."""
        return Losses(x=self.supervised(self.student(batch.x.weak), batch.x.label))

    def of_network(self, batch: Batch, clock: Clock) -> Losses:
        """a = 0."""
        u = batch.u
        target = believed(u.maps["label"], u)
        z = self.student(u.weak)
        losses = Losses(u=pixel_ce(z, target, over="kept"))
        return losses.see(weak=u.weak, mixed=u.weak).see(KEPT, target=target, student=z)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        """a = 1/2: FIST."""
        own = self.of_network(batch, clock)
        (l_x, _), (l_u, _) = self.of_humans(batch, clock)["x"], own["u"]
        return own.add("x", l_x, 0.5).add("u", l_u, 0.5)
