"""SLRNet: two views of an image are rebuilt of the same few atoms, and the labels made of them lose their noise.

From the release: its network is a WideResNet-38 whose shallow map is normalised by the deep one and mixed in by
chance; for it stands here the fused map of any network. There a labelled crop that has lost a tagged class counts
nothing; here tags of x are its crop's classes. There both lists are one, the labelled three (or seven) times in it;
here a batch always has as many of each. Padding has no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...nets import evaluating, factorised, make
from ...nets.segnet import resize
from ...views import Batch, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..lengths import Length
from ..parts import pamr
from ..parts.claims import balance, chosen, image_scores, strongest
from ..parts.losses import Criterion, ce_map, criterion
from ..parts.precision import float32
from ..parts.present import Filter, allowed, present_in, tag_loss

NET = "resnet101(output_stride=8, aspp_rates=(12, 24, 36), freeze_bn=True, dropout=(0, 0.5, 0.1))"
OF_HINT = 0.4  # weight of the auxiliary head's terms


class Variant(NamedTuple):
    """What differs between training with tags and without, see `SLRNet`."""

    weights: tuple[float, float, float, float]
    thresholds: tuple[float, float, float]
    power: float
    pretrain: Length
    many: float


TAGS = Variant((0.5, 2.0, 2.0, 0.5), (0.6, 0.7, 0.2), 1.0, 0.2, 5 / 3)
NO_TAGS = Variant((1.0, 4.0, 4.0, 1.0), (0.8, 0.9, 0.6), 3.0, 11 / 40, 1.0)


class Seen(NamedTuple):
    """Both views of some images: logits `z1`, `z2` and `hint` of the auxiliary head on the first, (B, K, h, w) at the
    views' own sizes, float32; codings `c1`, `c2`."""

    z1: Tensor
    z2: Tensor
    hint: Tensor
    c1: Tensor
    c2: Tensor


def balanced_ce(z: Tensor, target: PseudoLabels) -> Tensor:
    """(B, H, W) weighted cross entropy of logits (B, K, H, W); its mean is L_seg."""
    return ce_map(z, target.label) * target.weight * target.valid


class SLRNet(Method):
    """Learning self-supervised low-rank network for single-stage weakly and semi-supervised semantic segmentation (Pan
    et al., IJCV 2022, arXiv 2203.10278). WEAK LABELS, unless `tags` is False: it is told which classes are in each
    unlabelled image.

    Idea: labels made of tags are noisy, and what one view of an image gets wrong another gets right. So the features of
    two views are rebuilt of the same few atoms, one for each class: what atoms cannot say is gone, and both views must
    agree on the rest. The mean of their masks, made to follow the image's edges, is the label, online: one stage, one
    network. What it adds to `one_weird_trick`: the tags teach the segmentation itself.

    Equations; X the pixels of both views' features, the second view of half the side; a auxiliary logits of the first:
        D_k = mean of its pixels by softmax_k(a), held;   atoms = l2(W1 D + b),   Y = W1 X + b
        C = softmax_k(atoms Y / T),   atoms = l2((C + 1e-6) Y / sum over pixels),   `iterations` times
        X' = relu(X + W2 relu(C^T atoms));   m1, m2 = softmax of the logits of X'
        m = PAMR((m1 + m2) / 2) t,   t the tags;   g_k = 1 where m_k > max(theta_k max m_k, low), nowhere of two classes
        L_seg(z) = mean over all pixels of (n - n_k) / (1 + n) CE(z, k), pixels without g 0; summed for both views and
                   0.4 a; 0 for an image in which g has not just the classes of its tags
        L_tags = BCE(s, t), as often;   s_k = sum of z_k m_k / (1 + sum of m_k) + (1 - mean m_k)^3 log(0.01 + mean m_k)
        L_reg = mean |m1 - m2| t over the foreground;   L_code = mean |h(C1) - h(C2)|,   h keeps the largest entry
        L = c0 L_tags(u) + c1 L_reg + c2 L_code + c3 L_seg(x) + [after `pretrain`] c3 L_seg(x and u),
    where the labelled x, whose g is the truth, have L_seg in the place of L_tags as well. A mean over a batch counts x
    and u alike. With tags the background's logit is 1, and 1 - max a. Scored with the classes cut that s finds: at
    most six, sigmoid(s) > 0.3. Without tags all K classes are predicted, there is no L_tags, and the background's mask
    is cubed before PAMR.

    Cost: two forwards and their gradients, the second of a quarter of the pixels; PAMR on maps of stride 4.

    Args:
        task: the data.
        net: network spec, see `nets.make`.
        tags: whether it is told them. Figures that are None are those of the release with tags, or without:
        weights: c0, c1, c2, c3.
        thresholds: theta of the foreground and of the background, low.
        pretrain: share of the training before unlabelled images teach masks; or passes, see `lengths`.
        many: unlabelled images for each labelled one.
        shrink: side of the second view. iterations, temperature: of the atoms.
        rounds, dilations: of PAMR.
        cut, most: sigmoid(s) above which a class may be in a prediction, and how many.
        background: whether class 0 is what is left: always there, and not asked for.
        supervised: criterion of the labelled images in the place of L_seg, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="weak",
        title="Learning Self-Supervised Low-Rank Network for Single-Stage Weakly and Semi-Supervised Semantic "
        "Segmentation",
        venue="IJCV",
        year=2022,
        authors="Pan et al.",
        arxiv="2203.10278",
        code="https://github.com/DesertsP/SLRNet",
        extends=("one_weird_trick",),
        parity="golden",
        note="weak labels: tags of all images, unless tags=False; another network",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 448, "scale": (0.9, 1.0)},
            "method": {
                "net": "resnet101(output_stride=8, aspp_rates=(12, 24, 36), freeze_bn=True, dropout=(0, 0.5, 0.1))"
            },
            "fit": {
                "steps": 50_640,
                "batch": 3,
                "lr": 5e-4,
                "head": 10.0,
                "weight_decay": 5e-4,
                "nesterov": True,
            },
            "evaluation": "voc",
            "selection": "last",
            "differs": [
                "batch: 8 of one list in which the labelled stand three times there, 3 labelled and 5 others here",
                "backbone: WideResNet38 there, resnet101 here",
                "head: a shallow map that the deep one normalises, mixed in by chance there, none here",
                "lr: 0.0005 and for biases 0.001 there, 0.0005 for both here",
                "decay_norms: not on biases there, on all here",
                "schedule: constant for six epochs and then half a cosine there, poly here",
                "scale: 0.9 to 1 of the area in any aspect there, sides of 0.9 to 1 in a square crop here",
                "strong colours: jitter of 0.3 there, none here",
                "evaluation: scored at five scales and mirrored there, at one here",
                "unsure: processes: the batch is of all GPUs or of each",
            ],
        },
        "scenes": {"method": {"dilations": (1, 2, 4)}},
        **{name: {"method": {"background": False}} for name in ("cityscapes", "camvid", "ade20k")},
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tags: bool = True,
        weights: tuple[float, float, float, float] | None = None,
        thresholds: tuple[float, float, float] | None = None,
        pretrain: Length | None = None,
        many: float | None = None,
        shrink: float = 0.5,
        iterations: int = 1,
        temperature: float = 1.0,
        rounds: int = 10,
        dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
        cut: float = 0.3,
        most: int = 6,
        background: bool = True,
        supervised: str | Criterion | None = None,
    ) -> None:
        super().__init__()
        of, self.classes, self.skipped = TAGS if tags else NO_TAGS, task.num_classes, int(background)
        fixed = tags and background
        self.student = factorised(
            make(net, task, self.classes - fixed), self.classes, fixed, iterations=iterations, temperature=temperature
        )
        self.told, self.weights, self.power = tags, weights or of.weights, of.power if background else 1.0
        foreground, behind, self.low = thresholds or of.thresholds
        factors = [behind] * self.skipped + [foreground] * (self.classes - self.skipped)
        self.register_buffer("factors", torch.tensor(factors), persistent=False)
        self.pretrain = of.pretrain if pretrain is None else pretrain
        self.supervised = None if supervised is None else criterion(supervised)
        self.shrink, self.rounds, self.dilations = shrink, rounds, tuple(dilations)
        self.cut, self.most = cut, min(most, self.classes - self.skipped)
        view, many = weak(scale=(0.9, 1.0)), of.many if many is None else many
        u = Stream("unlabelled", view, batch=many, reveal="tags" if tags else None)
        self.views = ViewPlan(x=Stream("labelled"), u=u)

    # ---- the two views ----

    def look(self, image: Tensor) -> Seen:
        """What the network makes of images (B, 3, H, W) and of smaller ones, together."""
        net, small = self.student, [max(1, int(side * self.shrink)) for side in image.shape[-2:]]
        f1, f2 = (net.fuse(net.encode(view)).map for view in (image, resize(image, small, align_corners=True)))
        hint = net.decoder.hint(f1)
        made, codings = net.decoder.rebuilt([f1, f2], hint.detach())
        z1, z2 = (net.decoder.score(map)[0].float() for map in made)
        return Seen(z1, z2, hint, *codings)

    @float32
    def believed(self, seen: Seen, image: Tensor) -> Tensor:
        """(B, K, H, W): the mean mask of both views, made to follow the image's edges."""
        m1, m2 = seen.z1.detach().softmax(1), seen.z2.detach().softmax(1)
        m = (m1 + resize(m2, m1.shape[-2:], align_corners=True)) / 2
        if self.power != 1:
            m = torch.cat([m[:, :1] ** self.power, m[:, 1:]], 1)
        small = resize(image, m.shape[-2:], align_corners=True)
        return resize(pamr.refined(small, m, self.rounds, self.dilations), image.shape[-2:], align_corners=True)

    # ---- the rule ----

    def there(self, view: Views) -> Tensor:
        """(B, K) float: classes that the view is told to have, the background always; all where nothing is told."""
        return allowed(view, self.classes, bool(self.skipped)).float()

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.believed(self.look(view.weak), view.weak)

    def probabilities(self, evidence: Tensor) -> Tensor:
        return evidence / evidence.sum(1, keepdim=True).clamp(min=1e-8)

    def pseudo_labels(self, evidence: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        """The classes that stand out among the tags; nothing of an image in which one of these does not."""
        there = self.there(view)
        m = evidence * there[:, :, None, None]
        g = chosen(m * view.valid[:, None], self.factors, self.low)
        confidence, likeliest = m.max(1)
        label = torch.where(g.any(1), g.float().argmax(1), likeliest)
        weight = balance(g)
        if self.told:
            weight = weight * (g.any(3).any(2).sum(1) == there.sum(1))[:, None, None]
        return PseudoLabels(label, confidence.clamp(max=1), weight, view.valid)

    def truth(self, view: Views) -> PseudoLabels:
        """The human labels, weighed in the same way."""
        known = view.label < self.classes
        g = known[:, None] & (view.label[:, None] == torch.arange(self.classes, device=known.device)[:, None, None])
        return PseudoLabels(view.label.where(known, 0), known.float(), balance(g), view.valid)

    # ---- training ----

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, n = batch.x, batch.u, len(batch.x)
        image = torch.cat([x.weak, u.weak])
        seen = self.look(image)
        there = torch.cat([present_in(x.label, self.classes) if self.told else self.there(x), self.there(u)])
        target = self.pseudo_labels(self.believed(seen, image)[n:], u, clock)
        of_x, of_u = (Seen(*(t[rows] for t in seen)) for rows in (slice(n), slice(n, None)))
        far = self.far(of_u, target)
        (c0, c1, c2, c3), late = self.weights, clock.since(self.pretrain) >= 0
        share = n / len(image)
        losses = Losses(x=(self.of_labels(of_x, x), c3 + share * (c0 + late * c3)))
        losses.add("u", far.mean(), late * (1 - share) * c3)
        if self.told:
            losses.add("tags", self.of_tags(of_u, there[n:, self.skipped :]), (1 - share) * c0)
        reg, code = self.agreement(seen, there)
        return losses.add("reg", reg, c1).add("code", code, c2).see(weak=u.weak, mixed=u.weak, target=target, loss=far)

    def enlarged(self, seen: Seen, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """All three logits at the size of the image."""
        z2 = resize(seen.z2, seen.z1.shape[-2:], align_corners=True)
        z1, z2, hint = (resize(z, size, align_corners=True) for z in (seen.z1, z2, seen.hint))
        return z1, z2, hint

    def far(self, seen: Seen, target: PseudoLabels) -> Tensor:
        """(B, H, W) what each pixel adds to L_seg, of all three logits."""
        z1, z2, hint = self.enlarged(seen, target.label.shape[-2:])
        return balanced_ce(z1, target) + balanced_ce(z2, target) + OF_HINT * balanced_ce(hint, target)

    def of_labels(self, seen: Seen, view: Views) -> Tensor:
        """L_seg of human labels, or another criterion in its place."""
        if self.supervised is None:
            return self.far(seen, self.truth(view)).mean()
        l1, l2, l_hint = (self.supervised(z, view.label) for z in self.enlarged(seen, view.label.shape[-2:]))
        return l1 + l2 + OF_HINT * l_hint

    def of_tags(self, seen: Seen, tags: Tensor) -> Tensor:
        """The classes of images (B, K or K - 1), asked of both views and of the auxiliary head."""
        l1, l2, l_hint = (
            tag_loss(image_scores(z, z.softmax(1))[:, self.skipped :], tags) for z in (seen.z1, seen.z2, seen.hint)
        )
        return l1 + l2 + OF_HINT * l_hint

    def agreement(self, seen: Seen, there: Tensor) -> tuple[Tensor, Tensor]:
        """How far the masks of both views are apart, and their codings."""
        m1, m2 = seen.z1.softmax(1), resize(seen.z2.softmax(1), seen.z1.shape[-2:], align_corners=True)
        apart = ((m1 - m2).abs() * there[:, :, None, None])[:, self.skipped :]
        c2 = resize(seen.c2, seen.c1.shape[-2:], align_corners=True)
        return apart.mean(), (strongest(seen.c1) - strongest(c2)).abs().mean()

    def found(self, image: Tensor) -> Tensor:
        """(B, K) bool: the classes that may be in whole images; the background always, else the surest one."""
        z = self.student.decode(self.student.encode(image)).logits
        s = image_scores(z, z.softmax(1))[:, self.skipped :].sigmoid()
        kept = (s > self.cut) & (s >= s.topk(self.most, dim=1).values[:, -1:])
        always = torch.ones_like(kept[:, :1])
        return torch.cat([always, kept], 1) if self.skipped else kept | (s == s.amax(1, keepdim=True))

    def predictors(self) -> dict[str, nn.Module]:
        alone = {"student": self.student}
        return {"filtered": Filter(self.student, self.found), **alone} if self.told else alone
