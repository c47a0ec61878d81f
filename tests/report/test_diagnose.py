"""Health checks, each on a run folder made to have its illness."""

import csv
import json

import numpy as np
import pytest
import torch
from toy import toy_objects, toy_points, toy_rooms, toy_task

from s4kit import methods
from s4kit.engine.probe import Looked, Scene
from s4kit.engine.writer import Writer
from s4kit.methods import PseudoLabels
from s4kit.nets import live_norms
from s4kit.report.diagnosing.diagnose import diagnose, show
from s4kit.report.diagnosing.finding import DOWN, THRESHOLD, UP, Finding, agreed


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def make(tmp_path):
    """A healthy run of 100 steps; arguments replace parts of it."""

    def build(
        metrics=None, evaluations=None, pseudo=None, fit=None, method="fixmatch", apart=None, split=None,
        network="efficientnet_lite0", norms=49,
    ):  # fmt: skip
        fit = {"steps": 100, "batch": 8, "seed": 0} | (fit or {})
        config = {"method": method, "options": {}, "task": split or {}, "protocol": "", "fit": fit}
        config |= {"network": network, "norms": norms}
        config["protocol"] = "seeded 16 (16 of 512), seed 0" if split else ""
        (tmp_path / "config.json").write_text(json.dumps(config))
        base = [
            {"step": s, "stage": 0, "lr": 1e-3, "loss": 1, "x": 2 - s / 60, "u": 0.1, "kept_target": 0.6}
            for s in range(100)
        ]
        write(tmp_path / "metrics.csv", metrics(base) if metrics else base)
        scores = [
            {"step": s, "predictor": "student", "miou": 0.6, "iou_a": 0.7, "iou_b": 0.5} for s in range(9, 100, 10)
        ]
        write(tmp_path / "evaluations.csv", evaluations(scores) if evaluations else scores)
        base = {"name": "pseudo", "coverage": 0.6, "precision": 0.9}
        base |= {"share_a": 0.7, "share_b": 0.3, "coverage_a": 0.7, "coverage_b": 0.4}
        quality = [{"step": s} | base for s in range(9, 100, 10)]
        write(tmp_path / "pseudo.csv", pseudo(quality) if pseudo else quality)
        if apart is not None:
            course = zip((9, 99), apart if isinstance(apart, tuple) else (apart, apart))
            write(tmp_path / "norms.csv", [{"step": s, "predictor": "student", "apart": v} for s, v in course])
        return {f["check"]: f for f in diagnose(tmp_path)["findings"]}, diagnose(tmp_path)

    return build


def changed(**values):
    return lambda rows: [row | values for row in rows]


def test_a_healthy_run(make):
    found, whole = make()
    assert whole["healthy"] and {f["level"] for f in found.values()} == {"ok"}
    assert all(not f["advice"] for f in found.values())


@pytest.mark.parametrize(
    ("parts", "check", "level", "words"),
    [
        ({"metrics": changed(x=1.5)}, "supervised loss", "problem", "1.500"),
        ({"metrics": changed(kept_target=0.001)}, "kept share", "problem", "0.1 %"),
        ({"metrics": changed(kept_target=1.0), "pseudo": changed(precision=0.7)}, "kept share", "warning", "100.0 %"),
        ({"metrics": lambda rows: rows[:50]}, "complete", "warning", "50 of 100"),
        ({"metrics": lambda rows: [*rows[:-1], rows[-1] | {"u": "nan"}]}, "finite losses", "problem", "step 99"),
        ({"pseudo": changed(share_b=0.0, coverage_b=0.0)}, "classes with pseudo-labels", "problem", "b ("),
        ({"pseudo": changed(precision=0.4)}, "precision of pseudo-labels", "problem", "40.0 %"),
        ({"fit": {"batch": 1}}, "batch norm", "problem", "1 labelled"),
        ({"fit": {"batch": 2}}, "batch norm", "warning", "2 labelled"),
        ({"apart": 0.3}, "batch norm", "warning", "30.0 % of the probe pixels another class"),
        ({"apart": 0.02, "fit": {"batch": 2}}, "batch norm", "warning", "2.0 % of the probe pixels"),
        (
            {"apart": (0.3, 0.01), "evaluations": lambda rows: [*rows[:-1], rows[-1] | {"iou_b": 0.1}]},
            "batch norm",
            "problem",
            "b (IoU 10.0, was 50.0 at step 9)",
        ),
        ({"evaluations": changed(iou_b=0.0)}, "classes recognised", "warning", "b"),
        (
            {"evaluations": lambda rows: [*rows[:-1], rows[-1] | {"miou": 0.5}]},
            "last and best",
            "warning",
            "10.0 points",
        ),
        (
            {"evaluations": lambda rows: [row | {"miou": 0.1 + row["step"] / 200} for row in rows]},
            "length",
            "warning",
            "points over the last quarter",
        ),
        (
            {"evaluations": lambda rows: [*rows, rows[-1] | {"predictor": "teacher", "miou": 0.4}]},
            "teacher and student",
            "warning",
            "teacher 40.0, student 60.0",
        ),
    ],
)
def test_each_illness_is_found(make, parts, check, level, words):
    found, whole = make(**parts)
    assert found[check]["level"] == level and words in found[check]["figures"] and found[check]["advice"]
    assert whole["healthy"] is (not any(f["level"] == "problem" for f in found.values()))
    assert check in show(whole)


def test_batch_norm_is_judged_by_what_was_measured(make):
    found, _ = make(apart=(0.3, 0.02))
    assert found["batch norm"]["level"] == "ok" and "2.0 %" in found["batch norm"]["figures"]
    died = lambda rows: [*rows[:-1], rows[-1] | {"iou_b": 0.0}]  # noqa: E731
    found, _ = make(apart=0.3, evaluations=died)
    assert "freeze_bn=True, norm='group'" in found["batch norm"]["advice"]
    alone = lambda rows: [{k: v for k, v in row.items() if k != "kept_target"} for row in rows]  # noqa: E731
    found, _ = make(apart=0.3, evaluations=died, metrics=alone, method="supervised")
    assert found["batch norm"]["level"] == "warning", "no pseudo-labels, no collapse under them"


@pytest.mark.parametrize(
    ("net", "spec"),
    [
        ("resnet50c(weights='imagenet')", "resnet50c(freeze_bn=True, norm='group')"),
        ("mit_b2", "mit_b2(norm='group')"),
        ("voxel(width=4)", "voxel(norm='group')"),
    ],
)
def test_the_network_that_is_proposed_exists(net, spec):
    from s4kit.nets import parse
    from s4kit.report.diagnosing.norms import without

    assert f'"{spec}"' in without(net) and parse(spec)


@pytest.mark.parametrize(
    ("method", "task", "network", "words"),
    [
        ("fixmatch", toy_task, "efficientnet_lite0", "efficientnet_lite0(freeze_bn=True, norm='group')"),
        ("supervised", toy_points, "voxel", "voxel(norm='group')"),
        ("supervised", toy_rooms, "voxel", "voxel(norm='group')"),
        ("twist", toy_rooms, "voxel", "voxel(norm='group')"),
        ("supervised", toy_objects, "efficientnet_lite0", ""),  # its batch norms keep their statistics
    ],
)
def test_a_run_says_which_network_it_has_where_none_was_asked_for(make, method, task, network, words):
    """Each kind of data has networks of its own."""
    built = methods.create(method, task())
    assert built.network == network and bool(live_norms(built)) is bool(words)
    found, _ = make(method=method, fit={"batch": 2}, network=network, norms=len(live_norms(built)))
    found = found["batch norm"]
    assert found["level"] == ("warning" if words else "ok") and words in found["advice"] and "resnet" not in str(found)


def test_a_network_without_a_name_is_not_guessed(make):
    for own in ("", "as built", "<function own>"):
        found, _ = make(fit={"batch": 2}, network=own)
        assert "--backbone" not in found["batch norm"]["advice"] and "group norms" in found["batch norm"]["advice"]


def test_baselines_are_not_blamed_for_labels_that_they_do_not_use(make):
    drop = lambda rows: [{k: v for k, v in row.items() if k != "kept_target"} for row in rows]  # noqa: E731
    found, _ = make(metrics=drop, pseudo=changed(precision=0.1), method="supervised")
    assert "kept share" not in found and "precision of pseudo-labels" not in found


def test_a_real_run(run):
    assert diagnose(run)["method"] == "fixmatch"
    config = json.loads((run / "config.json").read_text())
    assert config["network"].startswith("tiny") and config["norms"] > 0


def advice(found):
    return " ".join(of["advice"] for of in found.values())


STARVED = {"share_b": 0.01, "coverage_b": 0.01}


def test_the_threshold_is_not_to_be_raised_and_lowered_at_once(make):
    assert "tau=0.80, now 0.95" in advice(make(pseudo=changed(**STARVED))[0])
    assert "tau=0.97, now 0.95" in advice(make(pseudo=changed(precision=0.5))[0])
    found, _ = make(pseudo=changed(precision=0.5, **STARVED))
    assert "tau=" not in advice(found)
    assert "'precision of pseudo-labels' asks for a higher one" in found["classes with pseudo-labels"]["advice"]
    assert "'classes with pseudo-labels' asks for a lower one" in found["precision of pseudo-labels"]["advice"]
    assert "a class-adaptive rule" in advice(found) and "more labelled images" in advice(found)


def test_steps_are_not_to_be_more_and_fewer_at_once(make):
    rising = lambda rows: [row | {"miou": 0.1 + row["step"] / 200} for row in rows]  # noqa: E731
    falling = lambda rows: [row | {"precision": 0.95 - row["step"] / 500} for row in rows]  # noqa: E731
    assert "more --steps" in advice(make(evaluations=rising)[0])
    assert "fewer --steps" in advice(make(pseudo=falling)[0])
    found, _ = make(evaluations=rising, pseudo=falling)
    assert "more --steps" not in advice(found) and "fewer --steps" not in advice(found)
    assert "'length' asks for more" in found["precision of pseudo-labels"]["advice"]


@pytest.mark.parametrize(("tau", "way"), [(None, DOWN), (0.99, UP), (0.5, DOWN), (0.0, DOWN)])
def test_a_threshold_without_room_is_not_proposed(tau, way):
    found = Finding("a", "warning", "", "It is so", ["another"], {THRESHOLD: way})
    assert agreed([found], tau)[0].advice == "It is so: another."
    alone = Finding("a", "warning", "", "It is so", turns={THRESHOLD: way})
    assert agreed([alone], tau)[0].advice == "It is so."


def test_what_a_split_has_is_not_advised(make):
    blank = {"pseudo": changed(share_b=0.0, coverage_b=0.0), "evaluations": changed(iou_b=0.0)}
    for split, words in (
        ({"labelled": 16, "cover": 0}, "cover=3"),
        ({"labelled": 16, "cover": 3}, "now 16: each class is in 3 of them or more already"),
    ):
        found, _ = make(**blank, split=split)
        for check in ("classes with pseudo-labels", "classes recognised"):
            assert words in found[check]["advice"] and ("cover=3" in found[check]["advice"]) is (not split["cover"])
    assert "more labelled" not in advice(make(**blank, split={"labelled": "all"})[0])


def test_the_weight_of_what_is_kept_is_said(make, tmp_path):
    """One confidence for the batch keeps every pixel, by a weight of 0.47."""
    everything = {"metrics": changed(kept_target=1.0), "pseudo": changed(coverage=1.0, precision=0.7)}
    found, _ = make(**everything, method="cutmix")
    assert "rejects nothing" in found["kept share"]["advice"] and "weight" not in found["kept share"]["figures"]
    snapshots(tmp_path, 0.47)
    found, _ = make(**everything, method="cutmix")
    assert (
        "100.0 % of the unlabelled pixels are trained on at the end, each with a weight of 0.47 on average"
        in (found["kept share"]["figures"])
    )
    assert "rejects nothing" not in found["kept share"]["advice"] and found["kept share"]["level"] == "warning"
    snapshots(tmp_path, 0.004)
    found, _ = make(**everything, method="cutmix")
    assert found["kept share"]["level"] == "problem" and "Next to nothing" in found["kept share"]["advice"]


def snapshots(run, weight):
    """One image of 4 x 4 pixels, half of it kept."""
    label = torch.zeros(1, 4, 4, dtype=torch.long)
    share = torch.zeros(1, 4, 4).index_fill_(1, torch.tensor([0, 1]), weight)
    p = torch.full((1, 2, 4, 4), 0.5)
    writer = Writer(run / "probes", ("a", "b"), ((0, 0, 0), (1, 1, 1)), 4)
    scene = Scene(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8))
    writer.images([scene], ["one"], ["unlabelled"], path=4)
    labels = PseudoLabels(label, p[:, 0], share, torch.ones(1, 4, 4))
    writer.step(99, [Looked([0], {"pseudo": labels}, {"pseudo": p}, label, torch.zeros(1, 3, 4, 4))])


def test_a_class_that_is_taught_as_another(make, tmp_path):
    """Half of the 128 pixels are of class b; of the 64 kept ones of it 48 are called a. A labelled image counts not."""
    truth = np.repeat([0, 1], 64).reshape(8, 16).astype(np.uint8)
    label = torch.from_numpy(truth).long()
    label[4:7] = 0  # three quarters of b
    write_snapshots(tmp_path, [(truth, label, "unlabelled"), (truth, 1 - label, "labelled")])
    found, _ = make(method="cutmix")
    found = found["classes taught as another"]
    assert found["level"] == "warning" and found["classes"] == ["b"]
    assert "of b 25.0 % are taught as b, 75.0 % as a" in found["figures"] and "of a " not in found["figures"]
    found, _ = make(method="supervised", metrics=lambda rows: [{k: r[k] for k in r if "kept" not in k} for r in rows])
    assert "classes taught as another" not in found  # it trains on none


def test_classes_that_are_mostly_right_are_not_blamed(make, tmp_path):
    truth = np.repeat([0, 1], 64).reshape(8, 16).astype(np.uint8)
    label = torch.from_numpy(truth).long()
    label[7] = 0
    write_snapshots(tmp_path, [(truth, label, "unlabelled")])
    found, _ = make(method="cutmix")
    found = found["classes taught as another"]
    assert found["level"] == "ok" and "at worst, of b 75.0 % are taught as b, 25.0 % as a" in found["figures"]


def write_snapshots(run, images):
    """Images of (truth, label, list); all pixels are kept."""
    (h, w), ones = images[0][0].shape, np.ones_like(images[0][0])
    writer = Writer(run / "probes", ("a", "b"), ((0, 0, 0), (1, 1, 1)), w)
    scenes = [Scene(np.zeros((h, w, 3), np.uint8), truth, ones) for truth, _, _ in images]
    writer.images(scenes, [str(k) for k in range(len(images))], [kind for *_, kind in images], path=w)
    label, n = torch.stack([label for _, label, _ in images]), len(images)
    p = torch.full((n, 2, h, w), 0.5)
    labels = PseudoLabels(label, p[:, 0], torch.ones(n, h, w), torch.ones(n, h, w))
    writer.step(99, [Looked(list(range(n)), {"pseudo": labels}, {"pseudo": p}, label, torch.zeros(n, 3, h, w))])


def test_supervised_terms_that_bear_their_networks_names(make):
    named = lambda rows: [{("x_small" if k == "x" else k): v for k, v in r.items()} | {"x_vit": 4.0} for r in rows]  # noqa: E731
    found, _ = make(metrics=named)
    assert found["supervised loss"]["figures"].startswith("2.9") and found["supervised loss"]["level"] == "warning"
    found, _ = make(metrics=lambda rows: [{k: v for k, v in r.items() if k != "x"} for r in rows])
    assert found["supervised loss"]["level"] == "unknown"


def test_an_end_in_nan_is_not_answered_with_resume_alone(make):
    assert "s4kit train --resume" in make(metrics=lambda rows: rows[:50])[0]["complete"]["advice"]
    found, _ = make(metrics=lambda rows: [*rows[:50], rows[50] | {"x": "nan", "loss": "nan"}])
    assert "train anew" in found["complete"]["advice"]
    assert found["finite losses"]["level"] == "problem" and "step 50" in found["finite losses"]["figures"]
    assert "nan" not in found["supervised loss"]["figures"]
