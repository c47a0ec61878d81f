"""Plots: what is drawn is what was measured, and every figure shows itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import toy_task

import s4kit as s4
from s4kit import plots
from s4kit.engine import Scores
from s4kit.errors import S4Error
from s4kit.methods import PseudoLabels


@pytest.fixture(scope="module")
def task():
    return toy_task()


@pytest.fixture(scope="module")
def runs(task, tmp_path_factory):
    """Two seeds of a method and a baseline, a few steps each."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    fit = {"steps": 6, "batch": 2, "evaluate_every": 2, "probes": 3, "device": "cpu", "progress": False}
    for name, seed in (("fixmatch", 0), ("fixmatch", 1), ("supervised", 0)):
        torch.manual_seed(seed)
        method = s4.methods.create(name, task, net="tiny", tau=0.0)
        found[f"{name}{seed}"] = s4.fit(method, task, out=folder / f"{name}{seed}", seed=seed, **fit)
    return found


def believed(label: torch.Tensor, confidence: torch.Tensor, weight: torch.Tensor | None = None) -> PseudoLabels:
    ones = torch.ones_like(confidence)
    return PseudoLabels(label, confidence, ones if weight is None else weight, ones)


def heights(axis) -> list[float]:
    return [patch.get_height() for patch in axis.patches]


def test_a_figure_shows_itself_as_png(task):
    sample = task.train.read(0)
    figure = plots.grid([[sample.image, sample.label, torch.rand(40, 40), None]], task, ["a", "b", "c"])
    assert figure._repr_png_()[:4] == b"\x89PNG"
    assert len([axis for axis in figure.axes if axis.images]) == 3
    masks = plots.grid([[sample.image, sample.label == 0]]).axes
    assert [axis.get_frame_on() for axis in masks] == [False, True]  # an all-white mask is to be seen on a page
    with pytest.raises(S4Error, match="give task="):
        plots.grid([[sample.label]])
    with pytest.raises(S4Error, match="A picture is"):
        plots.grid([[torch.zeros(7, 40, 40)]])


def test_void_is_striped_on_a_coarse_map_too(task):
    label = torch.full((5, 4), 255, dtype=torch.uint8)
    label[0] = 1
    drawn = plots.grid([[label]], task).axes[0].images[0].get_array()
    assert drawn.shape[0] >= 80 and np.all(drawn[:16] == task.palette[1])
    assert len(np.unique(drawn[16:32, :16].reshape(-1, 3), axis=0)) == 2  # stripes within one pixel of the map


def test_overlay_greys_what_is_rejected(task):
    image, label = torch.ones(3, 8, 8), torch.zeros(8, 8, dtype=torch.uint8)
    kept = torch.zeros(8, 8)
    kept[:, :4] = 1
    shown = plots.blend(image, label, task, alpha=1.0, kept=kept)
    assert np.allclose(shown[:, :4], np.array(task.palette[0]) / 255) and np.allclose(shown[:, 4:], 0.95)
    assert plots.overlay([image], [label], task, kept=[kept]).axes


def test_the_legend_of_an_overlay_is_whole(task):
    """Of one picture, which is narrower than the classes in a line."""
    fig = plots.overlay([torch.rand(3, 40, 40)], [torch.zeros(40, 40, dtype=torch.long)], task)
    fig.canvas.draw()
    found = fig.legends[0].get_window_extent()
    assert found.x0 >= 0 and found.x1 <= fig.bbox.x1 and 0 <= found.y0 < found.y1 < fig.bbox.y1 / 2


def test_views_name_their_columns_and_show_the_step(task):
    from s4kit.views import draw_step, render

    torch.manual_seed(0)
    method = s4.methods.create("unimatch", task, net="tiny", tau=0.0)
    batch = render(draw_step(task, method.views, 2, 0, 0, 0), method.views)
    titles = [axis.get_title().replace("\n", " ") for axis in plots.views(batch, task).axes if axis.get_title()]
    assert titles[:3] == ["x: weak", "x: label", "u: weak"] and "v: strong 2" in titles
    only = plots.views(batch, task, only=["u: box 1", "x"])
    assert [axis.get_title() for axis in only.axes if axis.get_title()] == ["u: box 1", "x: weak", "x: label"]
    seen = method.losses(batch, s4.methods.Clock(0, 10)).seen
    assert "mixed" in [axis.get_title() for axis in plots.views(batch, task, seen).axes]
    with pytest.raises(S4Error, match="no column 'w'"):
        plots.views(batch, task, only=["w"])


def test_bars_have_the_ious_of_the_scores():
    scores = Scores(torch.tensor([[6, 2], [0, 8]]), ("a", "b"))
    widths = [patch.get_width() for patch in plots.iou_bars(scores).axes[0].patches]
    assert widths == pytest.approx([100 * 6 / 8, 100 * 8 / 10, 100 * scores.miou])
    share = plots.confusion(scores).axes[0].images[0].get_array()
    assert np.allclose(share, [[75, 25], [0, 100]])


def test_class_frequency_counts_pixels_and_images(task):
    left, right = plots.class_frequency(task).axes[:2]
    pixels = task.class_pixels.double()
    drawn = [patch.get_width() for patch in left.patches][: task.num_classes]
    assert drawn == pytest.approx((100 * pixels / pixels.sum()).tolist())
    shows = [(task.train.read(r).label == 1).any().item() for r in task.labelled]
    assert right.patches[1].get_width() == pytest.approx(100 * np.mean(shows))


def test_curves_have_a_band_over_seeds(runs):
    figure = plots.curves({"fixmatch": [runs["fixmatch0"], runs["fixmatch1"]], "supervised": runs["supervised0"]})
    line = next(line for line in figure.axes[0].lines if line.get_label() == "fixmatch")
    ends = [100 * runs[f"fixmatch{seed}"].last["miou"] for seed in (0, 1)]
    assert line.get_ydata()[-1] == pytest.approx(np.mean(ends))
    top = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1].max()
    assert top >= np.mean(ends) + np.std(ends, ddof=1) - 1e-6
    assert [axis.get_title() for axis in plots.losses(runs["fixmatch0"]).axes if axis.get_visible()] == [
        "loss term x",
        "loss term u",
    ]


class Recorded:
    """A run with these rows of pseudo.csv."""

    split = ""
    rounds = ()

    def __init__(self, *rows: dict) -> None:
        self.rows = rows

    def pseudo(self) -> list[dict]:
        return [{"step": k, "name": "pseudo"} | row for k, row in enumerate(self.rows)]


def test_quality_draws_the_recorded_values():
    run = Recorded({"coverage": 0.2, "precision": 0.9}, {"coverage": 0.5, "precision": 0.8})
    precision, coverage = plots.quality({"mine": run}).axes
    assert list(coverage.lines[0].get_ydata()) == pytest.approx([20, 50])
    assert list(precision.lines[0].get_ydata()) == pytest.approx([90, 80])
    assert precision.get_ylim()[0] > 70


def test_classes_over_time_are_the_recorded_shares():
    def row(cat: float | None, dog: float) -> dict:
        return {"precision_cat": cat, "coverage_cat": 0.1, "precision_dog": dog, "coverage_dog": 0.5, "coverage": 0.3}

    run = Recorded(row(None, 0.25), row(0.75, 1.0))
    fig = plots.classes_over_time({"mine": run})
    precision, coverage = fig.axes[:2]
    shares = precision.images[0].get_array()
    assert shares.mask.tolist() == [[True, False], [False, False]] and shares.compressed().tolist() == [75, 25, 100]
    assert coverage.images[0].get_array().tolist() == [[10, 10], [50, 50]]
    assert [label.get_text() for label in precision.get_yticklabels()] == ["cat", "dog"]
    assert [text.get_text() for text in precision.texts] == ["75", "25", "100"]
    dogs = plots.classes_over_time({"mine": run, "other": run}, classes=["dog"])
    assert [len(axis.images[0].get_array()) for axis in dogs.axes[:4]] == [1] * 4
    with pytest.raises(S4Error, match="no class 'cow' in these runs; there are cat, dog"):
        plots.classes_over_time({"mine": run}, classes=["cow"])
    with pytest.raises(S4Error, match="probes=0"):
        plots.classes_over_time({"mine": Recorded()})


def test_the_coverage_of_what_keeps_everything_is_words(runs):
    rows = Recorded({"coverage": 1.0, "precision": 0.9}, {"coverage": 1.0, "precision": 0.8})
    [axis] = plots.quality({"mine": rows}).axes
    assert axis.get_title() == "right among all: every pixel is kept, %"
    axes = plots.quality(runs["fixmatch0"]).axes
    assert axes[0].lines[0].get_ydata() == pytest.approx([100 * row["precision"] for row in runs["fixmatch0"].pseudo()])


def test_recorded_agrees_with_the_runs_own_table(runs):
    images, labels, truth = plots.recorded(runs["fixmatch0"])
    known = truth != 255
    right = ((labels.label == truth) & known).sum() / known.sum()
    assert images.shape == (3, 3, 32, 32) and images.min() >= 0 and images.max() <= 1
    assert float(right) == pytest.approx(runs["fixmatch0"].pseudo()[-1]["accuracy"], abs=1e-6)


def test_reliability_by_hand():
    label = torch.tensor([[[0, 0, 0, 0, 1]]])
    truth = torch.tensor([[[0, 0, 0, 1, 255]]])
    confidence = torch.tensor([[[0.95, 0.95, 0.55, 0.55, 0.99]]])
    upper, lower = plots.reliability(believed(label, confidence), truth).axes
    assert upper.lines[1].get_xydata() == pytest.approx(np.array([[0.55, 50], [0.95, 100]]))
    assert lower.patches[0].get_data().values[[5, 9]] == pytest.approx([50, 50])


def test_class_share_and_histogram(runs, task):
    axis = plots.class_share(runs["fixmatch0"]).axes[0]
    _, labels, truth = plots.recorded(runs["fixmatch0"])
    known = (truth != 255) & (labels.valid > 0)
    expected = torch.bincount(truth[known], minlength=task.num_classes) / known.sum()
    assert heights(axis)[: task.num_classes] == pytest.approx((100 * expected).tolist(), rel=1e-4)
    assert sum(heights(axis)[task.num_classes :]) == pytest.approx(100)
    right, wrong = plots.histogram(labels, truth, bins=10).axes[0].patches[:10], ((labels.label != truth) & known).sum()
    tops = plots.histogram(labels, truth, bins=10).axes[0].patches[10:]
    assert sum(patch.get_height() for patch in right) == int(known.sum()) - int(wrong)
    assert sum(patch.get_height() for patch in tops) == int(wrong)


def test_principal_components_keep_the_largest_distances(task):
    torch.manual_seed(0)
    plane = torch.randn(50, 2) * torch.tensor([5.0, 2.0])
    turn, _ = torch.linalg.qr(torch.randn(6, 6))
    points, name = plots.project(plane @ turn[:2], how="pca")
    assert name == "PCA"
    assert np.allclose(torch.pdist(torch.from_numpy(points)), torch.pdist(plane), atol=1e-4)
    again, _ = plots.project(plane @ turn[:2], how="pca")
    assert np.array_equal(points, again)
    figure = plots.embeddings(
        plane @ turn[:2], torch.arange(50) % 4, task, groups=["anchor"] * 25 + ["bank"] * 25, how="pca", title="fresh"
    )
    assert figure.axes[0].get_title().startswith("fresh: PCA of 50")
    assert sum(len(part.get_offsets()) for part in figure.axes[0].collections) == 50
    with pytest.raises(S4Error, match="three vectors"):
        plots.project(plane[:2], how="pca")


def test_pseudo_judges_kept_pixels(task):
    from s4kit.explore.plots.images import REJECTED, RIGHT, WRONG

    label = torch.tensor([[[0, 0, 0, 0]]]).expand(1, 4, 4)
    truth = torch.tensor([[[0, 1, 0, 255]]]).expand(1, 4, 4)
    weight = torch.tensor([[[1.0, 1.0, 0.0, 1.0]]]).expand(1, 4, 4)
    figure = plots.pseudo(torch.rand(1, 3, 4, 4), believed(label, torch.full((1, 4, 4), 0.5), weight), task, truth)
    kept, judged = (axis.images[0].get_array() for axis in [axis for axis in figure.axes if axis.images][3:5])
    assert [tuple(pixel) for pixel in kept[0]] == [tuple(task.palette[0])] * 2 + [REJECTED, tuple(task.palette[0])]
    assert [tuple(pixel) for pixel in judged[0]] == [RIGHT, WRONG, REJECTED, (255, 255, 255)]


def test_lines_dot_few_points():
    few, many = (plots.lines(range(n), {"a": [0.0] * n}).axes[0].lines[0].get_marker() for n in (3, 100))
    assert (few, many) == ("o", "")
