"""Which images to have labelled: a classifier of whole images, which costs a tag an image and no mask, asks for those
that it is least sure of (ALS4GAN, arXiv 2110.07782). The answer is a list of ids, a split for any method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.seeding import generator, mix_seed
from ..data.splitting.splits import count_of
from ..data.task import Task
from ..errors import S4Error
from ..methods.parts.present import tag_loss
from ..methods.parts.queries import doubt, rounds_of
from ..nets import Tagger, evaluating, make
from ..views import Stream, ViewPlan, draw_step, render, weak
from .device import pick_device
from .sweep import passing

NET = "efficientnet_lite0(freeze_bn=True)"  # a batch of four images says little of the statistics
TOLD = ViewPlan(x=Stream("labelled", weak(pad="mean"), reveal="tags"))


class Asker:
    """A classifier that is taught tags, and the images whose tags it has been told.

    Args:
        task: the images.
        tags: see `query`; None = their `scenes`, where they have some (one each), else the classes of their masks.
        net, lr, batch, epochs, seed: see `query`.
    """

    def __init__(
        self,
        task: Task,
        net: str,
        lr: float,
        batch: int,
        epochs: int,
        seed: int,
        device: torch.device,
        tags: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.single = bool(task.train.scenes) if tags is None else all(len(set(of)) == 1 for of in tags.values())
        self.names = (
            task.train.scenes or task.classes if tags is None else sorted({t for of in tags.values() for t in of})
        )
        self.tags, by_mask = tags, tags is None and not self.single
        self.plan = TOLD if by_mask else ViewPlan(x=replace(TOLD["x"], reveal=None))
        self.net = Tagger(make(net, task), len(self.names)).to(device)
        self.task, self.lr, self.batch, self.epochs, self.seed = task, lr, batch, epochs, seed
        self.device, self.told, self.taught = device, [], 0

    def teach(self, rows: Sequence[int]) -> None:
        """Tell the tags of some more images and fit to all told so far: the weights go on, the momentum does not."""
        self.told += [row for row in rows if row not in self.told]
        self.task = replace(self.task, labelled=tuple(self.told), unlabelled=())  # no mask of any other is opened
        batch = min(self.batch, len(self.told))
        optimiser = torch.optim.SGD(self.net.parameters(), self.lr, momentum=0.9)
        self.net.train()
        for micro in range(self.epochs * -(-len(self.told) // batch)):
            x = render(draw_step(self.task, self.plan, batch, self.seed, self.taught, micro), self.plan, self.device).x
            optimiser.zero_grad(set_to_none=True)
            self._loss(self.net(x.weak), x).backward()
            optimiser.step()
        self.taught += 1

    def _loss(self, logits: Tensor, x: Any) -> Tensor:
        if x.tags is not None:
            return tag_loss(logits, x.tags)
        target = torch.stack([self._said_of(row) for row in x.index.tolist()]).to(self.device)
        return F.cross_entropy(logits, target.argmax(1)) if self.single else tag_loss(logits, target)

    def _said_of(self, row: int) -> Tensor:
        """(T,) float, 1 for the tags of an image of which no mask is opened."""
        train = self.task.train
        if self.tags is None:
            there = {self.names[train.scene(row)]}
        elif train.ids[row] in self.tags:
            there = set(self.tags[train.ids[row]])
        else:
            raise S4Error(f"{train.ids[row]} was asked for, and the tags that are given have none of it.")
        return torch.tensor([float(name in there) for name in self.names])

    def most_doubtful(self, rows: Sequence[int], count: int, by: str) -> list[int]:
        """The `count` of the rows that it is least sure of, the most doubtful first; of equals the first ones."""
        found = []
        with torch.no_grad(), evaluating(self.net):
            for _, view in passing(self.task, Stream("all"), rows, self.device, workers=0):
                found.append(doubt(self.net(view.weak), by, self.single))
        order = torch.cat(found).sort(descending=True, stable=True).indices
        return [rows[k] for k in order[:count].tolist()]


def query(
    task: Task,
    budget: int | float | str,
    by: str = "margin",
    alpha: float = 0.1,
    beta: float = 0.5,
    net: str = NET,
    epochs: int = 50,
    lr: float = 1e-3,
    batch: int = 4,
    seed: int = 0,
    device: torch.device | str = "auto",
    tags: Mapping[str, Sequence[str]] | None = None,
    tell: Callable[[int, int], None] = lambda asked, of: None,
) -> list[str]:
    """The ids of the images that should be labelled, for `load(..., labelled=ids)`; the most wanted stand first.

    int(alpha n) images, drawn blindly, start a classifier; then, round by round, the ceil(beta of these) that it is
    least sure of are asked for and it is fitted to all tags so far, until n are found. The first ones are not among
    them, unless there are no others. The classifier is a backbone with weights of ImageNet, the mean over all places
    and one linear layer; the release puts it behind the 1000 outputs of a whole ImageNet network. It is taught weak
    views (scale, crop, mirror) of the images, which the release leaves out by default, and asks by images as they are.
    It never sees a mask: what it is told of an image are `tags` of yours, else the kind of scene, where the data set
    names one (UC Merced), else which classes are in its mask. Where an image may have several, "least sure" is a mean
    over them.

    Cost: n + alpha n images are tagged. `epochs` passes over them a round, and one forward for each other image.

    Args:
        task: its labelled and unlabelled images alike are those to choose from; what its own split is does not matter.
        budget: n, or a share of the images, as `labelled` of `load`.
        by: "margin" between the two likeliest answers, or "entropy".
        alpha, beta: shares, see above. Small ones make many rounds: with the published 0.1 and 0.5 some 20.
        net: network spec, of which the backbone is taken. lr, batch, epochs: of SGD with momentum 0.9, as published.
        seed: of the first images and the classifier.
        device: as of `fit`.
        tags: any words for each image by its id, such as the place where it was taken; then no mask is needed.
        tell: called with (images asked for, n) behind each round.

    Raises:
        S4Error: an unknown `by`, shares or a budget that cannot be, or an image without a mask or tags.
    """
    pool = list(task.rows("all"))
    n = count_of(budget, len(pool))
    plan, device, asked = rounds_of(n, alpha, beta), pick_device(device), []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(mix_seed(seed, "query"))
        asker = Asker(task, net, lr, batch, epochs, seed, device, tags)
        first = generator(seed, "query").permutation(len(pool))[: plan.first]
        newest = [pool[k] for k in sorted(first.tolist())]
        while len(asked) < n:
            asker.teach(newest)
            known = set(asker.told)
            rest = [row for row in pool if row not in known] or [r for r in pool if r not in set(asked)]
            newest = asker.most_doubtful(rest, min(plan.each, n - len(asked)), by)
            asked += newest
            tell(len(asked), n)
    return [task.train.ids[row] for row in asked]
