"""Health checks, each on a run folder made to have its illness."""

import csv
import json

import pytest

from s4kit.report.diagnose import diagnose, show


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def make(tmp_path):
    """A healthy run of 100 steps; arguments replace parts of it."""

    def build(metrics=None, evaluations=None, pseudo=None, fit=None, method="fixmatch", apart=None):
        fit = {"steps": 100, "batch": 8, "seed": 0} | (fit or {})
        config = {"method": method, "options": {}, "task": {}, "protocol": "", "fit": fit}
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
        ("<function own>", "resnet50(freeze_bn=True, norm='group')"),
    ],
)
def test_the_network_that_is_proposed_exists(net, spec):
    from s4kit.nets import parse
    from s4kit.report.norms import without

    assert f'"{spec}"' in without(net) and parse(spec)


def test_baselines_are_not_blamed_for_labels_that_they_do_not_use(make):
    drop = lambda rows: [{k: v for k, v in row.items() if k != "kept_target"} for row in rows]  # noqa: E731
    found, _ = make(metrics=drop, pseudo=changed(precision=0.1), method="supervised")
    assert "kept share" not in found and "precision of pseudo-labels" not in found


def test_a_real_run(run):
    assert diagnose(run)["method"] == "fixmatch"


def test_an_end_in_nan_is_not_answered_with_resume_alone(make):
    assert "s4kit train --resume" in make(metrics=lambda rows: rows[:50])[0]["complete"]["advice"]
    found, _ = make(metrics=lambda rows: [*rows[:50], rows[50] | {"x": "nan", "loss": "nan"}])
    assert "train anew" in found["complete"]["advice"]
    assert found["finite losses"]["level"] == "problem" and "step 50" in found["finite losses"]["figures"]
    assert "nan" not in found["supervised loss"]["figures"]
