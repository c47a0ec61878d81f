"""Defaults that need more classes than there are: lowered aloud, or said."""

import pytest
import torch
from toy import toy_task

from s4kit.errors import S4Warning
from s4kit.methods import create
from s4kit.methods.contrastive.u2pl import unlikely

TINY = {"net": "tiny"}


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("u2pl", 2, "low=1 is used"),
        ("u2pl", 3, "low=2 is used"),
        ("psmt", 4, "top=7 of 4 classes"),
        ("fpl", 3, "at most 2 can be positive, for one class"),
        ("fpl", 2, "plain cross entropy"),
        ("cpsr", 2, "none between the first and the last"),
    ],
)
def test_it_is_said(name, classes, message):
    with pytest.warns(S4Warning, match=message):
        create(name, toy_task(classes=classes), **TINY)


@pytest.mark.parametrize(("name", "classes"), [("u2pl", 4), ("fpl", 4), ("cpsr", 3)])
def test_nothing_is_said_where_there_are_enough(recwarn, name, classes):
    create(name, toy_task(classes=classes), **TINY)
    assert not [w for w in recwarn if issubclass(w.category, S4Warning)]


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_u2pl_always_has_a_negative(classes):
    place = torch.arange(classes)[:, None].expand(classes, 5)
    sure, labelled = torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)
    negative = unlikely(place == 0, place, sure, labelled, 3, 20)
    assert negative[-1].all() and not negative[:-1].any()
