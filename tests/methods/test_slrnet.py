"""SLRNet: what atoms keep of features, which pixels get a label, and what tags change."""

import pytest
import torch

from s4kit.methods.base import Clock
from s4kit.methods.parts import pamr
from s4kit.methods.parts.claims import balance, chosen, image_scores, strongest
from s4kit.methods.parts.losses import ce
from s4kit.methods.weak.slrnet import Seen
from s4kit.nets import make
from s4kit.nets.lowrank import LowRank, class_centres, factorised

START, END = Clock(0, 100), Clock(99, 100)


# ---- atoms ----


def test_mixtures_sum_to_one_and_what_they_add_has_the_rank_of_the_atoms():
    torch.manual_seed(0)
    x, z = torch.randn(2, 60, 8), torch.randn(2, 3, 60)
    net = LowRank(8, iterations=2, temperature=0.5)
    found = net(x, class_centres(x, z))
    torch.testing.assert_close(found.coding.sum(1), torch.ones(2, 60))
    torch.testing.assert_close(found.atoms.norm(dim=2), torch.ones(2, 3), atol=1e-5, rtol=0)
    assert all(torch.linalg.matrix_rank(m, rtol=1e-4) <= 3 for m in found.coding.mT @ found.atoms)


def test_atoms_are_those_of_all_views():
    """A pixel of one view changes what becomes of the other's."""
    torch.manual_seed(0)
    net = factorised(make("tiny", classes=3), 4, True).eval()
    maps = [torch.randn(1, net.decoder.fused_channels, *size) for size in ((6, 8), (3, 4))]
    hint = net.decoder.hint(maps[0])
    made, codings = net.decoder.rebuilt(maps, hint)
    assert [m.shape for m in made] == [m.shape for m in maps]
    assert [c.shape[-2:] for c in codings] == [m.shape[-2:] for m in maps]
    other = net.decoder.rebuilt([maps[0], 2 * maps[1]], hint)[0]
    assert not torch.allclose(other[0], made[0])
    torch.testing.assert_close(
        net.decoder.rebuilt([maps[0]], hint)[0][0], net.decoder.rebuilt([maps[0]] * 2, hint)[0][0]
    )


def test_the_background_is_what_is_left():
    torch.manual_seed(0)
    net = factorised(make("tiny", classes=3), 4, True).eval()
    features = net.encode(torch.rand(2, 3, 32, 32))
    map = net.fuse(features).map
    hint, z = net.decoder.hint(map), net.decode(features).logits
    assert (z[:, 0] == 1).all() and torch.equal(hint[:, 0], 1 - hint[:, 1:].amax(1))
    assert net.classes == z.shape[1] == 4


# ---- masks that follow edges ----


def test_a_mask_keeps_its_sum_and_stops_at_an_edge():
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 12, 16)
    image[..., 9:] = 1
    image += 0.01 * torch.rand_like(image)
    p = torch.rand(1, 3, 6, 8).softmax(1)
    made = pamr.refined(image, p, 10, (1, 2))
    torch.testing.assert_close(made.sum(1), torch.ones(1, 12, 16))
    even = torch.full((1, 1, 12, 16), 0.3)
    torch.testing.assert_close(pamr.refined(image, even, 10, (1, 2)), even)
    spot = torch.zeros(1, 1, 12, 16)
    spot[..., 2:10, 2:11] = 1  # two columns too wide
    made = pamr.refined(image, spot, 10, (1, 2))
    assert made[..., 4:8, 8].min() > 0.5 > made[..., 4:8, 10].max()


# ---- the rule ----


def test_classes_that_stand_out_get_pixels_and_no_pixel_two():
    m = torch.tensor([[0.9, 0.5, 0.1, 0.7], [0.08, 0.5, 0.6, 0.1], [0.02, 0.0, 0.3, 0.2]])[None, :, None]
    factors = torch.tensor([0.7, 0.6, 0.6])
    g = chosen(m, factors, 0.25)[0, :, 0].int().tolist()
    assert g == [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], "the third pixel is two classes', so it is none's"
    assert not chosen(m, factors, 0.95).any()


def test_a_class_weighs_what_the_others_are():
    g = torch.zeros(2, 3, 1, 10, dtype=torch.bool)
    g[0, 0, 0, :8], g[0, 2, 0, 8] = True, True
    g[1, 1] = True
    w = balance(g)[:, 0]
    assert w[0].tolist() == pytest.approx([0.1] * 8 + [0.8, 0.0])
    assert not w[1].any(), "an image of one class teaches nothing"


def test_tags_rule(build, draw):
    """An absent class gets no pixel; an image counts when all its tags are found."""
    method = build("slrnet", thresholds=(0.6, 0.7, 0.0))
    view = draw(method).u
    evidence = torch.full((len(view), 4, *view.valid.shape[1:]), 0.01)
    for c, columns in enumerate((slice(0, 8), slice(8, 16), slice(16, 24), slice(24, 32))):
        evidence[:, c, :, columns] = 0.9
    view.valid.fill_(1)
    view.tags = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])[: len(view)]
    target = method.pseudo_labels(evidence, view, END)
    for i, tags in enumerate(view.tags):
        found = target.label[i][target.weight[i] > 0].unique().tolist()
        assert found == tags.nonzero()[:, 0].tolist()
    evidence[:, 1] = 0.01
    evidence[:, 0, :, 8:16] = 0.9
    assert not method.pseudo_labels(evidence, view, END).weight.any(), "class 1 is missing in all"


def test_equal_views_agree(build, draw):
    method = build("slrnet", shrink=1.0).eval()
    losses = method.losses(draw(method), END)
    assert losses["reg"][0] < 1e-6 and losses["code"][0] < 1e-6
    assert build("slrnet").eval().losses(draw(method), END)["code"][0] > 1e-4


def test_the_surest_atom_alone_is_compared():
    c = torch.tensor([[0.2, 0.5], [0.7, 0.5], [0.1, 0.0]])[None, :, None]
    torch.testing.assert_close(strongest(c)[0, :, 0], torch.tensor([[0.0, 0.5], [0.7, 0.5], [0.0, 0.0]]))


def test_an_image_has_the_classes_with_a_mask():
    z = torch.full((1, 3, 8, 8), -2.0)
    z[:, 0], z[:, 1, :, :4] = 1, 6
    s = image_scores(z, z.softmax(1))
    assert s[0, 1] > 2 > -1 > s[0, 2]


# ---- the step ----


def test_nothing_is_learned_through_labels_and_starts(build, draw):
    method = build("slrnet")
    batch = draw(method)
    assert not any(t.requires_grad for t in vars(method.losses(batch, END).seen["target"]).values() if t is not None)
    losses = method.losses(batch, END)
    (losses["reg"][0] + losses["code"][0]).backward()
    assert all(p.grad is None or not p.grad.any() for p in method.student.decoder.aux.parameters())


def test_masks_of_others_come_late(build, draw):
    for tags, late, weights in ((True, 0.2, (0.5, 2, 2, 0.5)), (False, 0.275, (1, 4, 4, 1))):
        method = build("slrnet", tags=tags)
        assert method.weights == weights and method.revealed() == (("tags",) if tags else ())
        batch = draw(method, batch=3)
        n, m = len(batch.x), len(batch.u)
        before, after = (method.losses(batch, Clock(s, 1000)) for s in (round(late * 1000) - 1, round(late * 1000)))
        assert before["u"][1] == 0 and after["u"][1] == pytest.approx(weights[3] * m / (n + m))
        assert after["x"][1] == pytest.approx(weights[3] + (weights[0] + weights[3]) * n / (n + m))
        assert ("tags" in after) == tags


def test_a_step_is_that_of_one_image_after_another(build, draw):
    """All terms are means over images, which do not see each other in eval mode."""
    method = build("slrnet").eval()
    batch = draw(method, batch=3)
    seen = method.look(torch.cat([batch.x.weak, batch.u.weak]))
    each = [method.look(image[None]) for image in torch.cat([batch.x.weak, batch.u.weak])]
    for whole, parts in zip(seen, zip(*each)):
        torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=1e-4)


def test_classes_are_cut_from_predictions(build):
    method = build("slrnet", cut=0.0, most=1).eval()
    image = torch.rand(3, 3, 32, 32)
    filtered, student = method.predictors().values()
    with torch.no_grad():
        scores = student(image)
        there = method.found(image)
        assert (there.sum(1) == 2).all() and there[:, 0].all(), "the background and the surest"
        assert filtered.finish(image, scores).isinf().sum((2, 3)).bool().eq(~there).all()
    assert list(build("slrnet", tags=False).predictors()) == ["student"]
    street = build("slrnet", background=False, cut=1.0).eval()
    with torch.no_grad():
        assert (street.found(image).sum(1) == 1).all()


def test_both_views_are_asked_for_the_tags(build):
    method = build("slrnet")
    z = torch.randn(2, 4, 5, 6, requires_grad=True)
    other = torch.randn(2, 4, 3, 3, requires_grad=True)
    method.of_tags(Seen(z, other, z.detach(), z, z), torch.ones(2, 3)).backward()
    assert z.grad.any() and other.grad.any()


def test_another_criterion_of_labels(build, draw):
    method, plain = build("slrnet", supervised="ce").eval(), build("slrnet").eval()
    batch = draw(method)
    seen = method.look(batch.x.weak)
    z1, z2, hint = method.enlarged(seen, batch.x.label.shape[-2:])
    assert method.of_labels(seen, batch.x) == ce(z1, batch.x.label) + ce(z2, batch.x.label) + 0.4 * ce(
        hint, batch.x.label
    )
    terms = [m.losses(batch, END) for m in (method, plain)]
    assert terms[0]["x"][0] != terms[1]["x"][0] and terms[0]["u"][0] == terms[1]["u"][0]
