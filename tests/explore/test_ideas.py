"""Idea pictures: they show what a step really did, of every method, and leave the method as it was."""

from __future__ import annotations

import importlib
import random
from typing import Any

import numpy as np
import pytest
import torch

import s4kit as s4
from s4kit.explore.plots import ideas, tiles, watch
from s4kit.nets import SegNet
from s4kit.report.pictures import colour
from s4kit.views import paste


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return s4.lesson("test", "scenes", quiet=True)


def titles(rows: list[tiles.Row]) -> list[str]:
    return [cell.title for row in rows for cell in row.cells]


@pytest.mark.slow
def test_every_method_has_a_picture(lesson):
    for name in s4.methods.files():
        own = lesson.fitting(name)
        method, batch = own.batch(name, n=2)
        rows = ideas.rows(method, batch, own.task_of(name))
        assert 1 <= len(rows) <= 8 and all(row.cells for row in rows), name
        assert all(cell.pixels.size and np.isfinite(cell.pixels).all() for row in rows for cell in row.cells), name
        unlabelled = {"it is taught", "taught: nothing, here", "where it costs"} & set(titles(rows))
        alone = name.startswith(("supervised", "mask_rcnn")) or "the last word" in titles(rows)
        assert bool(unlabelled) != alone, (name, titles(rows))


def test_nothing_is_changed(lesson):
    method, batch = lesson.batch("u2pl", n=2)
    module = importlib.import_module(type(method).__module__)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    drawn, chosen, encode = torch.get_rng_state(), random.getstate(), SegNet.encode
    with watch.watching(method):
        assert module.paste is not paste and SegNet.encode is not encode
    s4.plots.idea(method, batch, lesson.task)
    assert module.paste is paste and SegNet.encode is encode
    assert not any(net._forward_hooks for net in method.modules())
    assert torch.equal(torch.get_rng_state(), drawn) and random.getstate() == chosen
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_pasted_pixels_are_where_the_line_is(lesson):
    method, batch = lesson.batch("cutmix", n=3)
    row = ideas.rows(method, batch, lesson.task)[0]
    shown = {cell.title: cell for cell in row.cells}
    own, other, mixed = (shown[t].pixels for t in ("gives the label", "pasted in", "the student sees"))
    inside = shown["the student sees"].outline
    assert 0 < inside.mean() < 1
    assert np.array_equal(mixed, np.where(inside[..., None], other, own))


def test_a_mixing_is_known_again_after_colours_and_a_plain_view_is_not_taken_for_one():
    one, two, three = torch.rand(3, 1, 3, 8, 8)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :5] = True
    watched = watch.Watched([watch.Pasting(mask, one, two, paste(mask, one, two))])
    found = ideas._pasting(0.3 * paste(mask, one, two) + 0.2, 0, watched, [one, two])
    assert torch.equal(found[0], ~mask[0]), "what covers less of the picture counts as pasted in"
    assert torch.equal(found[1], two[0]) and torch.equal(found[2], one[0])
    assert ideas._pasting(0.3 * three, 0, watched, [one, two, three]) is None


def test_what_is_not_trained_on_is_grey_and_the_rest_has_the_colours_of_its_class(lesson):
    tau = float(ideas.step(*lesson.batch("fixmatch", n=3, tau=0.0))[0]["target"].confidence.median())
    method, batch = lesson.batch("fixmatch", n=3, tau=tau)
    target = ideas.step(method, batch)[0]["target"]
    kept = ((target.weight > 0) & (target.valid > 0)).numpy()
    k = int(np.abs(kept.mean((1, 2)) - 0.5).argmin())
    assert 0 < kept[k].mean() < 1, "a threshold that keeps some is what this test is about"
    shown = tiles.taught(target, k, lesson.task)
    label = colour(target.label[k].numpy().astype(np.uint8), lesson.task.palette)
    assert np.array_equal(shown[kept[k]], label[kept[k]])
    assert (shown[~kept[k] & (target.valid[k] > 0).numpy()] == tiles.GREY).all()
    plotted = tiles.points(target)
    assert ((plotted[:, 0] >= np.float32(tau)) == (plotted[:, 1] == 1)).all()


def test_boxes_that_a_method_is_told_are_framed(lesson):
    method, batch = lesson.batch("self_correcting", n=2)
    (image,) = [
        cell for row in ideas.rows(method, batch, lesson.task, 1) for cell in row.cells if "gives" in cell.title
    ]
    inside = torch.zeros(image.outline.shape, dtype=torch.bool)
    for kind, top, left, bottom, right in batch.u.boxes[1].tolist():
        inside[top:bottom, left:right] |= 0 < kind < 255
    assert np.array_equal(image.outline, inside) and inside.any() and not inside.all()


def test_regions_that_were_asked_for_are_framed_in_a_step_of_the_last_generation(lesson):
    method, batch = lesson.batch("s4al", n=2)
    asked = torch.zeros_like(batch.u.label)
    asked[:, 8:16, 4:20] = 1
    batch.u.maps = {"asked": asked, "truth": torch.full_like(asked, 2)}
    first, second = ideas.rows(method, batch, lesson.task, 1)
    assert first.cells[0].title == "asked where framed" and second.name == "rare classes"
    assert np.array_equal(first.cells[0].outline, asked[1].numpy() == 1)


def test_dropped_features_are_found_and_are_whole_channels(lesson):
    method, batch = lesson.batch("unimatch", n=2)
    _, watched = ideas.step(method, batch)
    assert len(watched.damages) == 1
    damage = watched.damages[0]
    assert len(damage.image) == 4  # labelled and unlabelled ones, with one dropout
    gone = (damage.after == 0).flatten(2).all(2) & (damage.before != 0).flatten(2).any(2)
    assert 0.3 < gone.float().mean() < 0.7
    there = damage.after[~gone] - 2 * damage.before[~gone]  # kept channels are doubled
    assert there.abs().max() < 1e-5
    assert "features, dropped" in titles(ideas.rows(method, batch, lesson.task))


def test_every_decoder_of_cct_has_its_own_copy(lesson):
    method, batch = lesson.batch("cct", n=2)
    rows = ideas.rows(method, batch, lesson.task)
    kinds = set(titles([rows[1]])[1:])
    assert rows[1].name == "features" and len(rows[1].cells) >= 6
    assert kinds <= set(method.kinds.values()) and {"dropout", "noise", "vat"} <= kinds


def test_further_heads_are_shown(lesson):
    for name, words in (("forec", "reconstruction"), ("rrn", "critic1 says: real?")):
        method, batch = lesson.batch(name, n=2)
        assert words in titles(ideas.rows(method, batch, lesson.task))
    method, batch = lesson.batch("als4gan", n=2)
    (judged,) = [cell for row in ideas.rows(method, batch, lesson.task) for cell in row.cells if "critic" in cell.title]
    assert judged.title == f"critic says: {judged.pixels.item():.2f} real", "of a whole prediction one number"


def test_a_title_of_two_lines_is_not_cut_off():
    tile = np.zeros((4, 4))
    rows = [tiles.Row("", [tiles.Cell("short", tile)]), tiles.Row("", [tiles.Cell("critic says: 0.47 real", tile + 1)])]
    for order in (rows, rows[::-1]):
        fig = tiles.draw(order)
        fig.canvas.draw()
        boxes = [part.get_window_extent() for axis in fig.axes for part in (axis.title, axis.patch)]
        assert all(box.y1 <= fig.bbox.height for box in boxes)
        assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[k + 1 :])


def test_the_figure_has_one_tile_per_cell_less_those_that_repeat(lesson):
    method, batch = lesson.batch("cps", n=2)
    rows = ideas.rows(method, batch, lesson.task)
    figure = s4.plots.idea(method, batch, lesson.task)
    fewer = sum(a.title == b.title and np.array_equal(a.pixels, b.pixels) for a, b in zip(rows[0].cells, rows[1].cells))
    assert fewer >= 3 and len(figure.axes) == len(titles(rows)) - fewer
    assert figure._repr_png_()[:4] == b"\x89PNG"
