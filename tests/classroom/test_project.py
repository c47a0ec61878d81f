"""The open project: labels can't be had from what is handed out, predictions are scored as evaluation scores them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from s4kit.classroom import project
from s4kit.errors import S4Error

SEED = "00112233445566778899aabbccddeeff"


@pytest.fixture
def hidden(tmp_path):
    return project.hidden_set(tmp_path / "hidden", images=4, seed=SEED)


def hand_in(tmp_path, student, maps, suffix="_index"):
    folder = tmp_path / "handed" / student / "predictions"
    folder.mkdir(parents=True)
    for row, label in enumerate(maps):
        Image.fromarray(label).save(folder / f"test_{row:04d}{suffix}.png")
    return folder


def truth():
    return [project._scene(SEED, row)[1] for row in range(4)]


def known(label):
    return np.where(label == 255, 0, label).astype(np.uint8)


def test_the_same_seed_makes_the_same_images_and_another_does_not(hidden, tmp_path):
    again = project.hidden_set(tmp_path / "again", images=4, seed=SEED)
    other = project.hidden_set(tmp_path / "other", images=4)
    for name in ("test_0000.png", "test_0003.png"):
        one, two, three = (np.asarray(Image.open(f"{s['images']}/{name}")) for s in (hidden, again, other))
        assert (one == two).all() and (one != three).any()
    assert len(json.loads((tmp_path / "other" / "secret.json").read_text())["seed"]) == 32
    assert sorted(p.name for p in (tmp_path / "hidden" / "images").iterdir()) == [f"test_{i:04d}.png" for i in range(4)]


def test_images_do_not_share_a_seed_with_each_other_or_the_public_set(hidden):
    from s4kit.data.embedded.scenes_paint import paint

    first = np.asarray(Image.open(f"{hidden['images']}/test_0000.png"))
    assert all((first != paint(seed, row, 96)[0]).any() for seed in (0, 1) for row in range(3))


def test_ranking(hidden, tmp_path):
    labels = truth()
    hand_in(tmp_path, "perfect", [known(t) for t in labels])
    hand_in(tmp_path, "ground", [np.zeros_like(t) for t in labels], suffix="")
    hand_in(tmp_path, "half", [known(t) for t in labels[:2]])
    hand_in(tmp_path, "=evil()", [np.full_like(t, 200) for t in labels])
    hand_in(tmp_path, "huge", [np.zeros((4000, 8), np.uint8)] * 4)
    broken = hand_in(tmp_path, "broken", [])
    (broken / "test_0000.png").write_bytes(b"\x89PNG no picture")
    (tmp_path / "handed" / "nothing").mkdir()
    found = project.rank(tmp_path / "handed", hidden["secret"], tmp_path / "out")
    rows = {row["student"]: row for row in found["rows"]}
    assert found["rows"][0]["student"] == "perfect" and rows["perfect"]["score"] == 1.0 and rows["perfect"]["rank"] == 1
    assert not rows["perfect"]["problems"] and 0 < rows["ground"]["score"] < rows["half"]["score"] < 0.9
    assert rows["half"]["problems"] == ["test_0002.png is missing", "test_0003.png is missing"]
    assert rows["=evil()"]["score"] == rows["broken"]["score"] == rows["huge"]["score"] == 0
    assert "classes are 0 to 6" in rows["=evil()"]["problems"][0] and "no picture" in rows["broken"]["problems"][0]
    assert "8 x 4000" in rows["huge"]["problems"][0]
    assert rows["nothing"]["score"] == 0 and rows["nothing"]["problems"][0] == "test_0000.png is missing"
    with open(found["csv"], newline="") as file:
        assert [row["student"] for row in csv.DictReader(file)][-4:].count("'=evil()") == 1
    page = (tmp_path / "out" / "ranking.html").read_text()
    assert page.index("perfect") < page.index("half") and "<script" not in page


def test_scores_are_those_of_an_evaluation(hidden, tmp_path):
    """Against the definition, pixel by pixel."""
    rng = np.random.default_rng(0)
    labels = truth()
    guesses = [
        np.where(rng.random(t.shape) < 0.7, known(t), rng.integers(0, 7, t.shape)).astype(np.uint8) for t in labels
    ]
    folder = hand_in(tmp_path, "guess", guesses)
    entry = project.score(folder, "guess", SEED, 4)
    all_truth, all_guess = np.stack(labels), np.stack(guesses)
    for c in range(7):
        inside = all_truth != 255
        both = ((all_truth == c) & (all_guess == c) & inside).sum()
        either = (((all_truth == c) | (all_guess == c)) & inside).sum()
        assert entry.scores.iou[c] == pytest.approx(both / either)


def test_bad_input(hidden, tmp_path):
    with pytest.raises(S4Error, match="hexadecimal"):
        project.hidden_set(tmp_path / "x", seed="abc")
    with pytest.raises(S4Error, match="secret would be lost"):
        project.hidden_set(tmp_path / "hidden", images=4)
    with pytest.raises(S4Error, match=r"secret\.json"):
        project.rank(tmp_path, tmp_path / "nowhere.json", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(S4Error, match="predictions"):
        project.rank(tmp_path / "empty", hidden["secret"], tmp_path / "out")
