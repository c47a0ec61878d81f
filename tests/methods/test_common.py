"""What every registered method must hold."""

from __future__ import annotations

import random
import re
import sys

import pytest
import torch
from toy import by_kind

from s4kit import methods
from s4kit.data.objects import MaskEvaluation
from s4kit.engine.device import autocast
from s4kit.methods import Card, Clock, Losses, Method, PseudoLabels
from s4kit.methods.lengths import share_out
from s4kit.report.planning.rehearsal import Watched
from s4kit.report.verify import fake
from s4kit.views import draw_step, render

EVERY = pytest.mark.parametrize("name", methods.names())
BY_KIND = pytest.mark.parametrize("name", by_kind(methods.names()))  # what takes long
OBJECTS = [name for name in methods.names() if methods.get(name).scored_by is MaskEvaluation]  # they read no label
PLACES = pytest.mark.parametrize("name", [name for name in methods.names() if name not in OBJECTS])
NEVER_WAITS = pytest.mark.parametrize("name", by_kind([n for n in methods.names() if not methods.get(n).syncs]))
MIDDLE = Clock(50, 100)


def supervised(losses: Losses) -> torch.Tensor:
    """The sum of the supervised terms: by convention their names start with x."""
    return sum((value for name, (value, _) in losses.items() if name.startswith("x")), torch.zeros(()))


def step(method, batch, clock=MIDDLE) -> Losses:
    torch.manual_seed(0)
    random.seed(0)
    losses = method.train().losses(batch, clock)
    losses.total.backward()
    return losses


def trained(method, stage: int = -1) -> list[torch.nn.Parameter]:
    """What a stage trains; the last one runs the method's own `losses`."""
    nets = method.stages()[stage].train or (method,)
    return [p for net in nets for p in net.parameters() if p.requires_grad]


def whole_masks(method, monkeypatch) -> None:
    """Mixing masks that a prediction decides keep all of the image's own pixels, and nothing is bent."""
    modules = {sys.modules[c.__module__] for c in type(method).__mro__ if issubclass(c, Method)}
    for module, name in ((m, name) for m in modules for name in list(vars(m))):
        if name.startswith("draw_") and name.endswith("_mask"):
            monkeypatch.setattr(module, name, lambda label, *_: torch.ones_like(label, dtype=torch.bool))
        if name in ("draw_zoom", "draw_affine"):
            monkeypatch.setattr(module, name, lambda image, *_: torch.eye(2, 3).expand(len(image), -1, -1))
        if name == "draw_bend":
            monkeypatch.setattr(module, name, lambda image, _: torch.zeros(len(image), 4, 2))
        if name == "draw_noise":
            monkeypatch.setattr(module, name, lambda image: torch.zeros_like(method.fixed))
            method.fixed.zero_()


def assert_finite(method, losses: Losses) -> None:
    assert all(value.isfinite() and value.dim() == 0 for value, _ in losses.values())
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@EVERY
@pytest.mark.parametrize(
    "clock",
    [
        pytest.param(Clock(0, 100), id="first", marks=pytest.mark.slow),
        pytest.param(MIDDLE, id="middle"),
        pytest.param(Clock(99, 100), id="last", marks=pytest.mark.slow),
    ],
)
def test_a_step_is_finite_and_its_gradients_reach_all_that_is_trained(name, clock, build, draw):
    method = build(name)
    before = {k: v.clone() for k, v in method.named_parameters()}
    losses = step(method, draw(method), clock)
    assert_finite(method, losses)
    learning = trained(method)
    assert learning and all(p.grad is not None for p in learning)
    assert sum(p.grad.abs().sum() for p in learning) > 0
    assert all(p.grad is None for p in method.parameters() if not p.requires_grad)
    assert all(torch.equal(p, before[k]) for k, p in method.named_parameters()), "losses must not write parameters"


@EVERY
def test_every_stage_trains_its_networks(name, build, draw):
    count = len(build(name).stages())
    for index in range(count - 1):
        method = build(name)
        stage = method.stages()[index]
        batch = draw(method, plan=stage.views)
        losses = (stage.losses or method.losses)(batch, Clock(50, 100, stage=index))
        losses.total.backward()
        assert_finite(method, losses)
        assert trained(method, index) and all(p.grad is not None for p in trained(method, index))
    parts = share_out([stage.length for stage in build(name).stages()], 600, {"labelled": 4, "unlabelled": 25})
    assert min(parts) > 1 and sum(parts) == 600


@EVERY
def test_the_rule_makes_pseudo_labels_without_gradient_and_without_void(name, build, draw, task_of):
    method = build(name).train()
    modes = [m.training for m in method.modules()]
    view = draw(method)["u" if "u" in method.views else "x"]
    evidence = method.teach(view)
    found = method.pseudo_labels(evidence, view, MIDDLE)
    assert [m.training for m in method.modules()] == modes, "`teach` must restore the modes"
    for pl in found.values() if isinstance(found, dict) else [found]:
        assert pl.label.dtype == torch.long and pl.label.min() >= 0 and pl.label.max() < task_of(name).num_classes
        assert pl.label.shape == pl.confidence.shape == pl.weight.shape == pl.valid.shape
        assert pl.confidence.min() >= 0 and pl.confidence.max() <= 1 and pl.weight.min() >= 0
        assert not any(t.requires_grad for t in (pl.confidence, pl.weight, pl.valid))


@EVERY
def test_probabilities_go_with_the_pseudo_labels(name, build, draw, task_of):
    method = build(name)
    view = draw(method)["u" if "u" in method.views else "x"]
    evidence = method.teach(view)
    found, p = method.pseudo_labels(evidence, view, MIDDLE), method.probabilities(evidence)
    if not isinstance(found, dict):
        found, p = {"pseudo": found}, {"pseudo": p}
    assert found.keys() == p.keys()
    for key, labels in found.items():
        assert p[key].shape == (len(view), task_of(name).num_classes, *labels.label.shape[1:])
        assert torch.allclose(p[key].sum(1), torch.ones_like(labels.confidence), atol=1e-5) and p[key].min() >= 0


@EVERY
def test_the_way_of_an_image_through_the_step_is_handed_out(name, build, draw):
    """What the explorer shows as trained: views, pseudo-labels, and a loss map or what it takes to make one."""
    method = build(name)
    batch = draw(method)
    seen = method.train().losses(batch, MIDDLE).seen
    paths = {key.rpartition("/")[0] for key in seen if key.rpartition("/")[2] in ("student", "loss")}
    assert paths or "u" not in method.views
    for path in paths:
        of = {field: seen.get(f"{path}/{field}" if path else field) for field in ("target", "student", "loss")}
        of |= {field: seen.get(f"{path}/{field}", seen.get(field)) for field in ("weak", "mixed")}
        assert of["weak"].shape == of["mixed"].shape and of["weak"].shape[1] == batch.x.weak.shape[1]
        assert of["target"] is None or len(of["target"].label) == len(of["mixed"])
        assert of["loss"] is not None or of["student"].shape[2:] == of["target"].label.shape[1:]
        assert not any(t.requires_grad for t in of.values() if isinstance(t, torch.Tensor))


@EVERY
def test_the_loss_uses_the_rule(name, build, draw, monkeypatch):
    """With all networks in eval mode and nothing mixed in the training target is the rule on `teach`."""
    method = build(name)
    whole_masks(method, monkeypatch)
    for module in method.modules():
        module.training = False
    method.requires_grad_(False)
    batch = draw(method)
    batch.get("u", batch.x).masks = [torch.zeros_like(m) for m in batch.get("u", batch.x).masks]
    losses = method.losses(batch, MIDDLE)
    targets = [t for t in losses.seen.values() if isinstance(t, PseudoLabels)]
    if not targets:
        assert "u" not in method.views or name in ("entropy_min", "cac")  # cac: labels only choose negatives
        return
    rule = method.pseudo_labels(method.teach(batch.u), batch.u, MIDDLE)
    rules = list(rule.values()) if isinstance(rule, dict) else [rule]
    for target in targets:
        assert any(
            torch.equal(target.label, pl.label) and torch.allclose(target.weight, pl.weight, atol=1e-6) for pl in rules
        )


@BY_KIND
def test_the_supervised_term_falls(name, build, draw):
    method = build(name)
    batch = draw(method, batch=4)
    optimiser = torch.optim.AdamW(trained(method), lr=2e-2)
    history = []
    for i in range(20):
        optimiser.zero_grad()
        losses = step(method, batch, Clock(i, 20))
        optimiser.step()
        method.after_step(Clock(i, 20))
        if any(name.startswith("x") for name in losses):  # some methods have steps without labels
            history.append(supervised(losses).item())
        if len(history) > 3 and max(history[-3:]) < 0.8 * history[0]:
            return
    raise AssertionError(f"it does not fall: {history}")


@PLACES
def test_void_labels_give_zero(name, build, draw):
    method = build(name)
    batch = draw(method)
    for view in batch.values():
        view.label.fill_(255)
    losses = step(method, batch)
    assert supervised(losses) == 0
    assert_finite(method, losses)


@EVERY
def test_padding_everywhere_is_finite(name, build, draw):
    method = build(name)
    batch = draw(method)
    for view in batch.values():
        view.valid.zero_()
        view.label.fill_(255)
    assert_finite(method, step(method, batch))


@EVERY
def test_one_class(name, build, draw):
    method = build(name)
    batch = draw(method)
    batch.x.label.fill_(2)
    assert_finite(method, step(method, batch))


@BY_KIND
@pytest.mark.parametrize(("batch", "crop"), [(1, 32), (2, 33)], ids=["one image", "odd crop"])
def test_small_and_odd_batches(name, batch, crop, build, draw):
    method = build(name)
    assert_finite(method, step(method, draw(method, batch=batch, crop=crop)))


@BY_KIND
def test_hidden_labels_do_not_matter(name, build, draw):
    method, other = build(name), build(name)
    batch = draw(method)
    reference = step(method, batch).total
    for key, view in batch.items():
        if method.views[key].source != "labelled":
            hidden = ~view.labelled.view(-1, *(1,) * (view.label.dim() - 1))
            view.label = torch.where(hidden, torch.randint_like(view.label, 0, 4), view.label)
        if method.views[key].source == "unlabelled":
            view.labelled = torch.ones_like(view.labelled)
    assert torch.equal(step(other, batch).total, reference)


@BY_KIND
def test_the_state_dict_is_the_whole_state(name, build, draw):
    method = build(name)
    batch = draw(method)
    optimiser = torch.optim.SGD(trained(method), lr=0.1)
    step(method, batch)
    optimiser.step()
    method.after_step(Clock(0, 100))
    state = {k: v.clone() for k, v in method.state_dict().items()}
    other = build(name)
    with torch.no_grad():
        for p in other.parameters():
            p.fill_(0.5)
    other.load_state_dict(state)
    again = draw(method, micro=1)
    assert torch.equal(step(other, again).total, step(method, again).total)


@NEVER_WAITS
def test_a_step_stays_on_the_device_and_never_asks_it(name, build, task_of):
    """At the start and in the middle of each stage, where the step looks at the clock."""
    task = task_of(name)
    for index, stage in enumerate(build(name).stages()):
        plan = stage.views or build(name).views
        drawn = draw_step(task, plan, 2, 0, 0, 0)
        fake.rendered(drawn, plan)
        batch = render(drawn, plan)
        for clock in (Watched(step, 100, stage=index) for step in (0, 50)):
            method = build(name)
            with fake.no_values():
                stage = fake.move(method).stages()[index]
                losses = fake.step(method, batch.map(fake.on_device), clock, stage.losses)
                assert all(value.device == fake.DEVICE for value, _ in losses.values())
                assert all(p.grad.device == fake.DEVICE for p in method.parameters() if p.grad is not None)
            if not clock.looked:
                break


@NEVER_WAITS
def test_the_types_that_cuda_chooses_in_half_precision_fit(name, build, task_of):
    """The forward of every stage under the rules of a GPU's autocast, which are not those of a CPU's."""
    task = task_of(name)
    for index in range(len(build(name).stages())):
        method = build(name)
        plan = method.stages()[index].views or method.views
        batch = render(draw_step(task, plan, 2, 0, 0, 0), plan)
        with fake.cuda_autocast(torch.float16):
            stage = fake.move(method, fake.CUDA).train().stages()[index]
            try:
                losses = (stage.losses or method.losses)(
                    batch.map(lambda t: fake.on_device(t, fake.CUDA)), Clock(50, 100, stage=index)
                )
            except RuntimeError as error:
                if "hasPrimaryContext" not in str(error):
                    raise
                pytest.skip("takes a gradient inside its losses, for which PyTorch asks the driver")
            assert all(value.dtype == torch.float32 for value, _ in losses.values())


def test_the_fake_device_sees_mistakes():
    with fake.no_values():
        t = fake.on_device(torch.ones(3, 3))
        for mistake in (lambda: t.sum().item(), lambda: t[t > 0], lambda: t + torch.ones(3), lambda: bool(t.any())):
            with pytest.raises(Exception):  # noqa: B017 (each mistake has an exception of its own)
                mistake()


@EVERY
def test_the_card_is_filled_in(name):
    card = methods.get(name).card
    assert isinstance(card, Card) and card.title and card.venue and 1990 < card.year < 2100 and card.authors
    assert card.parity in ("golden", "reference", "reconstruction")
    assert all(predecessor in methods.names() for predecessor in card.extends)
    assert methods.get(name).__doc__


@EVERY
def test_the_docstring_is_of_the_method_and_the_file_says_what_there_is_of_its_release(name):
    said, release = methods.get(name).__doc__, methods.release(name)
    assert not re.search(r"^ *(From the release|(Not a|A)s released|Deviations?|Simplified|Chosen here)\b", said, re.M)
    assert not hasattr(methods.get(name), "release") and methods.idea(name) not in release
    assert all(paragraph == paragraph.strip() != "" for paragraph in release.split("\n\n")) or not release


@PLACES
def test_predictors_map_items_to_logits(name, build, task_of):
    method, task = build(name).eval(), task_of(name)
    item, places = (torch.rand(1, 3, 33, 40), (33, 40)) if task.crop else (torch.rand(1, 50, 6), (50,))
    for predictor in method.predictors().values():
        with torch.no_grad():
            assert predictor(item).shape == (1, task.num_classes, *places)


@BY_KIND
def test_mixed_precision_reaches_every_weight(name, build, draw):
    """Also the weights that a teaching forward used first, without gradient."""
    method = build(name)
    with autocast(torch.device("cpu"), "bf16"):
        total = method.train().losses(draw(method), MIDDLE).total
    total.backward()
    assert total.isfinite() and all(p.grad is not None for p in trained(method))
