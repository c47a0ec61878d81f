"""Self-correcting networks: boxes, who learns from what, and what is believed (equations: tests/golden)."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.selftraining.self_correcting import between, mixed_logits
from s4kit.nets import box_map, make, segment, with_boxes

CLOCK = Clock(5, 10, stage=2)


def test_a_box_map_is_what_the_boxes_say() -> None:
    boxes = torch.tensor([[[2, 1, 2, 4, 6], [1, 0, 0, 2, 3], [0, 0, 0, 8, 8], [255, 0, 0, 0, 0]]])
    expected = torch.zeros(1, 3, 8, 8)
    expected[0, 2, 1:4, 2:6] = 1
    expected[0, 1, 0:2, 0:3] = 1
    expected[0, 0] = 1 - expected[0, 1:].amax(0)
    assert torch.equal(box_map(boxes, 3, (8, 8)), expected)
    expected[0, 0] = 1
    assert torch.equal(box_map(boxes, 3, (8, 8), background=False), expected)


def test_boxes_reach_the_ancillary_network_and_not_the_primary_one(build, draw) -> None:
    method = build("self_correcting").eval()
    view = draw(method).u
    primary, ancillary = method.teach(view)
    view.boxes[:, :, 0] = 255
    again = method.teach(view)
    assert torch.equal(primary, again[0]) and not torch.equal(ancillary, again[1])
    view.boxes = None
    assert torch.equal(method.teach(view)[1], again[1])
    with pytest.raises(S4Error, match="DeepLabV3"):
        with_boxes(make("mit_tiny", classes=3))
    deep = with_boxes(make("tiny(low_channels=0)", classes=4)).eval()
    assert segment(deep, view.weak, method.boxes(view)).shape == (2, 4, 32, 32)


def test_alpha_moves_the_target_from_one_network_to_the_other() -> None:
    torch.manual_seed(0)
    p, a = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(mixed_logits(p, a, 0.0), p)
    torch.testing.assert_close(mixed_logits(p, a, 1e6), a, atol=1e-4, rtol=0)
    torch.testing.assert_close(mixed_logits(a, a, 0.7), a)
    q, (lp, la) = mixed_logits(p, a, 2.0).softmax(1), (z.log_softmax(1) for z in (p, a))

    def far(q):
        return (q * (q.log() - lp)).sum() + 2.0 * (q * (q.log() - la)).sum()

    for other in (p, a, (p + a) / 2):
        assert far(q) < far(other.softmax(1))
    for kind in ("geometric", "linear"):
        course = [between(30.0, 0.5, Clock(k, 5), kind) for k in range(5)]
        assert course[0] == 30 and course[-1] == pytest.approx(0.5) and course == sorted(course, reverse=True)
    assert between(30.0, 0.5, Clock(2, 5), "linear") == pytest.approx(15.25)


def test_the_module_learns_from_masks_alone(build, draw) -> None:
    method = build("self_correcting").train()
    losses = method.losses(draw(method), CLOCK)
    reached = {}
    for name in losses:
        method.zero_grad()
        losses[name][0].backward(retain_graph=True)
        nets = {"primary": method.student, "ancillary": method.ancillary, "module": method.module}
        reached[name] = {key for key, net in nets.items() if any(p.grad is not None for p in net.parameters())}
    assert reached == {"x": {"primary"}, "x_module": {"module"}, "u": {"primary"}}


@pytest.mark.parametrize("correction", ["conv", "linear", "none"])
def test_corrections(correction, build, draw, tmp_path) -> None:
    task = toy_task(n_labelled=5, n_unlabelled=3)
    torch.manual_seed(0)
    method = methods.create("self_correcting", task, net="tiny", correction=correction)
    method.halve(None)
    assert int(method.often.sum()) == (2 if correction == "conv" else 5)
    before = method.student.state_dict()["decoder.classifier.weight"].clone()
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=1, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=6, out=tmp_path / "run", **settings)
    assert run.weak_labels == "boxes" and len(run.config["stages"]) == (3 if correction == "conv" else 2)
    assert bool((method.often == 1).all())
    assert not torch.equal(method.student.state_dict()["decoder.classifier.weight"], before)
    if correction != "conv":
        batch = draw(method)
        method.alpha.fill_(2.0)
        p, a = evidence = method.teach(batch.u)
        expected = (p + 2 * a) / 3 if correction == "linear" else a
        torch.testing.assert_close(method.probabilities(evidence), expected.softmax(1))


def test_unknown_ways_are_named(build) -> None:
    for options in ({"correction": "cubic"}, {"decay": "cosine"}):
        with pytest.raises(S4Error, match="choose"):
            build("self_correcting", **options)
