"""What a method is: its views, its rule for pseudo-labels, its losses. Nothing here knows of loops, files or devices.

A student meets four names: `views`, `pseudo_labels`, `losses`, `after_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data.task import Evaluation
from ..errors import S4Error
from ..nets import set_training
from ..views import Batch, Stream, ViewPlan, Views
from .clock import Clock
from .lengths import Length
from .parts.schedules import poly
from .recipes import recipe_for


@dataclass(frozen=True)
class Card:
    """Who published a method, and how the kit's version was checked.

    Attributes:
        family: the sub-folder ("baselines", "consistency", "cotraining", "contrastive", "selftraining").
        title, venue, year, authors: of the paper.
        arxiv: identifier ("2208.09910") or "".
        code: address of the official code, or "".
        extends: names of the methods it builds on.
        parity: "golden" (recordings of the official code), "reference" (an independent slow version) or
            "reconstruction" (the sources leave parts open).
        note: what every table must say of it, such as that it looks at the validation set while it trains; or "".
    """

    family: str
    title: str
    venue: str
    year: int
    authors: str = ""
    arxiv: str = ""
    code: str = ""
    extends: tuple[str, ...] = ()
    parity: str = "reference"
    note: str = ""


@dataclass
class PseudoLabels:
    """What a method believes of unlabelled pixels, and how much of it is trained on.

    Attributes:
        label: (B, H, W) long class index, never 255.
        confidence: (B, H, W) float in [0, 1].
        weight: (B, H, W) float; 0 = rejected by the method's rule.
        valid: (B, H, W) float in [0, 1]; 0 on padding.
        soft: (B, C, H, W) class probabilities where the method trains on them.
        ids: (B, H, W) long, which object a pixel is believed to show, see `data.objects`; 0 = none.
    """

    label: Tensor
    confidence: Tensor
    weight: Tensor
    valid: Tensor
    soft: Tensor | None = None
    ids: Tensor | None = None

    def map(self, fn: Callable[[Tensor], Tensor]) -> PseudoLabels:
        """A copy with `fn` applied to every map (roll, warp, flip): all fields move together."""
        return PseudoLabels(*(None if t is None else fn(t) for t in (getattr(self, f.name) for f in fields(self))))

    def zip_with(self, fn: Callable[[Tensor, Tensor], Tensor], other: PseudoLabels) -> PseudoLabels:
        """Combine with another one, field by field (used by `views.paste`)."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return PseudoLabels(*(None if a is None else fn(a, b) for a, b in pairs))

    def __getitem__(self, rows: Any) -> PseudoLabels:
        return self.map(lambda t: t[rows])

    def detach(self) -> PseudoLabels:
        """All fields without a gradient."""
        return self.map(Tensor.detach)


class Losses(dict):
    """Named scalar terms with weights: `Losses(x=l_x, u=(l_u, 0.5))`.

    Values are (term, weight) pairs. `see` hands out, detached, what was really trained on, for the explorer and the
    tests.
    """

    def __init__(self, **terms: Tensor | tuple[Tensor, float]) -> None:
        super().__init__()
        self.seen: dict[str, Any] = {}
        for name, term in terms.items():
            self.add(name, *(term if isinstance(term, tuple) else (term,)))

    def add(self, name: str, value: Tensor, weight: float = 1.0) -> Losses:
        """One more term, or the term of that name anew; the losses themselves, so that calls can follow each other."""
        self[name] = (value, weight)
        return self

    @property
    def total(self) -> Tensor:
        """The scalar to differentiate: sum of weight x term."""
        return sum(weight * value for value, weight in self.values())

    def see(self, path: str = "", /, **seen: Tensor | PseudoLabels) -> Losses:
        """Hand out, detached, what an unlabelled term was trained on; returns self.

        `see(weak=..., mixed=...).see("1 teaches 2", target=y1, student=s2)`: a method with several unlabelled terms
        names the paths, best like its pseudo-labels; a path that has no image of its own has that of the nameless one.

        Args:
            path: of the image through the step; in `seen` its fields stand under "<path>/<field>".
            seen: weak (B, 3, H, W), the view that was labelled; mixed (B, 3, H, W), what the student saw; target, the
                PseudoLabels; and student (B, C, H, W), its logits on `mixed`, or, where the term is no cross entropy,
                loss (B, H, W), what each pixel adds to it before the divisor, 0 where nothing is trained on.
        """
        self.seen.update({f"{path}/{name}" if path else name: value.detach() for name, value in seen.items()})
        return self


@dataclass
class Optim:
    """One optimiser: which networks, and how.

    Attributes:
        nets: modules whose parameters with `requires_grad` it steps.
        lr: learning rate of the pretrained backbone.
        head: multiplier of the learning rate for everything else.
        kind: "sgd" (momentum 0.9) or "adamw" or "adam".
        nesterov: of "sgd": the gradient is that of where the momentum leads.
        weight_decay: not applied to biases and norms when `decay_norms` is False.
        clip: largest gradient norm, or None.
        betas: decays of the two moments of "adam" and "adamw".
        schedule: clock -> factor of the learning rate.
    """

    nets: list[nn.Module]
    lr: float
    head: float = 10.0
    kind: str = "sgd"
    weight_decay: float = 1e-4
    decay_norms: bool = True
    clip: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    nesterov: bool = False
    schedule: Callable[[Clock], float] = field(default_factory=lambda: poly(0.9))


@dataclass
class Stage:
    """A part of the training with its own length and, where it differs, its own losses, views and networks.

    Attributes:
        length: its share of what no stage counts in passes; or such a count, "5 labelled epochs", see `lengths`.
        losses, views: None = the method's own.
        train: networks to train; empty = all.
        schedule: clock -> factor of the learning rate; None = that of the run, over this stage alone.
        prepare: what happens before it, over whole images, see `engine.sweep.Sweep`: the networks as the stage before
            has left them label images, choose among them, set buffers. A checkpoint is written behind it; a training
            that is killed inside does it again.
        restart: networks that then begin anew, with the weights that they had before the training.
        fresh: False = the optimisers go on with the state that the stage before has left.
    """

    name: str
    length: Length = 1.0
    losses: Callable[[Batch, Clock], Losses] | None = None
    views: ViewPlan | None = None
    train: tuple[nn.Module, ...] = ()
    schedule: Callable[[Clock], float] | None = None
    prepare: Callable[[Any], None] | None = None
    restart: tuple[nn.Module, ...] = ()
    fresh: bool = True


Update = Callable[..., None]


class Method(nn.Module):
    """Base of all methods: owns networks, state (buffers: they checkpoint and move device for free) and losses.

    Its docstring has a method's idea, its equations and its arguments; what is to be said of the authors' code, or of
    what a reconstruction was made of, is in the file's docstring, behind the first line, see `methods.release`. Unless
    something else is said, images are (B, 3, H, W) in [0, 1], logits (B, C, H, W), labels (B, H, W) long with 255 =
    void, features (B, D, h, w), and terms of a loss scalars.
    """

    card: Card
    views: ViewPlan = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled"))
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}  # set-ups by data set and list, see `recipes.py`
    specs: ClassVar[tuple[str, ...]] = ("net",)  # names of the options that are network specs
    scored_by: ClassVar[type] = Evaluation  # the type of `Task.evaluation` that asks for what its predictors say
    kind: ClassVar[tuple[str, ...]] = ()  # arguments of `load` in its recipes that make the data what it is for
    syncs: ClassVar[bool] = False  # its step reads the device, since sizes depend on values (boxes, groups)

    @classmethod
    def of(cls, task: Any) -> type[Method]:
        """The class that `create` builds for a task: this one, or its version for items of another kind."""
        return cls

    @classmethod
    def kind_of(cls, arguments: Mapping[str, Any]) -> type[Method]:
        """As `of`, before any data are loaded: the class whose recipes stand where `load` gets these arguments."""
        return cls

    @classmethod
    def recipe(cls, dataset: str, split: str | None = None) -> dict[str, Any]:
        """The paper's set-up for a data set, and for a published list of labelled images, see `recipe_for`."""
        return recipe_for(cls, dataset, split)

    @property
    def network(self) -> str:
        """Spec of its network, the one that `create` was given or else its own; "" of a function, or where there is
        none."""
        own = getattr(signature(type(self)).parameters.get("net"), "default", "")
        spec = getattr(self, "options", {}).get("net", own)
        return spec if isinstance(spec, str) else ""

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        """The paper's equations in the paper's order; may write buffers, never parameters; no backward in here.

        What the explorer is to see of it is handed out by `Losses.see` and, of a contrast between features, by
        `parts.roles`.
        """
        raise TypeError(f"{type(self).__name__} defines no `losses`.")

    def teach(self, view: Views) -> Any:
        """The evidence that the rule eats (logits, or a tuple of them): eval mode, no gradient."""
        return None

    def pseudo_labels(self, evidence: Any, view: Views, clock: Clock) -> PseudoLabels | dict[str, PseudoLabels] | None:
        """The one rule, used by loss, explorer and metrics; reads state, writes nothing. None: there is no rule."""
        return None

    def probabilities(self, evidence: Any) -> Tensor | dict[str, Tensor]:
        """(B, C, H, W) class probabilities that the evidence stands for; by name where pseudo-labels have names.

        Raises:
            S4Error: the evidence is no tensor, and the method does not say what it stands for.
        """
        if not isinstance(evidence, Tensor):
            raise S4Error(
                f"`teach` of {type(self).__name__} gives a {type(evidence).__name__}: say with a method "
                "`probabilities(self, evidence)` which class probabilities it stands for."
            )
        return evidence.softmax(1)

    def sampling(self, task: Any) -> dict[str, Tensor]:
        """How often each image of a list stands in it, by source: {"labelled": (n,) long}; 0 leaves it out.

        "all" is the list of both, as `task.rows("all")` has it. Asked for as a stage begins, behind its `prepare`. Must
        follow from the method's state alone, so that a run resumes with the same lists.
        """
        return {}

    def after_step(self, clock: Clock) -> None:
        """Once per optimiser step, after it: EMA and the like."""

    def predictors(self) -> dict[str, nn.Module]:
        """Networks that can be evaluated, of images image -> logits, else what the tally of `scored_by` calls; the
        first is the paper's headline. `finish(image, scores)` of one gives the final scores of whole images, of those
        of all scales, windows and mirror images."""
        return {"student": self.student}

    def step(self, update: Update, clock: Clock) -> None:
        """One training step; overridden only where the order of optimiser steps is the method."""
        update(self.losses)
        self.after_step(clock)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        """Optimisers by name; `recipe` carries learning rate, kind and the rest as chosen for the run."""
        nets = [net for net in self.children() if any(p.requires_grad for p in net.parameters())]
        return {"main": replace(recipe, nets=nets)}

    def stages(self) -> list[Stage]:
        """The stages of the training; static, all modules exist from `__init__`."""
        return [Stage("train")]

    def revealed(self) -> tuple[str, ...]:
        """What its streams reveal of the masks of unlabelled images: "boxes", "tags", or nothing."""
        plans = (stage.views or self.views for stage in self.stages())
        return tuple(sorted({s.reveal for plan in plans for s in plan.values() if s.reveal}))

    def train(self, mode: bool = True) -> Method:
        """Set the training mode of all networks but those that keep their own (EMA teachers, frozen batch norms)."""
        set_training(self, mode)
        return self


def zero_of(*tensors: Tensor) -> Tensor:
    """A zero that still reaches the tensors' parameters: what a term that selects nothing returns."""
    return sum((t.sum() * 0.0 for t in tensors), torch.zeros((), device=tensors[0].device))
