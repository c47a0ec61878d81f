"""A paper's line again: the dry run of the five methods of the walk, and a whole reproduction on a made-up VOC."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from s4kit.cli import main
from s4kit.data.splitting import list_files, published
from s4kit.errors import S4Error
from s4kit.report.reproducing import reported, reproduce, train

ROW = {
    "name": "unimatch", "dataset": "voc_classic", "split": "4", "backbone": "tiny", "crop": 64, "miou": 12.3,
    "last": 11.9, "kind": "readme", "source": "LiheYoung/UniMatch README.md",
}  # fmt: skip
WALK = ("supervised", "cutmix", "cps", "u2pl", "unimatch")
LISTS = (("voc", "classic/183"), ("voc", "blended/1_8"), ("cityscapes", "1_8"))


# ---- a VOC of a few images, and lists of it ----


@pytest.fixture(scope="module")
def small_voc(tmp_path_factory):
    """(root, folder of lists, index of lists): 12 training and 3 validation images of 72 x 80, ids as VOC's."""
    root, lists = tmp_path_factory.mktemp("voc"), tmp_path_factory.mktemp("lists")
    rng = np.random.default_rng(0)
    train, val = ([f"20{kind}_{n:06d}" for n in range(count)] for kind, count in (("07", 12), ("08", 3)))
    for part in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    for name in (*train, *val):
        mask = np.zeros((72, 80), np.uint8)
        mask[20:50, 20:60] = 1 + rng.integers(20)
        image = rng.integers(0, 80, (72, 80, 3), dtype=np.uint8) + mask[..., None] * 6
        Image.fromarray(image.astype(np.uint8)).save(root / f"JPEGImages/{name}.jpg")
        Image.fromarray(mask).save(root / f"SegmentationClass{'' if name in val else 'Aug'}/{name}.png")
    for name, ids in (("trainaug", train), ("val", val)):
        (root / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(ids) + "\n")
    index = copy.deepcopy(published.index())
    for entry, ids in ((index["lists"]["voc/train_aug"], train), (index["splits"]["voc/classic/183"], train[:4])):
        entry |= {"count": len(ids), "sha256": list_files.digest(ids), "unlabelled": len(train) - len(ids)}
        (lists / entry["file"]).parent.mkdir(parents=True, exist_ok=True)
        (lists / entry["file"]).write_text("\n".join(ids) + "\n")
    return root, lists, index


@pytest.fixture
def made_up_plan(monkeypatch):
    """A plan by hand: what the real one says is tested with the planner."""
    small = {"gpu": "T4", "memory": 16e9, "precision": "fp16", "peak": 21.4e9, "fits": False, "largest_batch": 5}
    small |= {"batch": 4, "accumulate": 2, "held": 11.2e9, "step_seconds": 1.25, "hours": 36.1}
    planned = SimpleNamespace(batch=8, parameters=59e6, trained=59e6, flops=5.1e12, gpus=(SimpleNamespace(**small),))
    planned.to_dict = lambda: {"gpus": [small]}
    monkeypatch.setattr(reproduce, "plan_of", lambda asked, gpu, precision: planned)


@pytest.fixture
def on_small_voc(small_voc, monkeypatch, tmp_path, made_up_plan):
    root, lists, index = small_voc
    monkeypatch.setattr(published, "index", lambda: index)
    monkeypatch.setattr(reported, "entries", lambda: (ROW,))  # its classic/183 has 4 labelled images
    monkeypatch.setenv(list_files.STAND_IN, str(lists))
    return ["--data", "voc", "--split", "classic/183", "--root", str(root), "--out", str(tmp_path / "run")]


TRIAL = ["--backbone", "tiny", "--steps", "4", "--crop", "64", "--batch", "2", "--workers", "0", "--device", "cpu"]


def test_a_whole_reproduction(on_small_voc, capsys, tmp_path):
    assert main(["reproduce", "unimatch", *on_small_voc, *TRIAL, "--json"]) == 0
    out, told = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    rows = [line for line in (tmp_path / "run/evaluations.csv").read_text().splitlines() if ",student," in line]
    scores = [100 * float(line.split(",")[2]) for line in rows]
    assert len(scores) == 4  # at most one an epoch, four in a trial
    assert found["obtained"]["last"] == pytest.approx(scores[-1])
    assert found["obtained"]["best"] == pytest.approx(max(scores))
    assert (found["reported_best"], found["reported_last"]) == (12.3, 11.9)
    assert found["difference"] == pytest.approx(max(scores) - 12.3)
    assert found["comparable"] is False and len(found["changed"]) == 4
    told = " ".join(told.split())
    assert f"best on val 12.3 {max(scores):.1f} {max(scores) - 12.3:+.1f} ← the paper's kind of number" in told
    assert f"at the end 11.9 {scores[-1]:.1f} {scores[-1] - 11.9:+.1f}" in told
    assert "Not comparable with the reported number: network tiny instead of resnet101c" in told
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["task"]["labelled"] == "voc/classic/183" and config["fit"]["schedule"] == "poly_after"
    assert config["fit"]["steps"] == 4 and config["fit"]["batch"] == 2
    assert json.loads((tmp_path / "run/reproduce.json").read_text())["obtained"] == found["obtained"]
    assert main(["reproduce", "unimatch", *on_small_voc, *TRIAL]) == 0  # it is there: nothing is trained again
    assert "goes on where it ended" in capsys.readouterr().out
    with pytest.raises(S4Error, match="another set-up"):
        reproduce.reproduce(
            "unimatch", "voc", "classic/183", root=on_small_voc[5], out=tmp_path / "run", backbone="tiny", steps=6,
            crop=64, batch=2, fit={"device": "cpu"},
        )  # fmt: skip


def test_accumulation_keeps_the_batch_and_the_rate(on_small_voc, capsys, tmp_path):
    """The paper's batch in micro-batches: as many images a step, the published learning rate, and that is said."""
    wishes = [*TRIAL, "--batch", "4", "--accumulate", "2", "--steps", "2"]
    assert main(["reproduce", "supervised", *on_small_voc, *wishes]) == 0
    told = " ".join(capsys.readouterr().out.split())
    config = json.loads((tmp_path / "run/config.json").read_text())["fit"]
    assert (config["batch"], config["accumulate"]) == (2, 2)
    assert "batch of 4 comes as 2 micro-batches of 2" in told and "Batch norms" in told
    assert config["lr"] == pytest.approx(1e-3 * 4 / 16)  # scaled for the batch that the user changed, not for the parts


@pytest.mark.parametrize(
    ("batch", "accumulate", "world", "made"),
    [(16, 1, 1, (16, 1)), (16, 3, 1, (4, 4)), (16, 2, 4, (2, 2)), (8, 9, 1, (1, 8)), (10, 3, 1, (2, 5))],
)
def test_micro_batches(batch, accumulate, world, made):
    assert train.micro_batches(batch, accumulate, world) == made
    assert made[0] * made[1] * world == batch


def test_processes_that_cannot_share_the_batch():
    with pytest.raises(S4Error, match="3 processes cannot share"):
        train.micro_batches(8, 1, 3)


# ---- the dry run ----


@pytest.fixture
def nothing_at_hand(monkeypatch, tmp_path, made_up_plan):
    """No data, no lists, no GPU."""
    monkeypatch.setenv("S4KIT_DATA", str(tmp_path / "none"))
    monkeypatch.setenv(list_files.STAND_IN, str(tmp_path / "none"))


@pytest.mark.parametrize("method", WALK)
@pytest.mark.parametrize(("data", "split"), LISTS)
def test_a_dry_run_needs_nothing(method, data, split, nothing_at_hand, capsys):
    assert main(["reproduce", method, "--data", data, "--split", split, "--dry-run", "--json"]) == 0
    out, told = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert max(map(len, told.split("\n\n", 1)[-1].splitlines())) <= 92
    assert found["dry_run"] and found["split"].startswith(f"{data}/") and found["counts"]["labelled"] > 100
    assert {"backbone", "output_stride", "aspp_rates", "low_channels", "align_corners", "multi_grid", "aux"} <= set(
        found["setup"]["network"]
    )
    top = found["reported"][0]
    assert f"{top['miou']:.1f}" in told and top["source"].split("/")[0] in told
    assert found["steps"] > 500 and f"{found['steps']:,} steps" in told
    if not top["exact"]:
        assert "None with this list, network and crop" in told
    told = " ".join(told.split())
    assert "the batch of 8 takes 21 GB" in told or "its share of the batch, 8 of" in told  # the plan is made up for 8
    assert "so 2 micro-batches of 4 (11 GB)" in told and "the learning rate stays" in told


def test_published_figures_of_a_dry_run():
    asked = reproduce.prepare("unimatch", "voc", "classic/183")
    assert asked.split == "voc/classic/183" and asked.steps == 80 * 1300 and asked.evaluations == 80
    assert (asked.rows[0].row["miou"], asked.rows[0].words) == (77.2, "same list, network and crop")
    assert asked.protocol.evaluation.mode == "whole"
    small = reproduce.prepare("unimatch", "voc", "classic/183", backbone="resnet50c")
    assert small.chosen and not small.changed and "ResNet-50" in small.rows[0].row["backbone"]
    cps = reproduce.prepare("cps", "cityscapes", "1_4", backbone="resnet101c")
    assert cps.recipe["method"]["net"] == "resnet101c(multi_grid=(2, 4, 8), aspp='cps')"  # the recipe's options
    assert cps.protocol.evaluation.window == 800 and cps.steps == 160 * 279
    augseg = reproduce.prepare("augseg", "cityscapes", "1_8")
    assert augseg.protocol.evaluation.window == 800  # of its crop


def test_the_effective_rate_is_shown_with_its_reason(nothing_at_hand, capsys):
    """CPS on Cityscapes runs at 0.02 in its file, and at an eighth of it, since its losses are divided by 8."""
    assert main(["reproduce", "cps", "--data", "cityscapes", "--split", "1_8", "--dry-run", "--json"]) == 0
    out, told = capsys.readouterr()
    told, rates = " ".join(told.split()), json.loads(out.splitlines()[-1])["rates"]
    assert "0.0025 backbone, 0.0025 the rest; SGD, momentum 0.9, decay 0.0008" in told
    assert "published 0.02, decay 0.0001; the release divides its losses by 8 processes" in told
    assert "8 labelled and as many unlabelled a step, over all GPUs; 1 on each of the release's 8 processes" in told
    assert (rates["lr"], rates["weight_decay"]) == (0.0025, 0.0008) and "divides its losses by 8" in rates["reason"]
    assert rates["published"] == {
        "lr": 0.02, "weight_decay": 1e-4, "processes": 8, "batch per process": 1, "divided": "all",
    }  # fmt: skip
    assert main(["reproduce", "u2pl", "--data", "voc", "--split", "u2pl/662", "--dry-run"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "contrast=0.25" in told and "contrast: published 1; the release divides this term by 4 processes" in told
    assert "0.001 backbone, 0.01 the rest" in told and "published 0.001" not in told


def test_no_list_and_no_paper():
    with pytest.raises(S4Error, match="voc/classic/92, "):
        reproduce.prepare("unimatch", "voc", None)
    with pytest.raises(S4Error, match="No paper's table is on 'scenes'"):
        reproduce.prepare("unimatch", "scenes", "16")


def test_the_plan_is_of_this_training():
    """The real planner, on a small network: what `reproduce` prints and trains by is all there."""
    asked = reproduce.prepare("supervised", "voc", "classic/183", backbone="tiny", crop=64, steps=100)
    planned = reproduce.plan_of(asked, "T4,24GB")
    assert (planned.batch, planned.crop, planned.steps) == (16, 64, 100)
    told = " ".join(reproduce.words.planned(asked, planned).split())
    assert "T4 16 GB, fp16: the batch of 16 takes" in told and "and fits" in told and "24GB" in told
    assert train.wanted_parts(planned) == 1


# ---- which number ----


def row(**given):
    usual = {"name": "u2pl", "dataset": "voc_blended", "split": "1/8", "backbone": "ResNet-101 / DeepLabV3+"}
    return usual | {"crop": 513, "miou": 50.0, "kind": "readme", "source": "somebody/else README.md"} | given


NET = "resnet101c(output_stride=8)"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"split_protocol": "u2pl_priority"}, "same list, network and crop"),
        ({"split_protocol": "cps"}, "but with the list voc/cps/1323"),
        ({}, "same as far as its source says: it leaves open the list"),
        ({"split_protocol": "u2pl", "crop": 321, "backbone": "ResNet-50"}, "but with ResNet-50 and crop 321"),
        ({"split_protocol": "u2pl", "backbone": "ResNet-101 / DeepLabV3+ (os 16)"}, "but with output stride 16"),
        ({"split_protocol": "u2pl", "backbone": "CNN (R101)", "crop": None},
         "same as far as its source says: it leaves open the network and the crop"),
        ({"split_protocol": "u2pl", "crop": "321 (513)"}, "same as far as its source says: it leaves open the crop"),
        ({"split_protocol": "u2pl", "backbone": "ResNet-101 / PSPNet (ImageNet+COCO pretrained)"},
         "but with PSPNet and pretraining on COCO"),
        ({"split_protocol": "u2pl", "note": "with AEL"}, "but with AEL as its host"),
        ({"note": "mean of 3 random splits"}, "but with labelled lists of its own"),
        ({"split_protocol": "u2pl", "backbone": "DINOv2-Base / DPT"}, "but with DINOv2-Base and DPT"),
    ],
)  # fmt: skip
def test_how_near_a_row_is(given, words, monkeypatch):
    monkeypatch.setattr(reported, "entries", lambda: (row(**given),))
    (found,) = reported.reported("u2pl", "voc", "u2pl/1_8", NET, 513)
    assert found.words.startswith(words)
    assert found.exact == (not words.startswith("but"))


def test_the_nearest_row_comes_first(monkeypatch):
    rows = (
        row(split_protocol="cps", miou=90.0),
        row(miou=80.0),
        row(split_protocol="u2pl", miou=60.0),
        row(split_protocol="u2pl", miou=55.0, source="Haochen-Wang409/U2PL README.md"),
        row(split_protocol="u2pl", miou=99.0, split="1/4"),
        row(split_protocol="u2pl", miou=99.0, name="cps"),
        row(split_protocol="u2pl", miou=99.0, dataset="voc_classic"),
    )
    monkeypatch.setattr(reported, "entries", lambda: rows)
    found = reported.reported("u2pl", "voc", "u2pl/1323", NET, 513)
    assert [r.row["miou"] for r in found] == [55.0, 60.0, 80.0, 90.0]  # its own table before another one
    assert [r.kind for r in found[:2]] == ["the method's own table", "table of another code"]


def test_classic_lists_that_bear_one_number():
    """CPS' unlabelled images are the rest of the 1464; its 732 and PS-MT's are other lists than UniMatch's."""
    assert "voc/classic/183_pseudoseg" in reported.reported("cps", "voc", "classic/183", NET, 512)[0].words
    assert reported.reported("cps", "voc", "classic/183_pseudoseg", NET, 512)[0].exact
    assert "voc/classic/732_psmt" in reported.reported("psmt", "voc", "classic/732", "resnet101c", 512)[0].words
    assert reported.reported("psmt", "voc", "classic/732_psmt", "resnet101c", 512)[0].exact
    assert reported.reported("psmt", "voc", "classic/183", "resnet101c", 512)[0].exact
