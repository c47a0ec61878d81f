"""Methods that a notebook defines: registered, trained, reopened, resumed and compared like the kit's own."""

from __future__ import annotations

import os
import signal
from dataclasses import field, make_dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy import toy_task

import s4kit as s4
from s4kit.engine import checkpoint
from s4kit.errors import S4Error
from s4kit.methods import Clock, Losses, Method, PseudoLabels, own
from s4kit.methods.consistency.fixmatch import FixMatch
from s4kit.methods.own import OWN
from s4kit.methods.parts.losses import ce, pixel_ce
from s4kit.nets import evaluating, make
from s4kit.report.comparing.compare import compare, difference
from s4kit.report.setup import Setup
from s4kit.views import Batch, Views

SMALL = {"steps": 4, "batch": 2, "evaluate_every": 2, "checkpoint_every": 2, "probes": 2, "progress": False}


class Mine(Method):
    """Trust by confidence."""

    def __init__(self, task, net: str = "tiny", power: float = 2.0) -> None:
        super().__init__()
        self.student, self.power = make(net, task), power

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, confidence**self.power, view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        target = self.pseudo_labels(self.teach(u), u, clock)
        l_u = pixel_ce(self.student(u.weak), target, over="valid")
        return Losses(x=ce(self.student(x.weak), x.label), u=l_u).see(mixed=u.weak, target=target)


@pytest.fixture(autouse=True)
def clean():
    """Each test registers for itself."""
    before = dict(OWN)
    yield
    OWN.clear()
    OWN.update(before)


def test_a_registered_class_is_found_by_name_with_its_options_and_a_card():
    assert s4.methods.register("mine")(Mine) is Mine
    method = s4.methods.create("mine", toy_task(), power=3.0)
    assert isinstance(method, Mine) and method.power == 3.0 and method.name == "mine"
    assert "mine" in s4.methods.names() and s4.methods.table()[-1]["title"] == "Trust by confidence."
    assert s4.methods.recipe("mine", "scenes")["fit"]["steps"] > 0
    with pytest.raises(S4Error, match=r"powr.*power"):
        s4.methods.create("mine", toy_task(), powr=3.0)


def test_a_variant_of_a_kit_method_does_not_pass_for_the_paper():
    @s4.methods.register("variant")
    class Variant(FixMatch):
        """FixMatch with a twist."""

    assert s4.methods.get("variant").card.title == "FixMatch with a twist."
    assert FixMatch.card.title.startswith("FixMatch: Simplifying")


@pytest.mark.parametrize(
    ("name", "what", "words"),
    [("fixmatch", Mine, "has a method"), ("my method", Mine, "cannot name"), ("mine", Tensor, "cannot be registered")],
)
def test_what_cannot_be_registered(name, what, words):
    with pytest.raises(S4Error, match=words):
        s4.methods.register(name)(what)


def test_stop_resume_and_reopen(tmp_path, monkeypatch):
    s4.methods.register("mine")(Mine)
    task = toy_task()

    def fit(out: Path, resume: bool = False):
        torch.manual_seed(0)
        return s4.fit(s4.methods.create("mine", task), task, out=out, resume=resume, **SMALL)

    whole = fit(tmp_path / "whole")
    with monkeypatch.context() as ctrl_c:
        ctrl_c.setattr(Mine, "after_step", lambda self, clock: clock.step == 1 and os.kill(os.getpid(), signal.SIGINT))
        assert fit(tmp_path / "cut").interrupted
    assert not fit(tmp_path / "cut", resume=True).interrupted
    weights, again = (checkpoint.load(tmp_path / run / "last.pt")["method"] for run in ("whole", "cut"))
    assert all(torch.equal(weights[key], again[key]) for key in weights)

    method, _ = s4.open_run(whole.path).load(task=task)
    assert isinstance(method, Mine)
    assert all(torch.equal(value, weights[key]) for key, value in method.state_dict().items())
    OWN.clear()
    with pytest.raises(S4Error, match=r"no method 'mine'.*register"):
        s4.open_run(whole.path).load(task=task)


def test_a_changed_class_is_not_taken_for_the_one_that_was_trained(tmp_path):
    s4.methods.register("mine")(Mine)
    task = toy_task()
    run = s4.fit(s4.methods.create("mine", task), task, out=tmp_path / "run", **SMALL)
    fit = {k: v for k, v in run.config["fit"].items() if k != "seed"}
    chosen = Setup("mine", run.config["task"], {}, fit)
    assert difference(chosen, 0, run.path, task) == ""

    @s4.methods.register("mine")
    class Changed(Mine):
        def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
            confidence, label = logits.softmax(1).max(1)
            return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    assert "class has changed" in difference(chosen, 0, run.path, task)
    s4.methods.register("mine")(Mine)
    assert difference(chosen, 0, run.path, task) == ""


def test_fingerprints_see_views_and_functions_but_not_the_kit(monkeypatch):
    assert s4.methods.fingerprint("fixmatch") == ""
    s4.methods.register("mine")(Mine)
    before = s4.methods.fingerprint("mine")
    assert len(before) == 12 and s4.methods.fingerprint("mine") == before
    monkeypatch.setattr(Mine, "views", FixMatch.views)
    assert s4.methods.fingerprint("mine") != before


def test_a_field_that_the_kit_adds_does_not_change_what_a_class_was():
    young = make_dataclass(
        "Stream", [("source", str), ("strong", tuple, ()), ("younger", list, field(default_factory=list))]
    )
    old = make_dataclass("Stream", [("source", str), ("strong", tuple, ())])
    said = [own._plain({"x": of("labelled", (1,))}) for of in (old, young)]
    assert said[0] == said[1] == "{'x': Stream(source='labelled', strong=[1])}"
    assert own._plain(young("labelled", younger=[3])) != own._plain(young("labelled"))


def test_compare_takes_it_in_one_process_and_says_why_not_in_several(tmp_path):
    s4.methods.register("mine")(Mine)
    task = {"labelled": 4, "n_train": 12, "n_val": 2, "side": 40, "crop": 32}
    fit = {"steps": 2, "batch": 2, "evaluate_every": 2, "probes": 0, "device": "cpu"}
    found = compare(["mine"], "scenes", tmp_path, task=task, options={"net": "tiny"}, fit=fit, baselines=False)
    assert [row["method"] for row in found["methods"]] == ["mine"] and found["runs"][0]["last"] is not None
    with pytest.raises(S4Error, match="jobs=1"):
        compare(["mine"], "scenes", tmp_path, jobs=2)
