"""ALS4GAN: a classifier of images asks for those it is unsure of; a critic then picks predictions to train on.

From the release: its critic pools the 20 x 20 cells of a crop of 320, here all cells of any crop. It stretches u to
[0, 1] by the minimum and maximum of its batch, and g by its own minimum and the range of x; here images are in [0, 1]
from the start. Padding trains there, with the class that is predicted for it; here it does not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from ...nets import Critic, evaluating, frozen, make
from ...views import Batch, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels
from ..consistency.classmix import SCALES
from ..lengths import Length
from ..parts.judging import accepted, human, judging, sharpening, traits_apart
from ..parts.losses import Criterion, ce, criterion

NET = "resnet101(output_stride=8, freeze_bn='affine')"
# The light network beside a critic that costs less than it does, and learns within some hundred steps: at the published
# rate it knows nothing by then, and no prediction passes.
SHORT = {"width": 16, "critic_lr": 1e-3, "tau": 0.5}
RECIPE: dict[str, Any] = {
    "task": {"crop": 320, "scale": SCALES},
    "method": {"net": NET},
    "fit": {"steps": 20_000, "batch": 10, "lr": 2.5e-4, "head": 10.0, "weight_decay": 5e-4},
    "processes": 1,
    "differs": [
        "the network is DeepLabV2 there, pretrained on COCO; DeepLabV3+ on ImageNet's ResNet-101 here",
        "head_lr: the decoder's biases have 20 times the rate and no weight decay there, the decoder's rate here",
        "schedule: poly 0.9 renewed every 10 steps there, every step here",
        "unsure: length: its polynomial decay ends at step 20000, its default number of steps is 40000",
        "unsure: thresholds: `tau` is an argument of its command without a default; 0.6 is s4GAN's of VOC",
        "unsure: scale, flip: switches of its command, off unless given; the published command is not known",
        "unsure: selection: which of the saved steps is scored is not said",
    ],
}


class ALS4GAN(Method):
    """Active learning for improved semi-supervised segmentation in satellite images (Desai & Ghose, WACV 2022, arXiv
    2110.07782), the training: s4GAN (Mittal et al., TPAMI 2021, arXiv 1908.05724).

    Idea: with few labels it matters more which images have them than what is done with the others. So first a
    classifier of whole images, which needs one tag an image and no mask, asks for those that it is least sure of, see
    `s4kit.query`; their ids are a split, `load(..., labelled=ids)`, for this or any other method. What this one adds to
    `pseudo_label`: a critic that has learned how human label maps look says which whole predictions the network may
    train on, and the predictions are drawn to where human maps lie in the critic's features.

    Equations; network f, critic D with score d and traits phi, x labelled, g another draw of the labelled images:
        L_self = mean of CE(f(u), argmax f(u)) over the pixels of images with d(softmax f(u), u) > tau;   from `start`
        L_fm   = mean over traits |mean over g of phi(one-hot y_g, g) - mean over u of phi(softmax f(u), u)|
        L = CE(f(x), y) + match L_fm + own L_self                                                the critic stands still
        L_D = (BCE(d(softmax sg f(u), u), 0) + BCE(d(one-hot y_g, g), 1)) / 2                   the network stands still
    The gradient of L_self does reach f: it falls as the network gets surer, like an entropy. Void pixels are of no
    class in a one-hot map. All forwards are in train mode, those that select included, so the critic's dropout takes
    part. One backward, then a step of each: f by SGD, D by Adam, whose rate follows f's schedule.

    Cost: two forwards of the network with gradient and five of the critic a step.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: score from which a prediction passes for a human's map; 1 = no self-training.
        start: share of the training, or passes, before which nothing passes.
        match, own: weights of L_fm and L_self.
        width: of the critic, see `nets.Critic`.
        critic_lr: learning rate of the critic's Adam.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="active",
        title="Active Learning for Improved Semi-Supervised Semantic Segmentation in Satellite Images",
        venue="WACV",
        year=2022,
        authors="Desai & Ghose",
        arxiv="2110.07782",
        code="https://github.com/immuno121/ALS4GAN",
        extends=("pseudo_label",),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": SHORT},
        "camvid": {"method": SHORT},
        "folder": {"method": SHORT},
        "ucmerced": RECIPE,
        "deepglobe": RECIPE
        | {
            "task": {"crop": 320, "scale": SCALES, "size": 256},
            "differs": [
                *RECIPE["differs"],
                "evaluation: masks are resized to 320 x 320 there by a cubic filter of their colours, and a colour of "
                "no class, barren land and unknown too, is class 0; scored at 256 x 256 here, unknown left out",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.6,
        start: Length = 0.05,
        match: float = 0.1,
        own: float = 1.0,
        width: int = 64,
        critic_lr: float = 1e-4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.critic = make(net, task), Critic(task.num_classes, width=width)
        self.tau, self.start, self.match, self.own, self.critic_lr = tau, start, match, own, critic_lr
        self.supervised = criterion(supervised)
        view = weak(pad="mean")
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view), g=Stream("labelled", view))

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits, and the critic's score (B, 1, 1) of each image."""
        with evaluating(self.student, self.critic):
            z = self.student(view.weak)
            return z, self.critic(z.softmax(1), view.weak).score.sigmoid()

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        """Whole predictions count, or nothing of them."""
        z, d = evidence
        confidence, label = z.softmax(1).max(1)
        kept = accepted(d, self.tau, z.shape[-2:]) * float(clock.since(self.start) > 0)
        return PseudoLabels(label, confidence, kept, view.valid)

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> Tensor:
        return evidence[0].softmax(1)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, g = batch.x, batch.u, batch.g
        z_x, z_u = self.student(x.weak), self.student(u.weak)
        fake, real = z_u.softmax(1), human(g.label, z_u.shape[1])
        with frozen(self.critic):
            of_fake = self.critic(fake, u.weak)
            of_real = self.critic(real, g.weak)
        target = self.pseudo_labels((z_u.detach(), of_fake.score.detach().sigmoid()), u, clock)
        losses = Losses(x=self.supervised(z_x, x.label))
        losses.add("match", traits_apart(of_real.traits, of_fake.traits), self.match)
        losses.add("self", sharpening(z_u, target.weight * target.valid), self.own)
        losses.add("critic", judging(self.critic, fake.detach(), u.weak, real, g.weak))
        return losses.see(weak=u.weak, mixed=u.weak, target=target, student=z_u)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        adam = replace(recipe, lr=self.critic_lr, head=1.0, kind="adam", weight_decay=0.0, betas=(0.9, 0.99))
        return {
            "student": replace(recipe, nets=[self.student]),
            "critic": replace(adam, nets=[self.critic]),
        }
