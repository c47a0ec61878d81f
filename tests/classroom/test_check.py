"""Right answers pass, every usual mistake is named, and what a student can do wrong is said in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from s4kit.classroom import Exercise, all_exercises, check
from s4kit.errors import S4Error

FUNCTIONS = {key: one for key, one in all_exercises().items() if isinstance(one, Exercise)}
MISTAKES = [(key, mistake) for key, one in FUNCTIONS.items() for mistake in one.mistakes]


@pytest.mark.parametrize("key", FUNCTIONS)
def test_the_reference_passes(key):
    for seed in (0, 1):
        assert check(FUNCTIONS[key].reference, key, seed=seed).passed


@pytest.mark.parametrize("key, mistake", MISTAKES, ids=[f"{key}: {mistake.name}" for key, mistake in MISTAKES])
def test_a_usual_mistake_is_named(key, mistake):
    report = check(mistake.answer, key)
    assert not report.passed and report.share < 1
    assert report.findings[0].mistake == mistake.name
    assert mistake.words in repr(report)


@pytest.mark.parametrize("key", FUNCTIONS)
def test_an_unanswered_one_says_so(key):
    def answer(**inputs):
        raise NotImplementedError("Not answered yet.")

    report = check(answer, key)
    assert [found.kind for found in report.findings] == ["unanswered"] and report.share == 0


@pytest.mark.parametrize("key", FUNCTIONS)
def test_asks_and_prototype_name_the_inputs(key):
    one = FUNCTIONS[key]
    case = one.cases(torch.Generator().manual_seed(0))[0]
    given = one.prototype.partition("(")[2].rstrip(")").replace(" ", "").split(",")
    assert given == list(case.inputs) or set(given) == set(case.inputs)
    assert one.asks.endswith((".", "?")) and {*one.learns, *one.stops, *one.picture} <= set(given)


def loss(student_logits, teacher_logits, valid, tau):
    p, q = student_logits.softmax(1), teacher_logits.softmax(1).detach()
    c = (q.max(1).values >= tau).to(p.dtype).mean()
    return c * ((p - q).square().sum(1) * valid).mean()


def words(answer, key="cutmix.loss"):
    report = check(answer, key)
    assert not report.passed
    return {found.kind: found.words for found in report.findings}


def test_my_own_way_of_writing_it_passes():
    assert check(loss, "cutmix.loss").passed
    assert "right" in check(loss, "cutmix.loss")._repr_html_()


def test_a_missing_stop_gradient():
    def leaky(student_logits, teacher_logits, valid, tau):
        p, q = student_logits.softmax(1), teacher_logits.softmax(1)
        return ((q.max(1).values >= tau).float().mean() * ((p - q).square().sum(1) * valid).mean()).to(p.dtype)

    assert set(words(leaky)) == {"stop"} and check(leaky, "cutmix.loss").share == 0.5


def test_a_gradient_that_does_not_arrive():
    assert "detached" in words(lambda **given: loss(**given).detach())["gradient"]


def test_damaged_inputs():
    def careless(student_logits, teacher_logits, valid, tau):
        found = loss(student_logits, teacher_logits, valid, tau)
        valid.zero_()
        return found.clone()

    assert "'valid'" in words(lambda **given: careless(**given) if given["valid"].any() else loss(**given))["damage"]


def test_wrong_types_and_shapes():
    assert "number" in words(lambda **given: loss(**given).item())["form"]
    assert "return" in words(lambda **given: None)["form"]
    assert "(1,)" in words(lambda **given: loss(**given)[None])["shape"]
    assert "float64" in words(lambda **given: loss(**given).float())["dtype"]
    assert "0 / 0" in words(lambda **given: loss(**given) * 0 / 0)["finite"]


def test_a_tensor_made_on_the_cpu():
    def homebound(student_logits, teacher_logits, valid, tau):
        return loss(student_logits, teacher_logits, valid * torch.ones(6, 6, dtype=valid.dtype), tau)

    assert "device" in words(homebound)["device"]


def test_an_error_names_the_line_of_the_student():
    def broken(student_logits, teacher_logits, valid, tau):
        return student_logits @ torch.ones(7)

    said = words(broken)["raises"]
    assert "RuntimeError" in said and "return student_logits @ torch.ones(7)" in said


def test_the_smallest_failing_input_is_drawn_and_the_answer_is_not_said():
    report = check(lambda **given: 2 * loss(**given), "cutmix.loss")
    page = report._repr_html_()
    assert "data:image/png;base64," in page and "The smallest input that shows it" in page
    case = report.findings[0].case
    assert f"{float(loss(**case.inputs)):.4g}" not in page


def test_calls_into_the_kits_methods_are_noticed():
    from s4kit.methods.parts.losses import pixel_mean

    def borrowed(student_logits, teacher_logits, valid, tau):
        q = teacher_logits.softmax(1).detach()
        c = (q.max(1).values >= tau).to(q.dtype).mean()
        return pixel_mean((student_logits.softmax(1) - q).square().sum(1), c[None, None, None], valid, over="all")

    assert "pixel_mean" in check(borrowed, "cutmix.loss").calls


def test_bad_calls_of_check():
    with pytest.raises(S4Error, match="Did you mean cutmix"):
        check(loss, "cutmix.lose")
    with pytest.raises(S4Error, match="without brackets"):
        check(0.3, "cutmix.loss")


def test_the_random_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    check(lambda **given: loss(**given) + 0 * torch.rand(()), "cutmix.loss")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_box_is_judged_by_its_form():
    def ring(side, generator):
        found = torch.ones(side, side, dtype=torch.bool)
        found[side // 4 : -(side // 4), side // 4 : -(side // 4)] = False
        return found

    assert "filled box" in words(ring, "cutmix.box")["value"]
    assert np.isclose(check(ring, "cutmix.box").share, 0)


def stream(logits, label, confidence, valid, tau, reached=torch.ge, least=1.0):
    loss = F.cross_entropy(logits, label, reduction="none") * reached(confidence, tau) * valid
    return loss.sum() / valid.sum().clamp(min=least)


def consistency(weak_logits, strong_logits, tau, reached=torch.ge):
    confidence, label = weak_logits.softmax(1).max(1)
    keep = reached(confidence, tau).to(weak_logits.dtype)
    return (keep * (strong_logits.argmax(1) == label)).sum() / keep.sum().clamp(min=1)


@pytest.mark.parametrize("answer, key", [(stream, "unimatch.stream"), (consistency, "unimatch.consistency")])
def test_the_edge_of_the_threshold_is_looked_at(answer, key):
    assert check(answer, key).passed
    report = check(lambda **given: answer(**given, reached=torch.gt), key)
    assert report.findings[0].mistake == "strictly above" and report.share == 0.5


def test_an_image_that_is_all_padding_and_huge_logits_are_looked_at():
    def rounded(logits, label, confidence, valid, tau):
        return stream(logits.softmax(1).log().clamp(min=-80), label, confidence, valid, tau)

    assert "0 / 0" in repr(check(lambda **given: stream(**given, least=0.0), "unimatch.stream"))
    assert not check(rounded, "unimatch.stream").passed


def fixmatch_as_often_written(logits, label, confidence, valid, tau):
    label = label.clone()
    label[confidence < tau] = 255
    return F.cross_entropy(logits, label, ignore_index=255)


def test_the_most_common_wrong_fixmatch_is_named():
    assert "ignore_index averages" in repr(check(fixmatch_as_often_written, "unimatch.stream"))
    unsure = lambda **given: fixmatch_as_often_written(  # noqa: E731
        given["logits"], given["label"], given["weight"], given["valid"], 0.5
    )
    assert "ignore_index averages" in repr(check(unsure, "pseudo_labels.loss"))


def test_a_precision_in_the_type_of_the_inputs_is_right():
    def precision(label, weight, truth):
        used = weight * (truth != 255)
        return ((label == truth) * used).sum() / used.sum()

    assert check(precision, "pseudo_labels.precision").passed
