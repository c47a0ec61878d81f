"""Who plays which part: what is told is what the loss has used, and nothing is done where nobody listens."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

import s4kit as s4
from s4kit.engine import Settings, trace
from s4kit.methods import Clock
from s4kit.methods.contrastive.pc2seg import PC2Seg
from s4kit.methods.parts.banks import Queues
from s4kit.methods.parts.contrast import Draws, OtherClasses, bank_contrast, class_contrast, members
from s4kit.methods.parts.prototypes import centres
from s4kit.methods.parts.roles import Cast, Group, among, apart, listening, pictured, slots, some, tell

IMAGES = torch.zeros(2, 3, 12, 12)
LABEL = torch.tensor([0, 0, 1, 1, 1, 2, 255, 0, 0, 0, 1, 1, 255, 1, 255, 0, 2, 0])  # two images of 3 x 3 cells


def joined(cast: Cast) -> dict[str, Group]:
    """All that play a part."""
    return {role: Group(*map(torch.cat, zip(*groups))) for role, groups in cast.groups.items()}


def test_nobody_listens_in_a_step_and_nothing_is_told_without_images():
    def never():
        raise AssertionError("it was asked for")

    tell(never)
    pictured((3, 3), IMAGES)
    with listening() as heard:
        tell(never)
    tell(never)
    assert heard == []


def test_a_contrast_tells_of_the_anchors_negatives_and_prototypes_that_it_used():
    """Three classes by hand: 0 and 1 meet, 2 has no anchor."""
    torch.manual_seed(0)
    z = torch.randn(18, 5, requires_grad=True)
    belongs = members(LABEL, 3)
    candidates = belongs.clone()
    candidates[2] = False
    draws = Draws(torch.tensor([[0, 3, 3], [5, 1, 0], [0, 0, 0]]), torch.tensor([[2, 4, 5], [0, 16, 0], [0, 1, 2]]))
    with listening() as heard:
        pictured((3, 3), IMAGES[:1], IMAGES[1:], name="by hand")
        centre = centres(z.detach(), belongs)
        others = OtherClasses(z, belongs, torch.zeros(3, 3))
        loss = class_contrast(z, candidates, centre, others, belongs.any(1), 3, 1, 0.5, draws)
    (cast,) = heard
    assert cast.name == "by hand" and cast.size == (3, 3) and cast.images.shape == IMAGES.shape
    found = joined(cast)
    drawn = {(0, 0), (0, 8), (1, 13), (1, 3), (1, 2)}  # ranks 0 and 3 of class 0, 5, 1 and 0 of class 1, each once
    assert set(zip(found["anchor"].label.tolist(), found["anchor"].pixel.tolist())) == drawn
    (grad,) = torch.autograd.grad(loss, z)
    assert set(grad.abs().sum(1).nonzero()[:, 0].tolist()) == {pixel for _, pixel in drawn}, "those that learn"
    negative = list(zip(*(t.tolist() for t in found["negative"][1:])))  # label, pixel, own
    assert sorted(negative) == [(0, 2, 1), (0, 4, 1), (0, 5, 2), (1, 0, 0), (1, 16, 2)]
    assert torch.equal(found["negative"].vector, z.detach()[found["negative"].pixel])
    assert torch.equal(found["prototype"].vector, centre) and found["prototype"].label.tolist() == [0, 1, 2]
    positive = {(int(k), i) for i, k in enumerate(LABEL) if k != 255}
    assert set(zip(found["positive"].label.tolist(), found["positive"].pixel.tolist())) == positive


def test_rows_of_a_memory_are_of_no_pixel():
    torch.manual_seed(0)
    queues, z = Queues((4, 4), 5), torch.randn(6, 5)
    queues.write(torch.randn(8, 5), torch.ones(2, 8, dtype=torch.bool))
    candidates = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).bool()
    with listening() as heard:
        pictured((2, 3), IMAGES[:1])
        class_contrast(z, candidates, torch.randn(2, 5), queues, torch.ones(2, dtype=torch.bool), 8, 8, 0.5)
    negative = joined(heard[0])["negative"]
    assert (negative.pixel == -1).all() and (negative.own == 255).all()
    for k in range(2):
        held = queues.take(k, torch.arange(4))
        assert all((row == held).all(1).any() for row in negative.vector[negative.label == k])


def test_a_bank_has_positives_of_the_class_and_negatives_of_the_others():
    torch.manual_seed(0)
    bank, ready = torch.randn(3, 4, 5), torch.tensor([True, True, False])
    label = torch.tensor([0, 1, 2, 0, 255])
    with listening() as heard:
        pictured((1, 5), IMAGES[:1])
        bank_contrast(torch.randn(5, 5), label, torch.tensor([1, 1, 1, 0, 1]).bool(), bank, ready, 0.1)
    found = joined(heard[0])
    assert found["anchor"].pixel.tolist() == [0, 1] and found["anchor"].label.tolist() == [0, 1]
    assert torch.equal(found["positive"].vector, bank[:2].flatten(0, 1)) and (found["positive"].pixel == -1).all()
    assert found["negative"].label.tolist() == [0] * 4 + [1] * 4 and found["negative"].own.tolist() == [1] * 4 + [0] * 4


def test_groups_hold_some_of_each_class_evenly():
    index = torch.arange(1000)
    assert some(index, 2).tolist() == torch.linspace(0, 999, 24).long().tolist()
    assert len(some(index, 150)) == 4 and len(some(index[:3], 2)) == 3 and len(some(index[:0], 2)) == 0
    features = torch.randn(6, 2)
    mask = torch.tensor([[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()
    group = among(features, mask, torch.arange(10, 16), torch.arange(20, 26))
    assert [t.tolist() for t in group[1:]] == [[0, 0, 2], [11, 13, 10], [21, 23, 20]]
    several = apart(torch.randn(3, 6, 2), mask)
    assert several.label.tolist() == several.own.tolist() == [0, 0, 2] and several.pixel.tolist() == [-1] * 3
    parts = slots(features, -features, torch.tensor([1, 1, 0, 255, 2, 2]), 3, torch.arange(6))
    assert parts["anchor"].label.tolist() == [0, 1, 1, 2, 2] and parts["anchor"].pixel.tolist() == [2, 0, 1, 4, 5]
    assert torch.equal(parts["positive"].vector, -parts["anchor"].vector)
    assert parts["negative"].pixel[parts["negative"].label == 1].tolist() == [2, 4, 5]


def test_pc2seg_tells_the_pairs_that_count():
    """Pixels of the anchor's own image are no negatives; the positive is the anchor's pixel in the weak view."""
    torch.manual_seed(0)
    method = PC2Seg(toy_task(), net="tiny", anchors=3, negatives=4)
    own, weak = (torch.nn.functional.normalize(torch.randn(2, 6, 4, 4), dim=1) for _ in range(2))
    with listening() as heard:
        pictured((4, 4), IMAGES)
        method.contrast(own, weak, torch.rand(2, 4, 12, 12).softmax(1), torch.ones(2, 12, 12))
    found = joined(heard[0])
    assert len(found["anchor"].pixel) == 6 and torch.equal(found["anchor"].pixel, found["positive"].pixel)
    flat = weak.permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.equal(found["positive"].vector, flat[found["positive"].pixel])
    assert torch.equal(found["negative"].vector, flat[found["negative"].pixel]) and len(found["negative"].pixel) > 3


CONTRASTS = {
    "reco": {"anchor", "positive", "negative", "prototype"},
    "prcl": {"anchor", "positive", "negative", "prototype"},
    "prcl_global": {"anchor", "positive", "negative", "prototype"},
    "css": {"anchor", "positive", "negative", "prototype"},
    "u2pl": {"anchor", "positive", "negative", "prototype"},
    "dgcl": {"anchor", "positive", "negative", "prototype"},
    "c3_semiseg": {"anchor", "positive", "negative"},
    "pc2seg": {"anchor", "positive", "negative"},
    "rc2l": {"anchor", "positive", "negative"},
    "semiseg_contrastive": {"anchor", "positive"},
    "minority": {"anchor", "positive", "prototype"},
    "ctt": {"anchor", "positive", "negative"},
    "pcr": {"anchor", "prototype"},
}


@pytest.mark.parametrize("name", CONTRASTS)
def test_methods_say_whose_pixels_they_contrast(name):
    """By what they declare: their parts, and images that hold the pixels."""
    torch.manual_seed(0)
    method, task = s4.methods.create(name, toy_task(), net="tiny"), toy_task()
    tracer = trace.Tracer(task, Settings(steps=10, batch=2), torch.device("cpu"), "float32")
    stage = method.stages()[-1]
    clock = Clock(9, 10, stage=len(method.stages()) - 1)
    out = tracer(method, stage, stage.views or method.views, clock)
    assert tracer.casts and {role for cast in tracer.casts for role in cast.groups} == CONTRASTS[name]
    for cast in tracer.casts:
        cells = cast.size[0] * cast.size[1]
        assert cast.images.shape[1:] == (3, 32, 32)
        for role, groups in cast.groups.items():
            for group in groups:
                assert len(group.vector) == len(group.label) == len(group.pixel) == len(group.own)
                assert (group.pixel < len(cast.images) * cells).all() and (group.label < 4).all()
                assert (group.pixel >= 0).all() or role != "anchor", "an anchor is a pixel"
    heard = tracer.casts
    again = tracer(method, stage, stage.views or method.views, clock)
    assert torch.equal(out.total, again.total), "listening draws nothing"
    one, two = (cast.groups for cast in (heard[0], tracer.casts[0]))
    assert all(torch.equal(a, b) for role in one for x, y in zip(one[role], two[role]) for a, b in zip(x, y))
