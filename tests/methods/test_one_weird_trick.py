"""One Weird Trick: what the classifier forbids, in whole images alone, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.task import Evaluation
from s4kit.engine import evaluate
from s4kit.engine.probe import Probe
from s4kit.engine.survey import Looking
from s4kit.engine.watched import drawn
from s4kit.engine.windows import predict
from s4kit.methods.parts.present import within


def truthful(method, task) -> None:
    """A classifier that knows the tags of the images of `val`: it is asked for whole ones."""
    known = {tuple(task.val.read(row).image.shape): None for row in range(len(task.val))}
    tags = {}
    for row in range(len(task.val)):
        sample = task.val.read(row)
        there = torch.tensor([float((sample.label == c).any()) for c in range(4)])
        tags[sample.image.float().div(255).sum().item()] = 20 * (2 * there[1:] - 1)

    def forward(image):
        assert tuple(image.shape[1:]) in known, "the whole image"
        return torch.stack([min(tags.items(), key=lambda item: abs(item[0] - one.sum().item()))[1] for one in image])

    method.classifier.forward = forward


def test_the_threshold_says_how_much_is_forbidden(build, draw) -> None:
    torch.manual_seed(0)
    tags, image = torch.randn(5, 3), torch.rand(5, 3, 32, 32)
    for tau, expected in ((0.0, 4), (1.0, 1)):
        assert (build("one_weird_trick", tau=tau).allowed(tags).sum(1) == expected).all()
    assert build("one_weird_trick", tau=1.0, background=False).allowed(torch.randn(5, 4)).sum(1).tolist() == [1] * 5
    method = build("one_weird_trick", tau=0.5).eval()
    plain, cut = method.student(image), method.predictors()["filtered"].finish(image, method.student(image))
    there = method.allowed(method.classifier(image))
    stays = there.gather(1, plain.argmax(1).flatten(1)).view(5, 32, 32)
    assert torch.equal(cut.argmax(1)[stays], plain.argmax(1)[stays])
    assert there.gather(1, cut.argmax(1).flatten(1)).all()
    assert torch.equal(within(cut, there), cut)
    view = draw(method).x
    p = method.probabilities(method.teach(view))
    torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]))


@pytest.mark.parametrize("mode", ["whole", "sliding"])
def test_the_filter_is_of_the_whole_image_behind_windows_and_scales(mode, build) -> None:
    task = toy_task(n_val=4)
    method = build("one_weird_trick").eval()
    truthful(method, task)
    filtered, plain = method.predictors().values()
    options = {"scales": (0.5, 1.0), "flip": True}
    how = Evaluation("sliding", 24, **options) if mode == "sliding" else Evaluation(**options)
    for row in range(len(task.val)):
        sample = task.val.read(row)
        image = sample.image[None].float() / 255
        with torch.no_grad():
            scores, cut = predict(plain, image, how), predict(filtered, image, how)
        there = torch.tensor([True, *(bool((sample.label == c).any()) for c in range(1, 4))])
        expected = scores.masked_fill(~there[None, :, None, None], -torch.inf)
        assert torch.equal(cut, expected)
    before, after = (evaluate(net, task, how) for net in (plain, filtered))
    assert after.accuracy >= before.accuracy, "only wrong classes are forbidden"


def test_the_networks_share_nothing(build, draw) -> None:
    method = build("one_weird_trick").train()
    losses = method.losses(draw(method), None)
    for name, own, other in (("x", method.student, method.classifier), ("tags", method.classifier, method.student)):
        method.zero_grad()
        losses[name][0].backward()
        assert all(p.grad is None for p in other.parameters()) and any(p.grad is not None for p in own.parameters())
    groups = method.classifier.param_groups()
    assert {id(p) for ps in groups.values() for p in ps} == {id(p) for p in method.classifier.parameters()}


def test_a_run_scores_both(tmp_path) -> None:
    task = toy_task(n_unlabelled=3)
    torch.manual_seed(0)
    method = methods.create("one_weird_trick", task, net="tiny")
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=2, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=2, out=tmp_path / "run", **settings)
    assert run.weak_labels == "tags" and {row["predictor"] for row in run.evaluations()} == {"filtered", "student"}
    looking, watch = Looking(run, "last", task, "cpu"), Probe(task, drawn(task, 1), whole=True)
    looking.method.classifier.forward = lambda image: torch.full((len(image), 3), -99.0)
    views, truth = watch.views([0], "cpu")
    with torch.no_grad():
        plain = looking.method.student.eval()(views.weak).argmax(1)
    found, label = looking.row(views, truth)
    share = float((plain != 0).float().mean())
    assert not label.any() and share > 0 and found["disagreement"] == pytest.approx(share)
