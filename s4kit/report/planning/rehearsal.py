"""One training step that computes nothing: what it would allocate, multiply and move.

PyTorch's FakeTensor mode runs the step on tensors that have shapes and no values, `Ledger` adds up what is alive, and
the formulas of PyTorch's flop counter say what each operation costs. The step is the engine's: views, losses in mixed
precision, backward, optimisers with their state, EMA. The device is a fake CPU, so that a real step on a CPU can be
measured by the same functions (`real=True`); a GPU differs by the workspaces of its libraries.
"""

from __future__ import annotations

import copy
import random
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ...data.seeding import mix_seed
from ...data.task import Task
from ...engine import optimise
from ...methods.base import Clock, Losses, Method, Optim, Stage
from ...nets.modes import layout_of
from ...views import Batch, ViewPlan, draw_step, render


@dataclass
class Cost:
    """What a step takes.

    Attributes:
        memory: bytes at the peak. parts: bytes of what is held all through: weights (with EMA copies and banks),
            optimiser, gradients; and of the views of one micro-batch.
        flops, traffic: operations and bytes moved, per kernel. half: whether its inputs have 16 bits.
        launched: whether the kernel is one of many small ones that cost their launch (not so in fused optimisers).
        times: how often each kernel counts: once, unless the cost was concluded from that of other steps.
        timed: whether the step looks at the clock; if not, it is the same at every moment of its stage.
    """

    memory: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    flops: np.ndarray = field(default_factory=lambda: np.zeros(0))
    traffic: np.ndarray = field(default_factory=lambda: np.zeros(0))
    half: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    launched: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    timed: bool = True

    @property
    def work(self) -> float:
        """Operations of the step."""
        return float((self.times * self.flops).sum())


class Watched(Clock):
    """A clock that knows whether anybody has looked at it; which stage it is says nothing of the moment."""

    looked = False

    def __getattribute__(self, name: str) -> Any:
        if name in Clock.__dataclass_fields__ and name != "stage":
            object.__setattr__(self, "looked", True)
        return super().__getattribute__(name)


class Ledger(TorchDispatchMode):
    """Adds up what is alive of all that is allocated inside; also writes down operations and traffic.

    Args:
        held: tensors that are there before. priced: whether operations and traffic are written down.

    Attributes:
        alive, peak: bytes of storages. rows: (flops, bytes moved, 16 bits, launched) of each kernel.
    """

    def __init__(self, held: Iterable[Tensor], priced: bool) -> None:
        super().__init__()
        self.priced, self.rows, self.launched = priced, [], False
        self.alive = self.peak = 0
        self.storages: dict[int, weakref.ref] = {}
        for tensor in held:
            self._hold(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._hold(tensor)
        if self.priced and not _free(func):
            self._price(func, args, kwargs or {}, out)
        return out

    def _hold(self, tensor: Tensor) -> None:
        """Count a storage as long as it lives; views share one."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.storages:
            return
        size = storage.nbytes()

        def release(_: Any) -> None:
            self.alive -= size
            del self.storages[key]

        self.storages[key] = weakref.ref(storage, release)
        self.alive += size
        self.peak = max(self.peak, self.alive)

    def _price(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
        count = flop_registry.get(func._overloadpacket)
        flops = float(count(*args, **kwargs, out_val=out)) if count else 0.0
        half = bool(tensors) and tensors[0].element_size() == 2
        self.rows.append((flops, float(sum(map(_bytes, tensors))), half, self.launched))


def _free(func: Any) -> bool:
    """Views and bare allocations move nothing."""
    returns = func._schema.returns
    views = returns and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    return bool(views) or "empty" in func._schema.name or func._schema.name.startswith("prim")


def _bytes(tensor: Tensor) -> int:
    """What a kernel reads or writes of a tensor; an expanded one is as large as what is behind it."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def stand_in(method: Method) -> Method:
    """A copy whose tensors have shapes and no values, in the memory format of the engine."""
    tensors = {id(t): t for t in (*method.parameters(), *method.buffers())}
    with FakeTensorMode(allow_non_fake_inputs=True):  # what the host draws comes in as real tensors
        fake = {key: _empty_like(t) for key, t in tensors.items()}
    return copy.deepcopy(method, fake)


def _empty_like(tensor: Tensor) -> Tensor:
    fake = torch.empty(tensor.shape, dtype=tensor.dtype, memory_format=layout_of(tensor))
    return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


def rehearse(
    method: Method,
    task: Task,
    batch: int,
    recipe: Optim,
    half: bool = True,
    stage: int = 0,
    progress: float = 0.999,
    share: float = 1.0,
    ledger: bool = True,
    real: bool = False,
) -> Cost:
    """The cost of one training step with the optimisers' state in place.

    Args:
        method: of the kind that `stand_in` makes; with `real` an ordinary one, on the CPU, which is then trained.
        task: its image sizes and lists count, of its images nothing.
        batch: labelled images. recipe: kind of the optimiser.
        half: in 16 bits where the engine's autocast does so.
        stage, progress: where in the training. share: unlabelled images per labelled one, over the method's own.
        ledger: also write down operations and traffic.
    """
    plan = method.stages()[stage]
    views = scaled(plan.views or method.views, share)
    drawn = draw_step(task, views, batch, 0, stage, 0)
    step = int(1000 * progress)
    clock = Watched(step, 1000, 10, stage, progress)
    with nullcontext() if real else fakes_of(method):
        specs = method.optimisers(recipe)
        optimisers = optimise.build(specs, plan.train)
        _prime(optimisers)
        book = Ledger((*method.parameters(), *method.buffers(), *_states(optimisers)), ledger)
        with book:
            rendered = _channels_last(render(drawn, views))
            sizes = _held(method, optimisers, rendered)
            torch.manual_seed(mix_seed("rehearsal", step))
            random.seed(0)
            _step(method, plan, optimisers, specs, rendered, clock, half, book)
        for parameter in method.parameters():
            parameter.grad = None
    flops, traffic, sixteen, launched = np.array(book.rows).reshape(-1, 4).T
    return Cost(book.peak, sizes, flops, traffic, sixteen > 0, launched > 0, np.ones(len(flops)), clock.looked)


def scaled(plan: ViewPlan, share: float) -> ViewPlan:
    """The streams with `share` times as many unlabelled images, as `fit(unlabelled_batch=...)` has them."""
    scaled = {n: replace(s, batch=share * s.batch) for n, s in plan.items() if s.source in ("unlabelled", "all")}
    return ViewPlan(**plan | scaled)


def fakes_of(method: Method) -> Any:
    """The mode that a stand-in was made in: fake tensors of two modes do not mix."""
    return next(method.parameters()).fake_mode


def _channels_last(batch: Batch) -> Batch:
    return batch.map(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t)


def _prime(optimisers: dict[str, torch.optim.Optimizer]) -> None:
    """Give the optimisers the state that they have from the second step on."""
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
            group["lr"] = 0.0
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _states(optimisers: dict[str, torch.optim.Optimizer]) -> list[Tensor]:
    return [t for o in optimisers.values() for s in o.state.values() for t in s.values() if isinstance(t, Tensor)]


def _held(method: Method, optimisers: dict[str, torch.optim.Optimizer], batch: Batch) -> dict[str, int]:
    """Bytes of what is there all through a step, and of the views."""
    states = _states(optimisers)
    weights = {id(t): t for t in (*method.parameters(), *method.buffers())}.values()
    trained = [p for o in optimisers.values() for group in o.param_groups for p in group["params"]]
    of_views: list[Tensor] = []
    batch.map(lambda t: of_views.append(t) or t)
    parts = {"weights": weights, "optimiser": states, "gradients": trained, "views": of_views}
    return {name: sum(t.numel() * t.element_size() for t in tensors) for name, tensors in parts.items()}


def _step(
    method: Method,
    stage: Stage,
    optimisers: dict[str, torch.optim.Optimizer],
    specs: dict[str, Optim],
    batch: Batch,
    clock: Clock,
    half: bool,
    book: Ledger,
) -> None:
    """What the engine does in a step with one micro-batch, in its order."""
    method.train()

    def update(losses: Callable[..., Losses], only: str | None = None) -> None:
        book.launched = True
        for optimiser in optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
            found = losses(batch, clock)
            total = found.total
        total.backward()  # meanwhile `found` holds what it has seen
        del found, total
        book.launched = False
        for name, optimiser in optimisers.items():
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            if only not in (None, name) or all(p.grad is None for p in parameters):
                continue
            if specs[name].clip:
                torch.nn.utils.clip_grad_norm_(parameters, specs[name].clip)
            optimiser.step()

    if stage.losses:
        update(stage.losses)
        method.after_step(clock)
    else:
        method.step(update, clock)
