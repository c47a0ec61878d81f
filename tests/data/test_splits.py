"""Fractions, counts, lists, coverage: who is labelled."""

import json

import pytest
import torch

import s4kit.data as data
from s4kit.data.seeding import mix_seed, mix_seeds
from s4kit.data.splitting.lists import bare
from s4kit.data.splitting.splits import count_of, is_list, shuffled
from s4kit.errors import S4Error

SMALL = {"n_train": 24, "n_val": 4, "side": 48}


@pytest.mark.parametrize(
    ("labelled", "total", "count"),
    [
        ("1/16", 367, 23),
        ("1/8", 367, 46),
        ("1/2", 366, 183),
        (0.0625, 367, 23),
        ("0.1", 100, 10),
        (0.1, 100, 10),
        (0.3, 10, 3),
        (23, 367, 23),
        ("23", 367, 23),
        ("all", 7, 7),
        (1.0, 7, 7),
        (1, 7, 1),
        ("1/1", 7, 7),
        ("1/1000", 7, 1),
    ],
)
def test_count(labelled, total, count):
    assert count_of(labelled, total) == count


@pytest.mark.parametrize("labelled", ["0", 0, -3, "3/2", 2.5, "x", "1/0", True, 400, float("nan"), float("inf")])
def test_count_refuses(labelled):
    with pytest.raises(S4Error, match="labelled="):
        count_of(labelled, 367)


def test_a_number_is_not_a_list():
    assert not is_list("1/16") and not is_list("23") and not is_list(0.5)
    assert is_list("lists/a.txt") and is_list(["a", "b"])


def test_seeded_order_is_pinned():
    """The split is part of a result: it must be the same on every platform and version."""
    ids = [f"train_{i:04d}" for i in range(8)]
    assert shuffled(ids, range(8), 0) == [5, 7, 3, 6, 1, 2, 4, 0]
    turned = ids[::-1]
    assert [turned[r] for r in shuffled(turned, range(8), 3)] == [ids[r] for r in shuffled(ids, range(8), 3)]


def test_many_seeds_at_once_are_those_one_by_one():
    names = ["a", "train/0001", "ä", ""]
    assert mix_seeds("split", -1, names=names) == [mix_seed("split", -1, name) for name in names]


def test_larger_share_contains_the_smaller():
    small, large = (data.load("scenes", labelled=n, cover=0, **SMALL).labelled for n in (4, 12))
    assert set(small) < set(large)


def test_split_is_a_function_of_the_seed():
    a, b, c = (data.load("scenes", labelled=6, seed=s, **SMALL) for s in (5, 5, 6))
    assert a.labelled == b.labelled and a.unlabelled == b.unlabelled
    assert a.labelled != c.labelled


def test_labelled_are_not_unlabelled_unless_asked():
    apart = data.load("scenes", labelled=6, **SMALL)
    assert apart.overlap == 0 and len(apart.unlabelled) == 18
    both = data.load("scenes", labelled=6, overlap=True, **SMALL)
    assert both.overlap == 6 and len(both.unlabelled) == 24
    assert "also unlabelled" in both.protocol


@pytest.mark.parametrize("seed", range(12))
def test_cover(seed):
    task = data.load("scenes", labelled=9, cover=3, seed=seed, n_train=80, n_val=2, side=48)
    tally = torch.zeros(7)
    for row in task.labelled:
        for value in task.train.read(row).label.unique().tolist():
            if value != 255:
                tally[value] += 1
    assert len(task.labelled) == 9 and (tally >= 3).all()
    assert "each class in >= 3" in task.protocol


def test_impossible_cover_names_the_class():
    with pytest.raises(S4Error, match=r"No choice of 3 labelled images was found that has '\w+' in 3 of them"):
        data.load("scenes", labelled=3, cover=3, **SMALL)
    with pytest.raises(S4Error, match="cover=3 asks for every class in 3 labelled images, but there are only 2"):
        data.load("scenes", labelled=2, cover=3, **SMALL)


def test_lists(tmp_path):
    ids = ["train_0003", "train_0001"]
    path = tmp_path / "mine.txt"
    path.write_text("# two\ntrain_0003\n\nfolder/train_0001.png labels/train_0001.png\n")
    by_file, by_ids = (data.load("scenes", labelled=x, **SMALL) for x in (path, ids))
    assert by_file.labelled == by_ids.labelled == (3, 1)
    assert "mine.txt" in by_file.protocol
    some = data.load("scenes", labelled=ids, unlabelled=["train_0005"], **SMALL)
    assert some.unlabelled == (5,)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["train_0001", "nope"], "1 of 2 ids are not among the 24 training images .nope."),
        (["train_0001", "val_0001"], "validation images .val_0001."),
        (["train_0001", "train_0002", "train_0001"], "listed twice .train_0001."),
        ([], "empty"),
    ],
)
def test_bad_lists(ids, message):
    with pytest.raises(S4Error, match=message):
        data.load("scenes", labelled=ids, **SMALL)


def test_missing_and_empty_list_files(tmp_path):
    with pytest.raises(S4Error, match=r"gone\.txt does not exist"):
        data.load("scenes", labelled=str(tmp_path / "gone.txt"), **SMALL)
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    with pytest.raises(S4Error, match=r"empty\.txt is empty"):
        data.load("scenes", labelled=tmp_path / "empty.txt", **SMALL)


def test_bare():
    assert bare("leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png") == "ulm_000001_000019"
    assert bare("JPEGImages/2007_000032.jpg") == bare("2007_000032") == "2007_000032"
    assert bare("frame.0001") == "frame.0001"


@pytest.mark.parametrize("labelled", ["1/4", 5, ["train_0001"]])
def test_config_reopens_the_same_task(labelled):
    task = data.load("scenes", labelled=labelled, seed=3, crop=40, scale=(0.9, 1.1), overlap=True, **SMALL)
    again = data.load(**json.loads(json.dumps(task.config)))
    for field in ("name", "classes", "labelled", "unlabelled", "crop", "scale", "protocol", "evaluation", "config"):
        assert getattr(again, field) == getattr(task, field), field
    assert data.load(**task.with_(crop=24).config).crop == 24


def test_unknown_name_and_option():
    with pytest.raises(S4Error, match="Did you mean camvid"):
        data.load("camvd")
    with pytest.raises(S4Error, match=r"no option 'sides'.*side"):
        data.load("scenes", sides=3)


@pytest.mark.parametrize("bad", [{"crop": 2}, {"crop": 10.5}, {"scale": (2, 1)}, {"scale": (0, 1)}, {"size": 0.5}])
def test_bad_numbers(bad):
    with pytest.raises(S4Error):
        data.load("scenes", **bad, **SMALL)


def test_list_files_are_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "own.txt").write_text("train_0001\n")
    (tmp_path / "rest.txt").write_text("train_0002\n")
    monkeypatch.chdir(tmp_path)
    task = data.load("scenes", labelled="own.txt", unlabelled="rest.txt", **SMALL)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = data.load(**json.loads(json.dumps(task.config)))
    assert (again.labelled, again.unlabelled, again.config) == (task.labelled, task.unlabelled, task.config)
