"""ComplexMix: many small mixing masks, some by classes and some by boxes, on one image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from ...views import Batch, paste, recolour
from ..base import Card, Clock, Losses
from ..parts.losses import Criterion, ce, pixel_ce
from ..parts.masks import draw_block_mask
from .classmix import COLOURS, ClassMix


class ComplexMix(ClassMix):
    """ComplexMix: semi-supervised semantic segmentation via mask-based data augmentation (Chen et al., ICIP 2021).

    RECONSTRUCTED FROM THE ABSTRACT: the paper has no code, and the rule of the mask is the kit's reading of "combines
    CutMix and ClassMix" and "controls the complexity of the augmented image". All else is `classmix`.

    Idea: a mixed image teaches more the more complex it is, and less the less sense it makes; so control how complex it
    is, by the number of blocks that are mixed each in its own way. What it adds to `classmix` and `cutmix`: both masks
    in one image, and the number of blocks.

    Equations; n = next image of the batch, t the teacher, a = argmax of t(w(u)), the grid has k x k blocks:
        m in each block, by a coin: pixels of floor(j/2) of the j classes that a has in this block,
                                    or a box of half the block's area and random aspect
        mixed = m ? w(u) : w(u_n);   t_m, valid likewise;   q = softmax(t_m),   y, c = argmax, max of q
        r = mean over the batch's pixels of 1[c >= tau]
        L_u = 1/(B H W) sum over pixels of valid * r * CE(f(colour(mixed)), y)
        L = CE(f(w(x)), y_x) + weight * L_u;   t by the warmed-up average of `classmix`
    With one block it is `classmix` in half of the steps and a box of half the image, as in `cutmix`, in the others.

    What is not known: the number of blocks (4 here; the paper tries several), whether boxes are drawn in each block,
    whether its term is the cross entropy of `classmix` or the squared error of `cutmix`, tau, weight and decay, and
    which network is evaluated (here the teacher).

    Args:
        task, net, tau, decay, weight, supervised: as in `classmix`.
        blocks: k, blocks along each side.
        colour: jitter and blur on the mixed images.
        flip: probability of mirroring an image.
    """

    card = Card(
        family="consistency",
        title="ComplexMix: Semi-Supervised Semantic Segmentation via Mask-Based Data Augmentation",
        venue="ICIP",
        year=2021,
        authors="Chen et al.",
        arxiv="2101.10156",
        extends=("classmix", "cutmix"),
        parity="reconstruction",
    )
    recipes: ClassVar = {
        dataset: entry | {"source": "the kit's reading: ClassMix's figures, the paper's are not known"}
        for dataset, entry in ClassMix.recipes.items()
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        blocks: int = 4,
        tau: float = 0.968,
        decay: float = 0.99,
        weight: float = 1.0,
        colour: bool = True,
        flip: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, decay, weight, colour=colour, flip=flip, supervised=supervised)
        self.blocks = blocks

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        t_u = self.teach(u)
        m = draw_block_mask(t_u.argmax(1), t_u.shape[1], self.blocks)
        w, valid, t_m = (paste(m, own, own.roll(-1, 0)) for own in (u.weak, u.valid, t_u))
        target = self.pseudo_labels(t_m, replace(u, weak=w, valid=valid), clock)
        mixed = recolour(w, COLOURS, together=True) if self.colour else w
        z_x, z_m = self.student(x.weak), self.student(mixed)
        l_u = pixel_ce(z_m, target, over="all")
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight))
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_m)
