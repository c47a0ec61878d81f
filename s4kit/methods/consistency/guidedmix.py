"""GuidedMix-Net: the features of a labelled and an unlabelled image are blended, and the labelled part is taken out.

From the release: its loss goes by the name of KL and is the focal one; on a CPU its target would be raw logits, on a
GPU their argmax, as here. It trains on the padding of unlabelled images; here padding is not valid. It permutes the
unlabelled side. Its crops avoid one class above 75 %, which unlabelled ones cannot; here neither do. Its VOC images
are resized to a shorter side of 512, times U(0.5, 2) in training (`short=512`) and as it is when they are scored; its
rate falls polynomially down to 1e-4, as in the recipes. The mirrored term for the labelled image is computed there
and thrown away.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import S4Error
from ...nets import evaluating, make
from ...views import Batch, Distortion, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.precision import float32

DISTORTED = {"weak": weak(pad="mean", padded_last=True), "strong": (Distortion(),)}
PAPER_NET = (  # DeepLabV3: no low-level features, the branches of the ASPP go straight into one 3x3 convolution
    "resnet101c(stem_width=32, output_stride=8, aspp='branches', aspp_rates=(12, 24, 36), aspp_channels=512, "
    "low_channels=0, decoder_channels=512, decoder_convs=1, dropout=(0, 0.1), align_corners=False)"
)
FIT = {"lr": 1e-2, "head": 1.0, "weight_decay": 5e-4, "schedule": "poly_to_hundredth"}


def fold(b: float) -> float:
    """The smaller of b and 1 - b: the labelled image never has the larger part."""
    return min(b, 1 - b)


def draw_share(most: float) -> float:
    """lam = fold(b), b ~ Beta(1, 1), drawn again until it is below `most`."""
    while (share := fold(random.betavariate(1, 1))) >= most:
        pass
    return share


@float32
def sigmoid_focal(logits: Tensor, label: Tensor, gamma: float, alpha: float) -> Tensor:
    """(B, H, W): focal loss of every class as a coin of its own (Lin et al., ICCV 2017), mean over the classes.

    With s = z for the pixel's class and -z for the others: a (1 - sigmoid(s))^gamma (-log sigmoid(s)), a = alpha for
    the pixel's class and 1 - alpha for the others. In logarithms, as the root of zero has no gradient.

    Args:
        logits: (B, C, H, W). label: (B, H, W) long, no void.
    """
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label[:, None], True)
    s = torch.where(own, logits, -logits)
    a = torch.where(own, alpha, 1 - alpha)
    return (a * (gamma * F.logsigmoid(-s)).exp() * -F.logsigmoid(s)).mean(1)


class GuidedMix(Method):
    """GuidedMix-Net: using labeled images as reference (Tu et al., AAAI 2022, arXiv 2112.14015), as released.

    Idea: blend an unlabelled image with a labelled one, predict on the blend and subtract what the labelled part
    explains: the rest should be the label that the network gives the unlabelled image alone. What it adds to
    `pseudo_label`: the blend of features, a second head for it, the subtraction, and a focal loss without a threshold.

    Equations; A the fused map before the classifier, h the first head, g the second, k a permutation, u an unlabelled
    and k(u) a labelled image:
        A_x, A_u from one train-mode forward of (x, u);   z_x = h(A_x), z_u = h(A_u);   y = argmax z_u, detached
        lam = min(b, 1 - b), b ~ Beta(1, 1), again until lam < most;   z_m = g(lam A_k(u) + (1 - lam) A_u)
        d = z_m - lam z_k(u)                    the subtracted logits are NOT detached: h learns through them as well
        l(s) = (1 - sigmoid(s))^gamma (-log sigmoid(s));   L_u = mean over valid pixels and classes of
               alpha l(d) for the class y, (1 - alpha) l(-d) for all others
        L = CE(z_x, y_x) + weight L_u
    The network alone, with h, is evaluated.

    VERSION: the released code's, which blends features. The paper blends similar IMAGES and has a module that moves
    labels to unlabelled features, a branch that finds the pairs, and a selection of pseudo-masks; no released
    configuration uses any of them, and they are not here. A is what enters the classifier: in the recipes' network
    the branches of the ASPP side by side, as in the release; in a DeepLabV3+ its ASPP and low-level features. g is a
    second classifier; the release has a second ASPP head of which it uses this part. The term is taken at the image's
    size, there at the features'.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        most: upper end of lam, at most 1/2.
        weight: of L_u. gamma, alpha: of the focal loss.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: `most` out of range.
    """

    card = Card(
        family="consistency",
        title="GuidedMix-Net: Semi-supervised Semantic Segmentation by Using Labeled Images as Reference",
        venue="AAAI",
        year=2022,
        authors="Tu et al.",
        arxiv="2112.14015",
        code="https://github.com/yh-pengtu/GuidedMix-Net",
        extends=("pseudo_label",),
        parity="golden",
        note="the released version, which blends features",
    )
    views = ViewPlan(x=Stream("labelled", **DISTORTED), u=Stream("unlabelled", **DISTORTED))
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512, "short": 512},
            "method": {"net": PAPER_NET},
            "fit": {**FIT, "steps": 20_000, "batch": 16},
            "evaluation": "voc/guidedmix",
            "differs": ["unsure: the number of GPUs, 4 images on each of 4 here"],
        },
        "voc/classic": {"method": {"net": PAPER_NET.replace("resnet101c", "resnet50c")}},
        **{f"voc/{family}/1323": {"fit": {"steps": 40_000}} for family in ("cps", "u2pl")},
        "cityscapes": {
            "task": {"crop": 769},
            "method": {"net": PAPER_NET, "supervised": "ce"},
            "fit": {**FIT, "steps": 40_000, "batch": 8},
            "evaluation": "cityscapes/whole",
            "differs": [
                "unsure: the number of GPUs, 2 images on each of 4 here",
                "unsure: length: its files say 20,000 or 40,000 steps, for 1488 images 80,000 too; 40,000 here",
                "most: 0.4 for its list of 372 images alone, 0.5 otherwise, as here for the lists of that length",
                "its lists are its own",
            ],
        },
        **{f"cityscapes/{family}/372": {"method": {"most": 0.4}} for family in ("cps", "u2pl")},
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        most: float = 0.5,
        weight: float = 10.0,
        gamma: float = 0.5,
        alpha: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if not 0 < most <= 0.5:
            raise S4Error(f"most={most}: the labelled share of the blend must end above 0 and at most at 0.5.")
        self.student = make(net, task)
        self.student.heads["blend"] = self.student.decoder.branch()
        self.most, self.weight, self.gamma, self.alpha = most, weight, gamma, alpha
        self.supervised = criterion(supervised)

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.strong[0] if view.strong else view.weak)  # an evaluated image is not distorted

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, size = batch.x, batch.u, batch.x.weak.shape[-2:]
        a = self.student.fuse(self.student.encode(torch.cat([x.strong[0], u.strong[0]]))).map
        z_x, z_u = self.student.classify(a, size).logits.split([len(x), len(u)])
        target = self.pseudo_labels(z_u.detach(), u, clock)
        lam, partner = draw_share(self.most), torch.randperm(len(u), device=a.device) % len(x)
        a_x, a_u = a.split([len(x), len(u)])
        z_m = self.student.branch("blend", lam * a_x[partner] + (1 - lam) * a_u, size)
        d = z_m - lam * z_x[partner]
        far = sigmoid_focal(d, target.label, self.gamma, self.alpha)
        l_u = pixel_mean(far, target.weight, target.valid, over="valid")
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight))
        return losses.see(weak=u.weak, mixed=u.strong[0], target=target, loss=far * target.valid)
