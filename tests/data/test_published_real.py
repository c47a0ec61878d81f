"""The real published lists, where S4KIT_TEST_DATA/splits has them: served here in the forms of their sources."""

import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from served import Served, normal, raw

import s4kit as s4
from s4kit.data.splitting import list_files, published

VARIANTS = {f"voc/classic/{n}" for n in ("92_pseudoseg", "183_pseudoseg", "366_pseudoseg", "732_psmt")}


@pytest.fixture(scope="module")
def folder() -> Path:
    """The lists as they were read from their sources, with an index.json of facts."""
    place = os.environ.get("S4KIT_TEST_DATA")
    if not place or not Path(place, "splits/index.json").is_file():
        pytest.skip("S4KIT_TEST_DATA names no folder with splits/index.json: the check on the real lists did not run")
    return Path(place, "splits")


@pytest.fixture
def stand_in(folder, monkeypatch) -> Path:
    monkeypatch.setenv("S4KIT_SPLITS", str(folder))
    return folder


def every() -> dict[str, list_files.ListFile]:
    """All lists with a source: the labelled ones by split, and training and validation lists."""
    known = {name: of for name, of in published.index()["lists"].items() if "sha256" in of}
    return {n: published.get(n).file for n in published.names()} | {
        n: published._file(n, of) for n, of in known.items()
    }


def ids_of(folder: Path, file: str) -> list[str]:
    return (folder / file).read_text().split()


@pytest.mark.parametrize("form", ["raw", "normal"])
def test_every_list_comes_from_its_source(folder, form, monkeypatch, tmp_path):
    """As a source writes it, or already as bare ids: the same ids in the same order, with the sha256 of the index."""
    server, lists = Served(), every()
    try:
        for wanted in lists.values():
            ids = ids_of(folder, wanted.file)
            body = raw(ids, wanted.dataset, wanted.repo) if form == "raw" else normal(ids)
            server.files[f"/{wanted.repo}/{wanted.commit}/{wanted.path}"] = body
        monkeypatch.setattr(list_files, "MIRRORS", (server.url + "/{repo}/{commit}/{path}",))
        for name, wanted in lists.items():
            ids = list_files.read(wanted)
            assert len(ids) == len(set(ids)) == wanted.count and list_files.digest(ids) == wanted.sha256, name
            assert list(ids) == ids_of(folder, wanted.file), name
        assert len(set(server.log)) == len(server.log)  # each once
    finally:
        server.close()
    assert all(list_files.kept(wanted) is not None for wanted in lists.values())


def test_the_facts_are_those_of_the_index(folder):
    """Every list of the index is known, with its count, sha256, source and unlabelled images."""
    lists = {of["file"]: of for of in json.loads((folder / "index.json").read_text())["lists"]}
    mine = {name: wanted for name, wanted in every().items() if name not in VARIANTS}
    assert {wanted.file for wanted in mine.values()} == {f for f, of in lists.items() if of["protocol"] != "derived"}
    for name, wanted in mine.items():
        of = lists[wanted.file]
        assert (wanted.count, wanted.sha256, wanted.path) == (of["count"], of["sha256"], of["source_path"]), name
        assert of["source_repo"] == f"github.com/{wanted.repo}" and of["source_commit"] == wanted.commit, name
        split = published.get(name) if name in published.names() else None
        official = of["checks"].get("official_unlabelled_count")
        assert split is None or official in (None, split.unlabelled_count), name
        if split and split.fraction:
            assert of["fraction"] == split.fraction, name


@pytest.mark.parametrize("name", published.names())
def test_labelled_and_unlabelled_are_as_the_protocol_has_them(stand_in, name):
    split = published.get(name)
    labelled = set(split.labelled)
    assert len(labelled) == len(split.labelled) == split.count
    if split.dataset == "coco":
        assert split.unlabelled is None and not labelled & set(published.read_list("coco/val"))
        return
    unlabelled = set(split.unlabelled)
    assert labelled <= set(split.train) and len(unlabelled) == len(split.unlabelled) == split.unlabelled_count
    assert labelled & unlabelled == set(split.shared) and labelled | unlabelled == set(split.train)
    assert not (labelled | unlabelled) & set(published.read_list(f"{split.dataset}/val"))
    if "unlabelled_sha256" in (of := published.index()["splits"][name]):  # of the published unlabelled list, sorted
        assert list_files.digest(sorted(unlabelled)) == of["unlabelled_sha256"] and len(split.shared) == 1


def test_the_two_lists_of_732_and_the_two_families(stand_in):
    found = s4.splits.compare("voc/classic/732", "voc/classic/732_pseudoseg")
    assert (found.shared, found.only) == (371, (361, 361))
    fine = set(published.read_list("voc/train"))
    for family in ("cps", "u2pl"):
        sets = [set(published.get(f"voc/{family}/{n}").labelled) for n in (662, 1323, 2646, 5291)]
        of = published.index()["splits"]
        counted = [of[f"voc/{family}/{n}"]["fine"] for n in (662, 1323, 2646, 5291)]
        assert [len(s & fine) for s in sets] == counted
        assert [a < b for a, b in pairwise(sets)] == ([True] * 3 if family == "cps" else [True, True, False])
    both = s4.splits.compare("voc/cps/662", "voc/u2pl/662")
    assert both.only[0] > 600 and set(published.get("voc/classic/1464").labelled) == fine


def test_class_counts_of_the_index(stand_in):
    """Counted again from the image tags of the masks, where the folder has them."""
    path = stand_in / "voc_lists/image_tags.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the class counts were not checked")
    rows = (line.split() for line in path.read_text().splitlines())
    tags = {name: set(map(int, of[0].split(","))) if of else set() for name, *of in rows}
    for name in published.names("voc"):
        split = published.get(name)
        tally = Counter(c for image in split.labelled for c in tags[image])
        assert [tally[c] for c in range(1, 21)] == list(split.images_showing[1:]), name
