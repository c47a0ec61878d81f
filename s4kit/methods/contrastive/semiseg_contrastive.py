"""SemiSeg-Contrastive: features are pulled to the good labelled features of their class, which a memory keeps.

Two bugs of the release, which this class does not have (the parity tests put them in): memory weights b are divided
along an axis of length one, so all are 1 and s' learns nothing; and the rows that enter the memory are those with
the LOWEST scores. Also left out: it starts again from the best model after a fifth of the steps without gain, and
estimates the BN statistics anew at the end. Here heads are normalised over all pixels of a batch, selectors see
features of unit length on both sides, and labels are read off warped probabilities. ClassMix takes half of the
classes, there one more, without the background on VOC.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import SegNet, copy_of, ema, evaluating, make
from ...views import Batch, Stream, Strong, ViewPlan, Views, draw_zoom, paste, recolour, warp, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, zero_of
from ..cotraining.dual_teacher import draw_upright_mask, mirror
from ..parts.banks import Queues, surest
from ..parts.class_frequencies import ClassTable
from ..parts.contrast import members, rows, shrink
from ..parts.losses import Criterion, ce, ce_map, criterion, entropy, pixel_ce, pixel_mean
from ..parts.masks import draw_class_mask
from ..parts.roles import apart, pictured, tell
from ..parts.schedules import sigmoid_ramp
from ..parts.selectors import Selectors, memory_distance, shares
from ..parts.sparsity import spread

PATHS = ("first view", "second view")
FIRST_COLOURS = Strong(0.125, 0.125, 0.0625, 0.0417, jitter=0.2, grey=0.0, blur=0.0)
COLOURS = Strong(0.25, 0.25, 0.125, 0.083, jitter=0.8, grey=0.0, blur=0.2, sigma=(0.1, 1.5))
NET = "resnet50(dropout=(0.5, 0.0, 0.0, 0.1), dropout_kind='element', freeze_bn='affine')"
FIT = {"steps": 150_000, "head": 1.0, "weight_decay": 5e-4}
DIFFERS = [
    "its lists are its own; those of the kit stand here",
    "half of the labelled batches are resized, behind the crop, in the release; all images here, before it",
    "unsure: evaluation: whole images, at a size that was not read",
]


class SemiSegContrastive(Method):
    """Semi-supervised semantic segmentation with pixel-level contrastive learning from a class-wise memory bank (Alonso
    et al., ICCV 2021).

    Idea: the best examples of a class are labelled pixels that the teacher gets right and is sure of. A memory keeps
    such features, and every pixel, labelled or pseudo-labelled, is pulled to all of its class; nothing is pushed
    away. Small networks, one for each class, learn which features matter. And pseudo-labels are weighed by a power of
    the confidence, so none is cut off. What it adds to `mean_teacher`: the memory, the power, an entropy term.

    Equations; f the student, t the teacher, p o g its prediction head on its projection head, n pixels of a batch:
        u in two views of its own colours, zoom, flip, ClassMix (three of four steps, once the contrast has begun)
        y, q = argmax, max of softmax(t(u)), as the view has it
        L_u = ramp / n sum over all valid pixels of q^power w_y CE(f(view), y);   ramp = exp(-5 (1 - t/ramp)^2)
        L_h = mean over valid pixels of entropy(f(view)) / log C
        memory of class c, `rows`: t's projections of labelled pixels with argmax t(x) = y_x = c, max t(x) > sure; of
            each step the `per_image` B that t's selector likes best
        L_c = `memory_distance` of p(g(e)) to the memory of the pixel's class, e the decoder's embedding, with
            a_i = sigmoid(s(f_i)) / mean, b_j = sigmoid(s'(m_j)) / mean, selectors s and s' of the class
        L = CE(f(x), y_x) + L_u + entropy * L_h + contrast * (L_c of labelled pixels + L_c of pseudo-labelled ones)
        t <- d t + (1 - d) f,   d = min(1 - 1/(10 k + 1), 1 - 0.005 (cos(pi k/N) + 1)/2) at step k of N
    w is 1, or with `balance` the class's weight by `ClassTable`, which then weighs CE(f(x), y_x), too. The memory is
    filled from half of the ramp on, L_c counts from its end. Selectors see features without gradient. Heads and
    selectors are averaged with the network; t labels in train mode; the student is evaluated.

    Cost: of each class at most `most` pixels of a batch, evenly spread, enter L_c and the memory's choice: K `most`
    `rows` distances (0.1 GB for 21, 4096 and 256), where the release takes all pixels.

    Args:
        task: the data; the number of labelled images says how many rows each of them adds.
        net: network spec, see `nets.make`.
        power: of the confidence.
        entropy: weight of L_h. contrast: of L_c.
        ramp: share of the training over which L_u rises and behind which L_c begins.
        sure: confidence from which the teacher's right answers are remembered.
        rows: of the memory of a class. spare: factor of the rows that an image adds, above what would fill the memory
            in a pass over the labelled images; many classes are in few images.
        most: pixels of a class in a step. dim: of the projections.
        zoom: factors of the late change of scale, of four in five steps.
        balance: weigh classes by their frequency.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function; "ce" with `balance`.
    """

    card = Card(
        family="contrastive",
        title="Semi-Supervised Semantic Segmentation with Pixel-Level Contrastive Learning from a Class-wise Memory "
        "Bank",
        venue="ICCV",
        year=2021,
        authors="Alonso et al.",
        arxiv="2104.13415",
        code="https://github.com/Shathe/SemiSeg-Contrastive",
        extends=("mean_teacher", "classmix"),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": (0.75, 1.75)},
            "method": {"net": NET, "spare": 7.0, "most": 4096},
            "fit": {**FIT, "batch": 20, "lr": 2e-4},
            "processes": 1,
            "evaluation": "voc",
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 512, "scale": (0.75, 1.75)},
            "method": {"net": NET, "balance": True, "most": 4096, "supervised": "ce"},
            "fit": {**FIT, "batch": 7, "lr": 4e-4},
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "differs": DIFFERS,
        },
        "scenes": {"method": {"ramp": 0.2}},
        "camvid": {"method": {"ramp": 0.1}},
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        power: float = 6.0,
        entropy: float = 0.01,
        contrast: float = 0.1,
        ramp: float = 1 / 75,
        sure: float = 0.95,
        rows: int = 256,
        spare: float = 1.0,
        most: int = 512,
        dim: int = 256,
        zoom: tuple[float, float] = (0.75, 1.75),
        balance: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = make(net, task), task.num_classes
        labelled, unlabelled = (len(getattr(task, name, (0,))) for name in ("labelled", "unlabelled"))
        heads = {"project": self.student.decoder.embedding_channels, "predict": dim}
        for name, width in heads.items():
            layers = nn.Conv2d(width, dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, dim, 1)
            self.student.heads[name] = nn.Sequential(*layers)
        for name in ("choose", "choose_memory"):
            self.student.heads[name] = Selectors(self.classes, dim)
        self.teacher = copy_of(self.student).train()  # keeps this mode; `evaluating` says where it only looks
        self.memory = Queues([rows] * self.classes, dim)
        self.table = ClassTable(self.classes, labelled, unlabelled) if balance else None
        self.per_image = max(1, int(spare * round(rows / labelled)))
        self.power, self.entropy, self.contrast, self.ramp = power, entropy, contrast, ramp
        self.sure, self.most, self.zoom, self.supervised = sure, most, zoom, criterion(supervised)
        self.views = ViewPlan(
            x=Stream("labelled", strong=(FIRST_COLOURS,)),
            u=Stream("unlabelled", weak(scale=(1.0, 1.0), flip=0.0), batch=0.5),
        )

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.teacher):
            return self.teacher(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, confidence**self.power * self.class_weights()[label], view.valid)

    def class_weights(self) -> Tensor:
        """(K,), by how rare a class is among the labels so far; 1 each without such a table."""
        return self.table.weights() if self.table else torch.ones(self.classes, device=self.student.mean.device)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, on = batch.x, batch.u, clock.since(self.ramp) >= 0
        with torch.no_grad():
            t_u = self.teacher(u.weak)
        if self.table:
            self.table.count(x.label, t_u.argmax(1).where(u.valid > 0, VOID))
        m = draw_class_mask(x.label, self.classes) | (torch.rand((), device=x.weak.device) >= 0.2)
        image, label = (paste(m, t, t.roll(-1, 0)) for t in (x.strong[0], x.label))
        seen = [self.view(u, t_u, on, clock) for _ in PATHS]
        target = [pl for _, pl in seen]
        both = target[0].zip_with(lambda a, b: torch.cat([a, b]), target[1])
        z_x, e_x = self.through(self.student, image)
        views = torch.cat([v for v, _ in seen])
        z_u, e_u = self.through(self.student, views)

        l_h = pixel_mean(entropy(z_u), torch.ones_like(both.valid), both.valid, over="valid") / math.log(self.classes)
        ramp = sigmoid_ramp(clock.progress, self.ramp)
        losses = Losses(x=self.supervise(z_x, label), u=(pixel_ce(z_u, both, over="all"), ramp), h=(l_h, self.entropy))
        if clock.since(self.ramp / 2) >= 0:
            self.remember(image, label)
        known = both.label.where(both.valid > 0, VOID)
        for name, e, y, shown in (("x_contrast", e_x, label, image), ("u_contrast", e_u, known, views)):
            pictured(e.shape[-2:], shown, name=name)
            l_c = self.pull(e, y) if on else zero_of(e, *self.student.heads.parameters())
            losses.add(name, l_c, self.contrast)
        losses.see(weak=u.weak)
        for path, (mixed, pl), z in zip(PATHS, seen, z_u.split(len(u))):
            losses.see(path, mixed=mixed, target=pl, student=z)
        return losses

    def view(self, u: Views, t_u: Tensor, mix: bool, clock: Clock) -> tuple[Tensor, PseudoLabels]:
        """A view of unlabelled images, zoomed, mirrored, mixed and recoloured, and its pseudo-labels."""
        theta, upright = draw_zoom(u.weak, self.zoom), draw_upright_mask(u.valid)
        whole = torch.eye(2, 3, device=theta.device).expand_as(theta)
        theta = torch.where(torch.rand((), device=theta.device) < 0.8, theta, whole)
        w, t_m, valid = (warp(t, theta) for t in (u.weak, t_u, u.valid))
        w, t_m, valid = (paste(upright, t, mirror(t)) for t in (w, t_m, valid))
        valid = (valid > 0.99).float()  # no pixel of which a part is padding
        if mix:
            m = draw_class_mask(t_m.argmax(1).where(valid > 0, VOID), self.classes)
            m = m | (torch.rand((), device=m.device) >= 0.75)
            w, t_m, valid = (paste(m, t, t.roll(-1, 0)) for t in (w, t_m, valid))
        return recolour(w, COLOURS), self.pseudo_labels(t_m, replace(u, weak=w, valid=valid), clock)

    @staticmethod
    def through(net: SegNet, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at image size and the decoder's embedding."""
        found = net.decoded(image)
        return found.logits, found.embedding

    def supervise(self, logits: Tensor, label: Tensor) -> Tensor:
        """The cross entropy of (B, K, H, W) logits, weighed by class where there is a table of the classes."""
        if not self.table:
            return self.supervised(logits, label)
        known = label != VOID
        weight = self.class_weights()[label.where(known, 0)]
        return pixel_mean(ce_map(logits, label), weight, known.float(), over="weight")

    def pull(self, e: Tensor, label: Tensor) -> Tensor:
        """L_c of embeddings (B, D, h, w) and labels (B, H, W)."""
        heads = self.student.heads
        index, real = spread(members(shrink(label, e.shape[-2:]).flatten(), self.classes), self.most)
        features = rows(heads["predict"](heads["project"](e)))[index]
        memory, held = self.memory.snapshot(), self.held()
        tell(lambda: {"anchor": apart(features, real, index), "positive": apart(memory, held)})
        return self.distance(features, real, memory, held)

    def held(self) -> Tensor:
        """(C, rows) bool: which places of the memory hold a row."""
        place = torch.arange(self.memory.largest, device=self.memory.count.device)
        return place < self.memory.count[:, None]

    def distance(self, features: Tensor, real: Tensor, memory: Tensor, held: Tensor) -> Tensor:
        """`memory_distance` with the weights of the student's selectors."""
        heads = self.student.heads
        a = shares(heads["choose"](features.detach(), real), real)
        b = shares(heads["choose_memory"](F.normalize(memory, dim=2), held), held)
        return memory_distance(features, real, memory, held, a, b)

    @torch.no_grad()
    def remember(self, image: Tensor, label: Tensor) -> None:
        """Write the best features of labelled images into the memory."""
        net = self.teacher
        z, e = self.through(net, image)
        confidence, says = z.softmax(1).max(1)
        good = shrink(label.where((says == label) & (confidence > self.sure), VOID), e.shape[-2:])
        index, real = spread(members(good.flatten(), self.classes), self.most)
        self.write(rows(net.heads["project"](e))[index], real, len(image))

    @torch.no_grad()
    def write(self, features: Tensor, real: Tensor, images: int) -> None:
        """Put the features (K, Q, D) that the teacher's selectors like best into the memory, `images` times
        `per_image` of each class."""
        score = self.teacher.heads["choose"](features, real)
        offered = (torch.eye(len(real), device=real.device, dtype=torch.bool)[:, :, None] & real).flatten(1)
        self.memory.append(*surest(features.flatten(0, 1), score.flatten(), offered, images * self.per_image))

    def after_step(self, clock: Clock) -> None:
        late = 1 - 0.005 * (math.cos(math.pi * clock.progress) + 1) / 2
        ema(self.teacher, self.student, min(1 - 1 / (10 * clock.step + 1), late), buffers="none")

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}
