"""As trained: the recorded way of images through a step is that of the training, and leaves no trace in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import tiny, toy_task

import s4kit as s4
from s4kit.engine import trace
from s4kit.errors import S4Error
from s4kit.methods import Clock, Losses, PseudoLabels
from s4kit.methods.parts.losses import ce_map

SMALL = dict(batch=2, lr=1e-2, evaluate_every=2, checkpoint_every=2, progress=False, device="cpu")


@pytest.fixture(scope="module")
def task():
    return toy_task()


def build(name, task, **options):
    torch.manual_seed(0)
    return s4.methods.create(name, task, **tiny(name, task) | options)


def test_the_path_is_that_of_a_training_step(task, tmp_path):
    """The loss map, put through the term's mean, is the term that training at this moment gives."""
    method = build("unimatch", task, tau=0.4)
    run = s4.fit(method, task, steps=4, out=tmp_path / "r", probes=3, **SMALL)
    read = run.snapshots()
    assert read.path_steps == {name: [1, 3] for name in ("pseudo", "second view", "dropped features")}
    tracer = trace.Tracer(task, s4.engine.Settings(steps=4, batch=2), torch.device("cpu"), "float32")
    out = tracer(method, method.stages()[0], method.views, Clock(3, 4))
    for path, term in (("pseudo", "s1"), ("second view", "s2"), ("dropped features", "fp")):
        found = [read.path(3, path, k) for k in range(read.examples(path))]
        assert len(found) == 2
        assert np.mean([f["loss"] for f in found]) == pytest.approx(float(out[term][0].detach()), rel=2e-3, abs=1e-5)
        assert all((f["loss"][f["weight"] == 0] == 0).all() for f in found)
    target = out.seen["second view/target"]
    ids = [task.train.ids[row] for row in tracer.batches[0].u.index]
    assert read.path_ids == dict.fromkeys(("pseudo", "second view", "dropped features"), ids) and len(set(ids)) == 2
    shown = task.train.read(task.train.ids.index(ids[1])).image
    seen = {tuple(pixel) for pixel in read.path(3, "second view", 1)["weak"].reshape(-1, 3).tolist()}
    assert len(seen & {tuple(pixel) for pixel in shown.permute(1, 2, 0).reshape(-1, 3).tolist()}) > 0
    found = read.path(3, "second view", 1)
    assert np.array_equal(found["label"], target.label[1]) and np.array_equal(found["weight"] > 0, target.weight[1] > 0)
    assert np.abs(found["mixed"] / 255 - out.seen["second view/mixed"][1].permute(1, 2, 0).numpy()).max() < 0.51 / 255


def test_undone_restores_buffers_and_random_state():
    net = torch.nn.BatchNorm2d(3)
    net.train()(torch.rand(2, 3, 4, 4))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with trace.undone(net):
        net(torch.rand(2, 3, 4, 4))
        torch.manual_seed(77)
        assert not torch.equal(net.running_mean, before["running_mean"])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.rand(3), expected)


def test_examples_of_named_paths_and_of_terms_without_labels():
    logits, image = torch.randn(6, 5, 8, 8), torch.rand(6, 3, 8, 8)
    confidence, label = logits.softmax(1).max(1)
    target = PseudoLabels((label + 1) % 5, confidence, (confidence > 0.4).float(), torch.ones(6, 8, 8))
    target.valid[:, :2] = 0
    out = Losses().see(weak=image, mixed=image).see("a", target=target, student=logits).see("b", loss=target.confidence)
    found = trace.examples(out.see(other=image).seen, side=256)
    assert found.keys() == {"a", "b"} and len(found["a"]) == trace.EXAMPLES
    ce = ce_map(logits, target.label)[-4:] * target.weight[-4:] * target.valid[-4:]
    assert np.allclose([e["loss"] for e in found["a"]], ce, rtol=1e-3)
    assert all((e["weight"][:2] == 0).all() for e in found["a"]), "padding is not trained on"
    assert "label" not in found["b"][0] and np.allclose(found["b"][3]["loss"], target.confidence[5], rtol=1e-3)
    assert trace.examples(Losses().see(mixed=image).seen, 256) == {}


def test_the_fixed_batch_has_at_most_four_images_of_each_stream(task):
    method = build("fixmatch", task)
    views = type(method.views)(**{n: replace(s, batch=2.0 if n != "x" else 1.0) for n, s in method.views.items()})
    seen = {}
    method.losses = lambda batch, clock: seen.update({n: len(v) for n, v in batch.items()}) or Losses()
    settings = s4.engine.Settings(steps=4, batch=8)
    trace.Tracer(task, settings, torch.device("cpu"), "float32")(method, method.stages()[0], views, Clock(0, 4))
    assert seen == {"x": 2, "u": 4, "v": 4}


def test_what_the_explorer_cannot_show_is_said_before_the_training(task, tmp_path):
    method = build("fixmatch", task)
    rule, logits = method.pseudo_labels, method.teach
    method.teach = lambda view: (logits(view), 1)
    method.pseudo_labels = lambda e, view, clock: rule(e[0] if isinstance(e, tuple) else e, view, clock)
    with pytest.raises(S4Error, match=r"`teach` of FixMatch gives a tuple.*`probabilities"):
        s4.fit(method, task, steps=4, out=tmp_path / "r", probes=2, **SMALL)
    assert not (tmp_path / "r" / "metrics.csv").exists()
