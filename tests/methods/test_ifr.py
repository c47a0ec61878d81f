"""IFR: what a frame says about another one of its clip."""

import pytest
import torch
from toy import toy_task

from s4kit import methods
from s4kit.engine import fit
from s4kit.errors import S4Error
from s4kit.methods.base import Clock
from s4kit.methods.video.ifr import ClassMeans, prototypes, rebuild

START, END = Clock(0, 100), Clock(99, 100)


def slow_rebuild(features, label, other, temperature, scope):
    """Image by image, class by class and pixel by pixel, in plain Python."""
    batch, _, height, width = features.shape
    out = torch.zeros_like(features)
    for b in range(batch):
        classes = sorted(set(label[b].flatten().tolist()))
        found = []
        for c in classes:
            images = range(batch) if scope == "batch" else [b]
            rows = [other[k][:, label[k] == c].T for k in images]
            found.append(torch.cat(rows).mean(0))
        for y in range(height):
            for x in range(width):
                f = features[b, :, y, x]
                like = torch.stack([f @ p / (f.norm() * p.norm()) for p in found]) / temperature
                out[b, :, y, x] = sum(share * p for share, p in zip(like.softmax(0), found))
    return out


@pytest.mark.parametrize("scope", ["batch", "image"])
def test_features_are_rebuilt_from_the_classes_of_the_other_frame(scope):
    torch.manual_seed(0)
    features, other = torch.randn(2, 3, 5, 4, 6).unbind(1)[:2]
    label = torch.randint(0, 4, (2, 4, 6))
    label[1] = label[1].clamp(max=2)  # one image lacks a class
    made = rebuild(features, prototypes(other, label, 6, scope), 0.5)
    torch.testing.assert_close(made, slow_rebuild(features, label, other, 0.5, scope))


def test_a_missing_class_never_appears_and_places_do_not_matter():
    torch.manual_seed(0)
    features, other, label = torch.randn(2, 5, 4, 6), torch.randn(2, 5, 4, 6), torch.randint(0, 3, (2, 4, 6))
    of = prototypes(other, label, 5)
    assert of.there[:, :3].all() and not of.there[:, 3:].any() and not of.mean[:, 3:].any()
    strange = ClassMeans(of.mean.masked_fill(~of.there[..., None], 1e3), of.there)
    assert torch.equal(rebuild(features, strange, 0.5), rebuild(features, of, 0.5))
    torch.testing.assert_close(rebuild(3 * features, of, 0.5), rebuild(features, of, 0.5))
    order = torch.randperm(24)
    mixed = prototypes(*(t.flatten(-2)[..., order].unflatten(-1, (4, 6)) for t in (other, label)), 5)
    torch.testing.assert_close(mixed.mean, of.mean)


def test_constant_features_come_back_as_they_are():
    """One feature for each class in both frames: a cold softmax finds it."""
    means = torch.eye(4)[:3] + 0.1
    label = torch.randint(0, 3, (2, 6, 6), generator=torch.Generator().manual_seed(1))
    features = means[label].permute(0, 3, 1, 2)
    torch.testing.assert_close(rebuild(features, prototypes(features, label, 3), 1e-3), features)


def test_the_other_frame_learns_too_and_labels_hold_still(build, draw):
    method = build("ifr")
    batch = draw(method)
    e = method.embed(batch.u.weak).detach().requires_grad_()
    other = method.embed(batch.u_other.weak).detach().requires_grad_()
    label = method.student.decoder.classifier(other).argmax(1)
    made = rebuild(e, prototypes(other, label, method.student.classes), 0.5)
    made.square().sum().backward()
    assert e.grad.abs().sum() > 0 and other.grad.abs().sum() > 0
    assert not method.losses(batch, END).seen["from a frame/target"].label.requires_grad


def test_weights_rise_and_are_those_that_were_asked_for(build, draw):
    method = build("ifr", labelled=0.2, unlabelled=0.4, strong=0.5, ramp=0.5)
    batch = draw(method)
    weights = {name: weight for name, (_, weight) in method.losses(batch, END).items()}
    assert weights == pytest.approx({"x": 1, "pair": 0.2, "strong pair": 0.1, "u": 0.4, "strong u": 0.2})
    early = method.losses(batch, START)
    assert early["u"][1] == pytest.approx(0.4 * 2.718281828**-5)


def test_void_shrinks_a_mean_over_all_pixels(build, draw):
    method = build("ifr")
    method.train()
    batch = draw(method)
    whole = method.losses(batch, END)["x"][0]
    batch.x.label[:, ::2] = 255
    assert method.losses(batch, END)["x"][0] < 0.8 * whole


def test_wrong_options_and_data(build, tmp_path):
    with pytest.raises(S4Error, match="scope='frame'"):
        build("ifr", scope="frame")
    with pytest.raises(S4Error, match="decoder='psp'"):
        build("ifr", net="tiny(decoder='psp')")
    task = toy_task()
    alone = task.with_(train=type("Alone", (type(task.train),), {"clip": lambda self, row: (row,)})(
        task.train.images, task.train.labels, 4, task.train.ids))  # fmt: skip
    with pytest.raises(S4Error, match="draws two frames of a clip"):
        fit(methods.create("ifr", alone, net="tiny"), alone, 2, out=tmp_path / "r", progress=False)
