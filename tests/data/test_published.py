"""Published splits, on lists that are made here, served from this machine."""

import json
import re
import shutil
from pathlib import Path

import pytest
from served import Served, normal, raw, sha256

import s4kit as s4
import s4kit.data as data
from s4kit.cli import main
from s4kit.data.splitting import list_files, published, split_names
from s4kit.errors import S4Error
from s4kit.explore.packing import tracks
from s4kit.explore.plots import training
from s4kit.report import splits

VOC = [f"2007_{i:06d}" for i in range(8)]  # as in `voc_root`: 4 with masks of VOC, 2 of SBD, 2 val
CITY = [f"aachen/aachen_{i:06d}_000019" for i in range(3)] + [f"ulm/ulm_{i:06d}_000019" for i in range(2)]
LISTS = {
    "voc/train_aug": (VOC[:6], "unimatch"),
    "voc/train": (VOC[:4], "fpl"),
    "voc/val": (VOC[6:], "unimatch"),
    "cityscapes/train": (CITY[::-1], "cps"),
}
# name: labelled, source, training list, images in both, share
SPLITS = {
    "voc/classic/2": ([VOC[3], VOC[1]], "unimatch", "voc/train_aug", [], ""),
    "voc/classic/2_pseudoseg": ([VOC[3], VOC[0]], "cps", "voc/train", [VOC[3]], ""),
    "voc/cps/3": ([VOC[0], VOC[4], VOC[5]], "cps", "voc/train_aug", [], "1/2"),
    "voc/u2pl/3": ([VOC[2], VOC[0], VOC[1]], "u2pl", "voc/train_aug", [], "1/2"),
    "cityscapes/cps/1_2": ([CITY[4], CITY[0]], "unimatch", "cityscapes/train", [], "1/2"),
    "cityscapes/u2pl/1_2": ([CITY[1], CITY[0]], "u2pl", "cityscapes/train", [], "1/2"),
}
REPOS = {"unimatch": "A/UniMatch", "cps": "B/TorchSemiSeg", "u2pl": "C/U2PL", "fpl": "D/FPL"}


def own_index() -> dict:
    found = {"sources": {k: {"repo": r, "commit": "c0ffee"} for k, r in REPOS.items()}, "lists": {}, "splits": {}}
    for name, (ids, source) in LISTS.items():
        found["lists"][name] = entry(name, ids, source)
    for name, (ids, source, train, shared, share) in SPLITS.items():
        rest = len(LISTS[train][0]) - len(ids) + len(shared)
        more = {"family": name.split("/")[1], "fraction": share, "train": train, "unlabelled": rest, "shared": shared}
        found["splits"][name] = entry(name, ids, source) | more | {"note": "made here", "same": ""}
    return found


def entry(name: str, ids: list[str], source: str) -> dict:
    file = name.replace("/", "_") + ".txt"
    return {"file": file, "path": f"lists/{file}", "count": len(ids), "sha256": sha256(ids), "source": source}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The kit knows these lists and no others; nothing is asked of the real network."""
    path = tmp_path / "index.json"
    path.write_text(json.dumps(own_index()))
    monkeypatch.setattr(split_names, "INDEX", path)
    monkeypatch.setattr(list_files, "MIRRORS", ("http://127.0.0.1:9/{repo}/{commit}/{path}",))
    monkeypatch.setattr(list_files, "PAUSE", 0)
    monkeypatch.delenv("S4KIT_SPLITS", raising=False)
    forget = (split_names.index, split_names._aliases)
    for cached in forget:
        cached.cache_clear()
    split_names._told.clear()
    yield own_index()
    for cached in forget:
        cached.cache_clear()


@pytest.fixture
def server(index, monkeypatch):
    """The lists in the raw forms of their sources, as the first mirror."""
    one = Served()
    for part, known in (("lists", LISTS), ("splits", SPLITS)):
        for name, (ids, source, *_) in known.items():
            one.files[f"/{REPOS[source]}/c0ffee/{index[part][name]['path']}"] = raw(
                ids, name.split("/")[0], REPOS[source]
            )
    monkeypatch.setattr(list_files, "MIRRORS", (one.url + "/{repo}/{commit}/{path}", list_files.MIRRORS[0]))
    yield one
    one.close()


# ---- the index that the kit carries ----


def test_the_index_adds_up():
    known = published.index()
    assert len(published.names()) == len(known["splits"]) == 38
    for name, of in known["splits"].items():
        split = published.get(name)
        assert split.name == name == published.resolve(name) and str(split.count) in str(split)
        assert split.unlabelled_count == split.train_count - split.count + len(split.shared), name
        assert re.fullmatch("[0-9a-f]{64}", of["sha256"]) and re.fullmatch("[0-9a-f]{40}", split.file.commit)
        assert (
            split.file.urls()[0]
            == f"https://raw.githubusercontent.com/{split.file.repo}/{split.file.commit}/{of['path']}"
        )
        if of.get("images_showing"):
            assert len(of["images_showing"]) == len(of["pixel_share"]) == 21
            assert max(of["images_showing"]) <= split.count and sum(of["pixel_share"]) == pytest.approx(1, abs=1e-3)
    digests = {name: of["sha256"] for name, of in known["splits"].items()}
    assert digests["voc/classic/732"] != digests["voc/classic/732_pseudoseg"] == digests["voc/classic/732_psmt"]
    assert not {d for n, d in digests.items() if "/cps/" in n} & {d for n, d in digests.items() if "/u2pl/" in n}
    shared = {image for of in known["splits"].values() for image in of.get("shared", ())}
    assert set(re.findall(r"20\d\d_\d{6}", split_names.INDEX.read_text())) == shared  # facts, no lists


@pytest.mark.parametrize(
    ("asked", "dataset", "name"),
    [
        ("voc/classic/183", None, "voc/classic/183"),
        ("classic/183", "voc", "voc/classic/183"),
        ("classic/183", None, "voc/classic/183"),
        ("voc/cps/1_8", None, "voc/cps/1323"),
        ("u2pl/1/8", "voc", "voc/u2pl/1323"),
        ("voc/blended/662", None, "voc/cps/662"),
        ("blended/1_2", "voc", "voc/cps/5291"),
        ("cityscapes/1_16", None, "cityscapes/cps/1_16"),
        ("1_8", "cityscapes", "cityscapes/cps/1_8"),
        ("372", "cityscapes", "cityscapes/cps/1_8"),
        ("cityscapes/u2pl/372", None, "cityscapes/u2pl/1_8"),
        ("1/512", "coco", "coco/1_512"),
        ("ADE20K/316", None, "ade20k/1_64"),
    ],
)
def test_names(asked, dataset, name, capsys):
    split_names._told.clear()
    assert published.resolve(asked, dataset) == name == published.get(asked, dataset=dataset).name
    said = capsys.readouterr().err
    family = not {"classic", "cps", "u2pl"} & set(asked.split("/")) and name.split("/")[0] in ("voc", "cityscapes")
    assert (f"This is {name}" in said and "u2pl" in said) if family else not said


@pytest.mark.parametrize(
    ("asked", "dataset", "words"),
    [
        ("voc/1_8", None, "voc/cps/1323 or voc/u2pl/1323"),
        ("1_8", "voc", "voc/cps/1323 or voc/u2pl/1323"),
        ("1_8", None, "cityscapes/1_8 or ade20k/1_8: write the name in full"),
        ("voc/classic/184", None, "voc/classic/183"),
        ("voc/classic/92", "cityscapes", "a split of voc, not of cityscapes"),
        ("classic/92", "camvid", "no published split for camvid"),
        ("cityscapes/u2pl/1_30", None, "Did you mean cityscapes/cps/1_30"),
    ],
)
def test_names_that_are_none(asked, dataset, words):
    with pytest.raises(S4Error, match=re.escape(words)):
        published.resolve(asked, dataset)


def test_what_is_a_name(tmp_path, monkeypatch):
    assert all(map(published.is_name, ["voc/classic/183", "classic/183", "1_16", "coco/1_512"]))
    assert not any(map(published.is_name, ["1/16", "0.5", "23", "all", 23, ["a/b"], "lists/a.txt", Path("voc/x")]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/list").write_text("a\n")
    assert not published.is_name("mine/list")  # a file that is there is one
    with pytest.raises(S4Error, match="no published split for scenes"):
        data.load("scenes", labelled="1_16", n_train=20, n_val=2, side=48)


def test_the_flag():
    assert (
        published.flagged("classic/183", None, "voc") == published.flagged(None, "voc/classic/183") == "voc/classic/183"
    )
    assert published.flagged(None, "1/16", "voc") == "1/16" and published.flagged(None) is None
    with pytest.raises(S4Error, match="--split classic/92 and --labelled 4"):
        published.flagged("classic/92", "4", "voc")
    with pytest.raises(S4Error, match="--split-seed 3 draws a split"):
        published.flagged("classic/92", None, "voc", 3)


# ---- fetching ----


@pytest.mark.parametrize(
    ("text", "dataset", "ids"),
    [
        ("\ufeffJPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png\n", "voc", ["2007_000032"]),
        ("2007_000032\r\n\r\n2008_000001", "voc", ["2007_000032", "2008_000001"]),
        ("leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png gtFine/x", "cityscapes", ["ulm/ulm_000001_000019"]),
        ("/images/train/ulm_000001_000019.png\t/segmentation/y.png", "cityscapes", ["ulm/ulm_000001_000019"]),
        ("ulm/ulm_000001_000019\n", "cityscapes", ["ulm/ulm_000001_000019"]),
        ("train2017/000000000009.jpg masks/000000000009.png", "coco", ["000000000009"]),
        ("images/training/ADE_train_00000001.jpg x", "ade20k", ["ADE_train_00000001"]),
    ],
)
def test_forms_of_a_list(text, dataset, ids):
    assert list_files.parse(text, dataset) == ids


@pytest.mark.parametrize("form", ["raw", "normal"])
def test_lists_are_fetched_once_checked_and_kept(server, form, tmp_path):
    if form == "normal":
        known = {of["path"]: ids for part, all_ in (("lists", LISTS), ("splits", SPLITS)) for of, ids in
                 ((own_index()[part][n], v[0]) for n, v in all_.items())}  # fmt: skip
        server.files = {path: normal(known[path.split("/c0ffee/")[1]]) for path in server.files}
    for name, (ids, _, train, shared, _) in SPLITS.items():
        split = s4.splits.get(name)
        assert split.where() is None
        assert list(split.labelled) == ids and list(split.train) == LISTS[train][0]
        assert set(split.unlabelled) == set(LISTS[train][0]) - set(ids) | set(shared)
        assert len(split.unlabelled) == split.unlabelled_count
        assert (tmp_path / "nowhere/splits" / split.file.file).read_bytes() == normal(ids)  # $S4KIT_DATA/splits
    assert s4.splits.read_list("voc/val") == tuple(VOC[6:])
    asked = len(server.log)
    server.close()
    assert asked == len(set(server.log)) == len(SPLITS) + len(LISTS)
    assert all(list(published.get(name).labelled) == of[0] for name, of in SPLITS.items())


def test_an_address_or_a_folder_instead_of_the_network(server, tmp_path, monkeypatch):
    monkeypatch.setattr(list_files, "MIRRORS", ("http://127.0.0.1:9/{repo}/{commit}/{path}",))
    assert published.get("voc/cps/3", source=server.url).labelled == tuple(SPLITS["voc/cps/3"][0])
    server.close()
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("S4KIT_SPLITS", str(folder))
    with pytest.raises(S4Error, match=r"voc/u2pl/3: .*given/voc_u2pl_3.txt does not exist.*S4KIT_SPLITS"):
        published.get("voc/u2pl/3").labelled  # noqa: B018
    (folder / "voc_u2pl_3.txt").write_bytes(raw(SPLITS["voc/u2pl/3"][0], "voc", "UniMatch"))
    assert published.get("voc/u2pl/3").labelled == tuple(SPLITS["voc/u2pl/3"][0])
    (folder / "voc_u2pl_3.txt").write_bytes(normal(SPLITS["voc/cps/3"][0]))
    with pytest.raises(S4Error, match=r"voc/u2pl/3: .* is not the published list: sha256 .*Save http"):
        published.get("voc/u2pl/3").labelled  # noqa: B018


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (normal(VOC[:2]), "2 ids, published are 3"),
        (normal([VOC[0], VOC[5], VOC[4]]), "sha256 of its ids"),  # the order counts
        (b"<html>log in first</html>\n", "1 ids"),
        (None, "HTTP 404"),
    ],
)
def test_another_list_is_refused(server, body, words, tmp_path):
    path = next(p for p in server.files if p.endswith("voc_cps_3.txt"))
    server.files.pop(path)
    if body is not None:
        server.files[path] = body
    split = published.get("voc/cps/3")
    with pytest.raises(S4Error) as caught:
        split.labelled  # noqa: B018
    said = str(caught.value)
    assert "voc/cps/3" in said and words in said and f"{server.url}{path}" in said and "127.0.0.1:9" in said
    assert f"as {tmp_path}/nowhere/splits/voc_cps_3.txt" in said and "S4KIT_SPLITS" in said  # by hand
    (tmp_path / "nowhere/splits").mkdir(parents=True)
    (tmp_path / "nowhere/splits/voc_cps_3.txt").write_bytes(raw(SPLITS["voc/cps/3"][0], "voc", "UniMatch"))
    server.close()
    assert split.labelled == tuple(SPLITS["voc/cps/3"][0])  # done by hand, in the source's form


def test_the_next_mirror_helps_and_damage_is_mended(server, tmp_path, monkeypatch):
    monkeypatch.setattr(list_files, "MIRRORS", (server.url + "/gone/{repo}/{commit}/{path}", list_files.MIRRORS[0]))
    assert published.get("voc/cps/3").labelled == tuple(SPLITS["voc/cps/3"][0])
    kept, spare = tmp_path / "nowhere/splits/voc_cps_3.txt", tmp_path / "cache/splits/voc_cps_3.txt"
    kept.write_text("2007_000001\n")
    assert published.get("voc/cps/3").where() == str(spare)
    spare.unlink()
    assert published.get("voc/cps/3").labelled == tuple(SPLITS["voc/cps/3"][0])
    assert kept.read_bytes() == spare.read_bytes() == normal(SPLITS["voc/cps/3"][0])


# ---- tasks ----


def ids(task, rows):
    return [task.train.ids[row] for row in rows]


@pytest.mark.parametrize("asked", ["voc/classic/2", "classic/2"])
def test_load_voc(server, voc_root, asked):
    task = s4.load("voc", root=voc_root, labelled=asked, crop=16)
    assert ids(task, task.labelled) == [VOC[3], VOC[1]]
    assert ids(task, task.unlabelled) == [VOC[0], VOC[2], VOC[4], VOC[5]] and task.overlap == 0
    assert task.protocol.startswith("voc/classic/2 (2 labelled, 4 unlabelled of voc/train_aug)")
    assert task.config["labelled"] == "voc/classic/2"
    both = s4.load("voc", root=voc_root, labelled=asked, overlap=True)
    assert both.overlap == 2 and len(both.unlabelled) == 6 and "all 6 used unlabelled" in both.protocol
    some = s4.load("voc", root=voc_root, labelled=asked, unlabelled=[VOC[5]])
    assert ids(some, some.unlabelled) == [VOC[5]] and some.protocol.startswith(
        "voc/classic/2 (2 labelled), unlabelled of"
    )


def test_cps_classic_lists_share_an_image(server, voc_root):
    """The other images of the 1464 (here 4), not of the 10582 (6); and one labelled image, as published."""
    task = s4.load("voc", root=voc_root, labelled="voc/classic/2_pseudoseg")
    assert ids(task, task.labelled) == [VOC[3], VOC[0]] and ids(task, task.unlabelled) == [VOC[1], VOC[2], VOC[3]]
    assert task.overlap == 1 and "1 of them also unlabelled" in str(task)
    assert "voc/classic/2_pseudoseg (2 labelled, 3 unlabelled of voc/train, 1 in both as published)" in task.protocol


def test_load_cityscapes_names_the_family(server, cityscapes_root, capsys):
    task = s4.load("cityscapes", root=cityscapes_root, labelled="1_2")
    assert ids(task, task.labelled) == [CITY[4], CITY[0]] and len(task.unlabelled) == 3
    assert task.config["labelled"] == "cityscapes/cps/1_2" and "cityscapes/cps/1_2" in task.protocol
    assert "the other one is cityscapes/u2pl/1_2" in capsys.readouterr().err
    other = s4.load("cityscapes", root=cityscapes_root, labelled="u2pl/1_2")
    assert ids(other, other.labelled) == [CITY[1], CITY[0]] and "cityscapes/u2pl/1_2" in other.protocol


@pytest.mark.parametrize("left", ["data", "cache", "beside"])
def test_a_task_is_reopened_without_network_from_any_folder(server, voc_root, tmp_path, monkeypatch, left):
    monkeypatch.delenv("S4KIT_DATA")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    task = s4.load("voc", root=voc_root, labelled="voc/cps/1_2", crop=16)
    server.close()
    if left == "cache":
        monkeypatch.chdir(tmp_path)
    else:
        shutil.rmtree(tmp_path / "cache/splits")
    if left == "beside":
        shutil.move(tmp_path / "work/data/splits", voc_root.parent / "splits")
    again = s4.load(**json.loads(json.dumps(task.config)))
    for field in ("labelled", "unlabelled", "protocol", "config"):
        assert getattr(again, field) == getattr(task, field), field


def test_a_data_set_that_lacks_images(server, voc_root):
    lists = voc_root / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "trainaug.txt").unlink()
    with pytest.raises(
        S4Error, match=r"voc/classic/2: the data set at hand lacks 2 of its 6 images \(first: 2007_000004\)"
    ):
        s4.load("voc", root=voc_root, labelled="voc/classic/2")
    with pytest.raises(S4Error, match="s4kit data get voc"):
        s4.load("voc", root=voc_root, labelled="voc/cps/3")
    assert s4.load("voc", root=voc_root, labelled="voc/classic/2_pseudoseg").overlap == 1  # needs the 1464 alone
    (lists / "train.txt").write_text("\n".join(VOC[:3]))
    with pytest.raises(S4Error, match=r"2_pseudoseg: .*lacks 1 of its 4 images \(first: 2007_000003\)"):
        s4.load("voc", root=voc_root, labelled="voc/classic/2_pseudoseg")
    (lists / "trainaug.txt").write_text("\n".join(VOC[:6]))
    (voc_root / "VOCdevkit/VOC2012/SegmentationClassAug/2007_000004.png").unlink()
    with pytest.raises(S4Error, match="voc/cps/3: 2007_000004 is listed as labelled but has no label map"):
        s4.load("voc", root=voc_root, labelled="voc/cps/3")


def test_a_list_of_another_data_set(index, voc_root):
    with pytest.raises(S4Error, match="a split of cityscapes, not of voc"):
        s4.load("voc", root=voc_root, labelled="cityscapes/u2pl/1_2")


# ---- tables and comparisons ----


def test_table(index):
    shown = s4.splits.table("voc")
    assert len(shown) == 4 and len(s4.splits.table()) == 6
    assert "voc/classic/2_pseudoseg" in repr(shown) and "never compare" in shown._repr_html_()
    with pytest.raises(S4Error, match="no published split for 'camvid'"):
        s4.splits.table("camvid")


def test_compare_counts_the_masks_at_hand(server, voc_root):
    found = s4.splits.compare("voc/cps/3", "voc/u2pl/1_2", root=voc_root)
    assert (found.shared, found.only, found.hidden, found.jaccard) == (1, (2, 2), (2, 2), 1 / 5)
    source = s4.load("voc", root=voc_root, labelled="all").train
    own = [sum(int((source.read(source.ids.index(i)).label == 7).any()) for i in SPLITS[n][0]) for n in found.names]
    assert [found.images[0][7], found.images[1][7]] == own
    assert sum(found.pixels[0]) == pytest.approx(1) and str(voc_root) in found.counted
    for shown in (str(found), found._repr_html_()):
        assert "voc/cps/3 (3 labelled" in shown and "voc/u2pl/3" in shown and "Jaccard 0.200" in shown
    assert found.names == ("voc/cps/3", "voc/u2pl/3") and json.dumps(found.to_dict())


def test_compare_without_masks_says_so(server):
    found = s4.splits.compare("voc/classic/2", "voc/cps/3")
    assert found.classes == () and found.distance is None and "no masks at hand (voc is not at" in str(found)
    with pytest.raises(S4Error, match="class balance of voc/classic/2 and voc/cps/3 is unknown"):
        s4.plots.presence(found)
    assert s4.splits.compare("voc/cps/3", "voc/cps/1_2").jaccard == 1
    with pytest.raises(S4Error, match="compare splits of one data set"):
        s4.splits.compare("voc/classic/2", "cityscapes/cps/1_2")


def test_compare_with_a_split_of_ones_own(server, voc_root):
    mine = s4.load("voc", root=voc_root, labelled=[VOC[3]])
    found = s4.splits.compare(mine, s4.splits.get("voc/classic/2"))
    assert (found.shared, found.only) == (1, (0, 1)) and "lies within voc/classic/2" in str(found)
    assert "masks of the task voc" in found.counted and found.labelled == (1, 2)
    published_one = s4.load("voc", root=voc_root, labelled="voc/cps/3")
    assert s4.splits.compare(published_one, mine).names[0] == "voc/cps/3"


def test_the_index_counts_need_no_masks(tmp_path, monkeypatch):
    """The real index has the class counts of VOC's lists; here the lists themselves stand in for the network."""
    a, b = published.get("voc/classic/732"), published.get("voc/classic/732_pseudoseg")
    a.__dict__.update(labelled=("1", "2", "3"), unlabelled=("4",))
    b.__dict__.update(labelled=("3", "4"), unlabelled=("1", "3"))
    found = splits.compare(a, b)
    assert (found.shared, found.only, found.hidden) == (1, (2, 1), (2, 1))
    assert found.images == (a.images_showing, b.images_showing) and found.counted == splits.COUNTED
    assert len(found.classes) == 21 and 0.02 < found.distance < 0.03
    wide, log = s4.plots.presence(found).axes
    drawn = [bar.get_width() for bar in wide.patches]
    assert (
        len(drawn) == 42
        and drawn[7] == 100 * a.images_showing[7] / 3
        and drawn[21 + 8] == 100 * b.images_showing[8] / 2
    )
    assert [bar.get_width() for bar in log.patches][:21] == [100 * share for share in a.pixel_share]
    names = [text.get_text() for text in wide.figure.legends[0].get_texts()]
    assert names == ["voc/classic/732 (3 labelled)", "voc/classic/732_pseudoseg (2 labelled)"]


# ---- the shell and runs ----


def answer(capsys, *argv, status=0):
    assert main([*argv, "--json"]) == status
    told = capsys.readouterr()
    return json.loads(told.out.strip().splitlines()[-1]), told.err


def test_shell_lists_one_and_two(server, voc_root, capsys):
    found, shown = answer(capsys, "data", "splits")
    assert [row["name"] for row in found] == list(SPLITS) and "voc/u2pl/3" in shown
    assert len(answer(capsys, "data", "splits", "cityscapes")[0]) == 2
    one, shown = answer(capsys, "data", "splits", "voc/blended/3")
    assert one["name"] == "voc/cps/3" and one["kept"] is None and "not here yet" in shown and "voc/u2pl/3" in shown
    two, shown = answer(capsys, "data", "splits", "cps/3", "u2pl/3", "--root", str(voc_root))
    assert (two["shared"], two["names"]) == (1, ["voc/cps/3", "voc/u2pl/3"]) and "images A" in shown
    assert "voc_cps_3.txt" in answer(capsys, "data", "splits", "voc/cps/3")[0]["kept"]
    assert "takes one name" in answer(capsys, "data", "check", "voc", "cps/3", status=2)[0]["error"]
    assert "Did you mean" in answer(capsys, "data", "splits", "voc/cps/4", status=2)[0]["error"]


def test_a_run_names_its_list_and_goes_on_without_network(server, voc_root, tmp_path, capsys):
    small = ["--backbone", "tiny", "--crop", "32", "--batch", "2", "--device", "cpu", "--workers", "0"]
    asked = ["--data", "voc", "--root", str(voc_root), *small, "--steps", "2", "--out", str(tmp_path / "run")]
    found, _ = answer(capsys, "train", "supervised", "--split", "cps/1_2", *asked)
    assert found["protocol"].startswith("voc/cps/3 (3 labelled, 3 unlabelled of voc/train_aug)")
    server.close()
    run = s4.open_run(tmp_path / "run")
    assert run.split == run.config["task"]["labelled"] == "voc/cps/3" and len(run.task().labelled) == 3
    assert s4.plots.curves(run).get_suptitle() == s4.plots.losses(run).get_suptitle() == "voc/cps/3"
    assert tracks.titles_of([run]) == ["supervised · seed 0 · voc/cps/3"]  # of the explorer
    again = ["train", "--resume", str(tmp_path / "run"), "--data", "voc"]
    assert answer(capsys, *again, "--split", "blended/1_2")[0]["steps"] == 2  # the same list by another name
    said, _ = answer(capsys, *again, "--split", "u2pl/3", status=2)
    assert "--labelled voc/u2pl/3 is asked for" in said["error"] and "has voc/cps/3" in said["error"]


class Trained:
    """A run as far as a curve goes."""

    rounds, score, path = (), "mIoU", "run"

    def __init__(self, method, split):
        self.config, self.split, self.course = {"method": method}, split, [(1, 0.5)]


def test_runs_on_two_lists_are_not_seeds_of_one_method():
    one, other, own = (Trained("cps", split) for split in ("voc/cps/662", "voc/u2pl/662", ""))
    assert list(training.named([one, Trained("cps", one.split)])) == ["cps"]
    shown = s4.plots.curves([one, other, own], kept=False)
    assert shown.get_suptitle() == "voc/cps/662 and voc/u2pl/662"
    lines = [text.get_text() for text in shown.axes[0].get_legend().get_texts()]
    assert sorted(lines) == ["cps, own split", "cps, voc/cps/662", "cps, voc/u2pl/662"]
    with pytest.raises(S4Error, match="'mine' has runs on voc/cps/662 and voc/u2pl/662"):
        s4.plots.curves({"mine": [one, other]}, kept=False)


def test_a_comparison_names_its_list(server, voc_root, tmp_path, capsys):
    small = ["--backbone", "tiny", "--crop", "32", "--batch", "2", "--device", "cpu", "--workers", "0"]
    where = ["--data", "voc", "--root", str(voc_root), "--split", "classic/2", "--out", str(tmp_path / "c")]
    found, shown = answer(capsys, "compare", "supervised", "--no-baselines", *where, *small, "--steps", "2")
    assert found["protocol"].startswith("voc/classic/2 (2 labelled") and "voc/classic/2" in shown
    assert "voc/classic/2 (2 labelled" in (tmp_path / "c/report.html").read_text()
