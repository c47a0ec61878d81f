"""Exports of labelling tools, made by hand in their documented forms, become the folder that the kit trains on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import exported
import numpy as np
import pytest
from exported import HEIGHT, NAMES, REGIONS, WIDTH, WRITERS, truth
from PIL import Image

import s4kit as s4
from s4kit.data import convert
from s4kit.data.own.exports.common import ellipse, polygon, stamped
from s4kit.errors import S4Error


def maps(root: str | Path) -> dict[str, np.ndarray]:
    return {file.stem.rpartition("_")[2]: np.array(Image.open(file)) for file in Path(root).glob("labels/*/*.png")}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_form_gives_the_same_maps_and_a_task(write, tmp_path):
    source = write(tmp_path / "export")
    before = snapshot(source)
    found = convert(source, tmp_path / "set", val=1)
    assert snapshot(source) == before and found.classes == NAMES
    assert (found.labelled, found.val, found.unlabelled) == (2, 1, 2)
    written = maps(found.root)
    assert sorted(written) == sorted(REGIONS)
    for name, label in written.items():
        assert np.array_equal(label, truth(name)), f"{write.__name__}: {name}"
    task = s4.load("folder", root=found.root)
    assert task.classes == NAMES and len(task.labelled) == 2 and len(task.unlabelled) == 2 and len(task.val) == 1
    sample = task.train.read(task.labelled[0])
    assert np.array_equal(sample.label.numpy(), truth(sample.id[-1]))


def test_a_photo_keeps_its_bytes_and_the_same_photos_are_held_out(tmp_path):
    source = exported.labelme(tmp_path / "export")
    found = [convert(source, tmp_path / name, val=1) for name in ("one", "two")]
    one, two = (sorted(str(f.relative_to(of.root)) for f in Path(of.root).rglob("*.*")) for of in found)
    assert one == two
    assert all(f.read_bytes() == (source / f.name).read_bytes() for f in Path(found[0].root).glob("images/*/*.jpg"))


def labelled_alone(tmp_path: Path, shapes: list, **more) -> s4.data.Converted:
    source = exported.labelme(tmp_path / "export")
    told = json.loads((source / "a.json").read_text())
    (source / "a.json").write_text(json.dumps(told | {"shapes": shapes}))
    return convert(source, tmp_path / "set", val=1, **more)


def test_shapes_are_where_the_tool_shows_them(tmp_path):
    label = np.zeros((20, 30), np.uint8)
    polygon([(2.5, 3), (9, 3), (9, 9)])(label, 1)
    assert label[3, 3:9].all() and not label[3, 2] and not label[8, :8].any() and label.sum() == 21
    label[:] = 0
    ellipse(15, 10, 6, 3)(label, 1)
    assert abs(int(label.sum()) - math.pi * 18) < 4 and label[7:13, 9:21].sum() == label.sum()
    turned = np.zeros_like(label)
    ellipse(15, 10, 6, 3, 90)(turned, 1)
    assert turned[4:16, 12:18].sum() == turned.sum() and abs(int(turned.sum()) - int(label.sum())) < 3
    label[:] = 0
    stamped(np.ones((4, 40), bool), -5, 18)(label, 1)
    assert label[18:].all() and not label[:18].any()
    circle = [{"label": "car", "shape_type": "circle", "points": [[30, 20], [30, 30]]}]
    found = labelled_alone(tmp_path, circle)
    assert abs(int((maps(found.root)["a"] == 1).sum()) - 314) < 8


def test_shapes_without_an_area_are_refused_by_name_or_left_out(tmp_path):
    shapes = [{"label": "car", "shape_type": "linestrip", "points": [[1, 1], [5, 5]]}]
    with pytest.raises(S4Error, match=r"a\.json: 'car' is drawn as linestrip.*leave_out=\['linestrip'\]"):
        labelled_alone(tmp_path, shapes)
    assert not (tmp_path / "set").exists() and not list(tmp_path.glob(".set*"))
    found = labelled_alone(tmp_path, shapes, leave_out=["linestrip"])
    assert not maps(found.root)["a"].any() and "left out: 1 of linestrip" in found.said
    with pytest.raises(S4Error, match="box"):
        source = exported.coco(tmp_path / "coco")
        file = source / "annotations" / "instances_default.json"
        told = json.loads(file.read_text())
        told["annotations"][0] |= {"segmentation": [], "bbox": [1, 1, 5, 5]}
        file.write_text(json.dumps(told))
        convert(source, tmp_path / "other", val=1)
    source = exported.yolo(tmp_path / "yolo")
    (source / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(S4Error, match=r"a\.txt, line 1: a box"):
        convert(source, tmp_path / "other", val=1)
    source = exported.cvat(tmp_path / "cvat")
    text = (
        (source / "annotations.xml")
        .read_text()
        .replace("<tag ", "<polyline points='1,1;2,2' ")
        .replace("</tag>", "</polyline>")
    )
    (source / "annotations.xml").write_text(text)
    with pytest.raises(S4Error, match="'car' is drawn as polyline"):
        convert(source, tmp_path / "other", val=1)


def test_compressed_run_lengths_are_read(tmp_path):
    mask = pytest.importorskip("pycocotools.mask")
    source = exported.coco(tmp_path / "export")
    file = source / "annotations" / "instances_default.json"
    told = json.loads(file.read_text())
    for one in told["annotations"]:
        if isinstance(one["segmentation"], dict):
            one["segmentation"] = mask.frPyObjects(one["segmentation"], HEIGHT, WIDTH)
            one["segmentation"]["counts"] = one["segmentation"]["counts"].decode()
    file.write_text(json.dumps(told))
    found = convert(file, tmp_path / "set", images=source / "images", val=1)
    assert all(np.array_equal(label, truth(name)) for name, label in maps(found.root).items())


def test_classes_are_ordered_merged_with_the_background_and_ignored(tmp_path):
    source = exported.labelme(tmp_path / "export")
    found = convert(source, tmp_path / "one", classes=["tree", "rest", "car"], background="rest", val=1)
    assert found.classes == ("tree", "rest", "car") and (maps(found.root)["c"] != 0).all()
    partly = convert(source, tmp_path / "two", background=None, val=1)
    assert partly.classes == ("car", "tree") and 255 in maps(partly.root)["c"] and "void" in partly.said[-1]
    ignored = convert(source, tmp_path / "three", void=["tree"], val=1)
    assert (
        ignored.classes == ("background", "car") and (maps(ignored.root)["a"] == 255).sum() == (truth("a") == 2).sum()
    )
    dropped = convert(source, tmp_path / "four", leave_out=["tree"], val=1)
    assert dropped.classes == ("background", "car") and not (maps(dropped.root)["b"] == 255).any()
    with pytest.raises(S4Error, match=r"'tree'.*`classes` does not name"):
        convert(source, tmp_path / "five", classes=["background", "car"])


def test_photos_without_shapes_are_named_and_not_taken_for_background(tmp_path):
    found = labelled_alone(tmp_path, [])
    assert found.labelled == 1 and found.unlabelled == 3 and "1 photos of the export have no shape" in found.said[0]
    found = convert(tmp_path / "export", tmp_path / "other", val=1, empty="background")
    assert found.labelled == 2 and not maps(found.root)["a"].any()


@pytest.mark.parametrize("upright", [True, False])
def test_a_turned_photo_is_written_in_the_frame_of_its_label(tmp_path, upright):
    source = exported.labelme(tmp_path / "export")
    stored = (
        Image.open(source / "a.jpg").transpose(Image.Transpose.ROTATE_90) if upright else Image.open(source / "a.jpg")
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    stored.save(source / "a.jpg", exif=exif, quality=98)
    found = convert(source, tmp_path / "set", val=1)
    (file,) = Path(found.root).glob("images/*/a.*")
    image = Image.open(file)
    assert image.size == (WIDTH, HEIGHT) and image.getexif().get(0x0112, 1) == 1 and file.suffix == ".png"
    reddish = np.asarray(image).astype(int)[..., 0] - np.asarray(image)[..., 1] > 20
    assert (reddish == (truth("a") == 1)).mean() > 0.95
    assert any("turned by their EXIF tag" in words for words in found.said) == upright


def test_a_label_of_another_size_is_refused(tmp_path):
    source = exported.voc(tmp_path / "export")
    Image.open(source / "JPEGImages" / "a.jpg").resize((30, 20)).save(source / "JPEGImages" / "a.jpg")
    with pytest.raises(S4Error, match=r"a\.png was labelled at 60 x 40 pixels, its photo has 30 x 20"):
        convert(source, tmp_path / "set", val=1)


def test_unknown_colours_and_values_are_counted_and_named(tmp_path):
    source = exported.voc(tmp_path / "voc")
    image = np.array(Image.open(source / "SegmentationClass" / "a.png"))
    image[3, 3] = (1, 2, 3)
    image[0, 0] = (224, 224, 192)
    Image.fromarray(image).save(source / "SegmentationClass" / "a.png")
    with pytest.raises(S4Error, match=r"1 of 2400 pixels.*\(1, 2, 3\)"):
        convert(source, tmp_path / "set", val=1)
    image[3, 3] = 0
    Image.fromarray(image).save(source / "SegmentationClass" / "a.png")
    assert maps(convert(source, tmp_path / "set", val=1).root)["a"][0, 0] == 255
    source = exported.indexed(tmp_path / "indexed")
    (source / "classes.txt").write_text("background\ncar\n")
    with pytest.raises(S4Error, match=r"stores 2, which .*classes\.txt does not name"):
        convert(source, tmp_path / "other", val=1)
    (source / "classes.txt").unlink()
    assert convert(source, tmp_path / "other", val=1).classes == ("class0", "class1", "class2")


def test_label_studio_needs_to_know_its_tasks_and_one_annotation_of_each(tmp_path):
    source = exported.label_studio(tmp_path / "export")
    (source / "task-11-annotation-5-by-2-tag-car-0.png").write_bytes(
        (source / "task-11-annotation-101-by-1-tag-car-0.png").read_bytes()
    )
    with pytest.raises(S4Error, match="task 11 has annotations 101 and 5"):
        convert(source, tmp_path / "set")
    (source / "task-11-annotation-5-by-2-tag-car-0.png").unlink()
    (source / "project-1.json").unlink()
    with pytest.raises(S4Error, match="which photo is task 11"):
        convert(source, tmp_path / "set")


def test_masks_named_after_their_photo_and_class(tmp_path):
    source = exported.per_class(tmp_path / "export")
    for kind in NAMES[1:]:
        for file in (source / kind).iterdir():
            file.rename(source / f"{file.stem}_{kind}.png")
        (source / kind).rmdir()
    (source / "classes.txt").write_text("car\ntree\n")
    found = convert(source, tmp_path / "set", val=1)
    assert found.form == "per_class" and all(np.array_equal(m, truth(name)) for name, m in maps(found.root).items())


def test_masks_are_never_taken_for_photos(tmp_path):
    source = exported.indexed(tmp_path / "export")
    with pytest.raises(S4Error, match="There is no photo in"):
        convert(source / "masks", tmp_path / "set", form="indexed")
    found = convert(source / "masks", tmp_path / "set", images=source / "images", val=1)
    assert found.classes == NAMES and found.unlabelled == 2


def test_the_source_is_never_written_to_and_nothing_is_overwritten(tmp_path):
    source = exported.labelme(tmp_path / "export")
    for out in (source, tmp_path, source / "inside"):
        with pytest.raises(S4Error, match="never written to"):
            convert(source, out)
    convert(source, tmp_path / "set", val=1)
    with pytest.raises(S4Error, match="is there already"):
        convert(source, tmp_path / "set", val=1)
    photos = exported.photos(tmp_path / "photos")
    with pytest.raises(S4Error, match="never written to"):
        convert(source, photos, images=photos)


def test_what_cannot_be_placed_is_refused(tmp_path):
    source = exported.labelme(tmp_path / "export")
    (tmp_path / "none").mkdir()
    with pytest.raises(S4Error, match="is none of coco"):
        convert(tmp_path / "none", tmp_path / "set")
    with pytest.raises(S4Error, match=r"no form 'labelmee'.*labelme"):
        convert(source, tmp_path / "set", form="labelmee")
    with pytest.raises(S4Error, match="no export at"):
        convert(tmp_path / "nowhere", tmp_path / "set")
    with pytest.raises(S4Error, match="empty='maybe'"):
        convert(source, tmp_path / "set", empty="maybe")
    photos = exported.photos(tmp_path / "photos" / "x")
    exported.photos(tmp_path / "photos" / "y")
    with pytest.raises(S4Error, match=r"a\.jpg may be x/a\.jpg or y/a\.jpg"):
        convert(source, tmp_path / "set", images=tmp_path / "photos")
    (photos / "a.jpg").unlink()
    with pytest.raises(S4Error, match=r"1 of 3 images of the export have no photo \(a\.jpg\)"):
        convert(source, tmp_path / "set", images=photos)
    (source / "a.json").write_text("{")
    with pytest.raises(S4Error, match=r"a\.json is no valid JSON"):
        convert(source, tmp_path / "set", form="labelme")


def test_other_photos_stay_and_broken_ones_are_named(tmp_path):
    source = exported.coco(tmp_path / "export")
    Image.open(source / "images" / "d.jpg").save(source / "images" / "d.gif")
    (source / "images" / "d.jpg").unlink()
    (source / "images" / "e.jpg").write_bytes(b"no photo")
    found = convert(source, tmp_path / "set", val=1)
    assert found.unlabelled == 1 and (Path(found.root) / "images" / "unlabelled" / "d.gif").is_file()
    assert any("1 photos cannot be read" in words and "e.jpg" in words for words in found.said)
    assert "per_class" not in str(found) and "2 photos labelled" in str(found)


@pytest.mark.parametrize(
    "names",
    [
        "names: [car, tree]",
        "names: ['car', \"tree\"]\nnc: 2",
        "nc: 2\nnames:\n- car\n- tree\n",
        "names: {0: car, 1: tree}",
    ],
)
def test_yolo_names_in_all_their_spellings(tmp_path, names):
    source = exported.yolo(tmp_path / "export")
    (source / "data.yaml").write_text(names + "\n")
    assert convert(source, tmp_path / "set", val=1).classes == NAMES


def test_the_photos_to_score_can_be_named(tmp_path):
    source = exported.labelme(tmp_path / "export")
    found = convert(source, tmp_path / "one", val=1)
    (source / f"{found.scored[0][0]}.json").rename(tmp_path / "aside.json")
    with pytest.raises(S4Error, match=f"val: {found.scored[0]} is no labelled photo"):
        convert(source, tmp_path / "two", val=found.scored)
    (tmp_path / "aside.json").rename(source / f"{found.scored[0][0]}.json")
    assert convert(source, tmp_path / "two", val=["a.jpg", "c.jpg"]).scored == ("a.jpg", "c.jpg")
    assert sorted(f.name for f in (tmp_path / "two").glob("labels/val/*")) == ["a.png", "c.png"]
    with pytest.raises(S4Error, match="leaves no labelled photo"):
        convert(source, tmp_path / "three", val=["a.jpg", "b.jpg", "c.jpg"])
