"""NP-SemiSeg: the classifier is a neural process, which knows the classes by two memories and answers by samples.

A bug of the release, which this class does not have: rows are read off its maps along the wrong axis, so a row is
d neighbouring pixels of one channel, and a centre says nothing of channels (the parity test feeds such rows).
Also otherwise: rows are taken at stride 4, at most `fresh` of a class and step, evenly spread, where the release
enlarges h to the image and keeps the last pixels of the last image; a class without rows has the centre 0, there
a row of 0 counts until it is pushed out; the teacher uses the centres behind the last step, there those of the
epoch's start.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import NeuralProcessHead, Sampled, SegNet, copy_of, divergence, evaluating
from ...views import Batch, Views
from ..base import Card, Clock, Losses, Method
from ..consistency.augseg import AugSeg
from ..parts.banks import Queues
from ..parts.contrast import members, rows, shrink
from ..parts.losses import Criterion, ce, pixel_ce

DIFFERS = [
    "unsure: epochs and rate: read in the example; crops and colours are AugSeg's",
]


class Memories(nn.Module):
    """Descriptions of pixels by class: `latent` of all images of a step, `fixed` of the labelled ones.

    Args:
        classes, dim: K and d. rows: kept of a class. fresh: written in a step, evenly spread.
    """

    def __init__(self, classes: int, dim: int, rows: int, fresh: int) -> None:
        super().__init__()
        self.latent, self.fixed = (Queues([rows] * classes, dim, fresh=fresh) for _ in range(2))

    def forward(self) -> tuple[Tensor, Tensor]:
        """(K, d) mean of each class in either memory; 0 where there is nothing."""
        return tuple(q.snapshot().sum(1) / q.count.clamp(min=1)[:, None] for q in (self.latent, self.fixed))


class NeuralProcess(Method):
    """What the hosts share, before whom it stands in a class's bases: the head instead of the classifier, its memories.

    Attributes:
        student, teacher: of the host. memories: see above. centres: (2, K, d), of the memories, as the last step left
        them. noise: (tested, d), where nothing is to be drawn. samples: T.
    """

    student: SegNet
    teacher: SegNet

    def replace_classifier(self, classes: int, dim: int, rows: int, fresh: int, samples: int, tested: int) -> None:
        """Of the host's networks; arguments as in `NPSemiSeg`."""
        decoder, training = self.student.decoder, self.teacher.training
        head = NeuralProcessHead(decoder.fused_channels, classes, dim, decoder.embedding_channels)
        for name in decoder.classifies:
            setattr(decoder, name, nn.Identity())
        self.student.heads["process"] = head
        self.teacher = copy_of(self.student).train(training)
        self.memories = Memories(classes, dim, rows, fresh)
        self.register_buffer("noise", torch.randn(tested, dim))
        self.register_buffer("centres", torch.zeros(2, classes, dim))
        self.classes, self.samples = classes, samples

    def said(self, view: Views) -> Tensor:
        """(B, K, H, W): the logarithm of the teacher's mean probability, in eval mode."""
        with evaluating(self.teacher):
            return Sampled(self.teacher, self.centres, self.noise[: self.samples])(view.weak)

    def drawn(self, map: Tensor, label: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The student's mean logits (B, K, h, w) of fused maps (B, F, h, w), and the KL; see `remember`."""
        self.remember(map, label, n)
        noise = torch.randn(self.samples, len(map), self.noise.shape[1], device=map.device)
        z, latent, fixed = self.student.heads["process"](map, *self.memories(), noise)
        return z.mean(0), divergence(latent, fixed).mean()

    @torch.no_grad()
    def remember(self, map: Tensor, label: Tensor, n: int) -> None:
        """Write descriptions of maps (B, F, h, w) under labels (B, H, W); the first n images are labelled."""
        u = self.student.heads["process"].describe(map).float()
        y = shrink(label, map.shape[-2:])
        for queues, part in ((self.memories.latent, slice(None)), (self.memories.fixed, slice(n))):
            queues.write(rows(u[part]), members(y[part].flatten(), self.classes))

    def after_step(self, clock: Clock) -> None:
        super().after_step(clock)
        self.centres.copy_(torch.stack(self.memories()))

    def predictors(self) -> dict[str, nn.Module]:
        return {name: Sampled(net, self.centres, self.noise) for name, net in super().predictors().items()}


class NPSemiSeg(NeuralProcess, AugSeg):
    """When neural processes meet semi-supervised semantic segmentation (Wang et al., ICML 2023).

    Idea: a pseudo-label should come with how far the network can answer otherwise. So the classifier becomes a
    conditional random function: what labelled pixels of the classes look like (the context) and what all do (the
    target) are summarised, the summary of an image gives a Gaussian, and each draw from it is another prediction; their
    mean is the answer, their spread the doubt. What it adds to `augseg`, its host: this head and one term.

    Equations; h the decoder's input features, g a small network to d channels, T samples, sg without gradient:
        memories M: rows of g(h) by class, of all images by label or pseudo-label (latent), of labelled ones (fixed);
            m_c their means
        v = mean over pixels of sum over c of softmax_c(-(g(sg h) - m_c)^2) m_c, channel by channel;   v_l, v_f of both
        mu, sigma = moments(v), sigma = 0.1 + 0.9 softplus;   z = mu + sigma noise, by v_l
        f(x) = mean over T of decoder([z, h, v_f]);   teacher: q = mean over T of softmax
        L = L of `augseg` on these logits + kl * mean over images of KL(by v_l || by v_f), sigma taken for a variance
    The mean of samples enters the loss as a mean of logits, the teacher's as one of probabilities. No gradient passes
    from the summaries into the network or the memories; g learns by them alone. Where nothing is to be drawn (teacher,
    evaluation, explorer) the noise is fixed, `tested` samples for evaluation, `samples` for pseudo-labels. On the
    paper's other host it is `np_semiseg_u2pl`.

    Cost: the decoder runs T times over maps at stride 4; a summary takes K d values per pixel (0.6 GB for 16 crops of
    480 and 21 classes).

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; its classifier is taken out.
        tau: confidence from which a pixel counts; 0 = all pixels (Cityscapes).
        decay: of the teacher. weight: of L_u. kl: of the divergence.
        samples: T. tested: samples of an evaluation.
        dim: d. rows: of a class in either memory. fresh: see above.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="NP-SemiSeg: When Neural Processes meet Semi-Supervised Semantic Segmentation",
        venue="ICML",
        year=2023,
        authors="Wang et al.",
        arxiv="2308.02866",
        code="https://github.com/Jianf-Wang/NP-SemiSeg",
        extends=("augseg",),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 480},
            "method": {"net": "resnet50c(multi_grid=(2, 4, 8))"},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "clip": 5.0},
            "processes": 4,
            "evaluation": "voc",
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 580},
            "method": {
                "net": "resnet50c(multi_grid=(2, 4, 8))", "tau": 0.0, "decay": 0.996, "weight": 2.0,
                "supervised": "ohem(thresh=0.7, per_image=50000)",
            },
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "weight_decay": 5e-4, "clip": 5.0},
            "processes": 4,
            "evaluation": "cityscapes/augseg",
            "differs": DIFFERS,
        },
    }  # fmt: skip

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        decay: float = 0.999,
        weight: float = 1.0,
        kl: float = 0.005,
        samples: int = 5,
        tested: int = 20,
        dim: int = 32,
        rows: int = 2560,
        fresh: int = 256,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, decay, weight, supervised=supervised)
        self.replace_classifier(task.num_classes, dim, rows, fresh, samples, tested)
        self.kl = kl

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        mixed, target = self.mixed(x, u, clock)
        map = self.student.fuse(self.student.encode(torch.cat([x.weak, mixed]))).map
        z, kl = self.drawn(map, torch.cat([x.label, target.label.where(target.valid > 0, VOID)]), len(x))
        z_x, z_u = self.student.enlarge(z, x.label.shape[-2:]).split([len(x), len(u)])
        losses = Losses(x=self.supervised(z_x, x.label), u=(pixel_ce(z_u, target, over="all"), self.weight))
        losses.add("kl", kl, self.kl)
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_u)
