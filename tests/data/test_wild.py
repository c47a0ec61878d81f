"""Data as people have it: each odd folder gives the right task, an error with a mend, or a warning that names it."""

import json
import unicodedata
import warnings

import numpy as np
import pytest
from PIL import Image

import s4kit.data as data
from s4kit.cli import main
from s4kit.data.decode import decode_image, header_size
from s4kit.data.own.class_tables import read_classes
from s4kit.data.reading import stored
from s4kit.data.reading.text import read_lines
from s4kit.data.splitting.lists import bare, candidates
from s4kit.engine.device import pick_device
from s4kit.errors import S4Error, S4Warning

from . import odd
from .conftest import index_map, picture


def relabel(root, change):
    """Every label map anew: `change` of its ids."""
    for file in (root / "labels").rglob("*.png"):
        Image.fromarray(change(np.array(Image.open(file))).astype(np.uint8)).save(file)


def said(**options):
    """The warnings of a `load`, as one text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data.load("folder", **options)
    return " | ".join(str(w.message) for w in caught if issubclass(w.category, S4Warning))


# ---- labels are looked at ----


def test_right_data_is_not_talked_about(own_folder):
    assert said(root=own_folder, labelled=5) == ""


def test_a_class_that_is_taken_for_void(own_folder):
    relabel(own_folder, lambda ids: 255 * (ids > 1))
    (own_folder / "classes.txt").write_text("background\nobject\n")
    with pytest.raises(S4Error, match=r"object.*255, which means void.*ids=\{0: 0, 255: 1\}"):
        data.load("folder", root=own_folder)
    task = data.load("folder", root=own_folder, ids={0: 0, 255: 1})
    assert set(task.train.read(0).label.unique().tolist()) == {0, 1}


def test_one_of_three_classes_that_is_taken_for_void(own_folder):
    relabel(own_folder, lambda ids: np.where(ids == 2, 255, ids))
    words = said(root=own_folder, labelled="all")
    assert "car has no pixel" in words and "ids={0: 0, 1: 1, 255: 2}" in words


def test_no_labelled_pixel(own_folder):
    for file in (own_folder / "labels/train").iterdir():
        Image.fromarray(np.full((24, 32), 255, np.uint8)).save(file)
    with pytest.raises(S4Error, match="No labelled pixel: the 20 labelled maps are 255"):
        data.load("folder", root=own_folder, labelled="all")
    index_map(own_folder / "labels/train/t19.png", 3)
    words = said(root=own_folder, labelled="all")
    assert "95% of the 20 labelled maps is void" in words


def test_the_look_is_bounded_and_says_so(own_folder, monkeypatch):
    from s4kit.data.checking import look

    monkeypatch.setattr(look, "MAPS", {"labelled": 4, "val": 2})
    relabel(own_folder, lambda ids: np.where(ids == 1, ids, 255))
    index_map(own_folder / "labels/train/t03.png", 3)
    words = said(root=own_folder, labelled="all")
    assert "of the 4 labelled maps looked at (of 20) is void" in words


def test_a_map_that_cannot_be_used_is_named_and_not_trained_on(own_folder):
    index_map(own_folder / "labels/val/v1.png", 9)
    assert "v1.png has the label id" in said(root=own_folder, labelled=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", S4Warning)
        task = data.load("folder", root=own_folder, labelled=4)
    assert len(task.faults) == 1 and not data.check(task).ok


def test_ids_with_void(own_folder):
    (own_folder / "classes.txt").unlink()
    relabel(own_folder, lambda ids: ids + 1)
    task = data.load("folder", root=own_folder, ids={0: 255, 1: 0, 2: 1, 3: 2})
    assert task.num_classes == 3 and (task.train.read(0).label.max() <= 2).all()
    assert data.load(**json.loads(json.dumps(task.config))).num_classes == 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("0:255", "is no mapping"),
        ({}, "is no mapping"),
        ({0: 0, 255: 5}, "to class 5, but there are 3"),
        ({0: 0, 1: -1}, "to class -1"),
        ({0: 0, 1: "car"}, "no pair of numbers"),
        ({0: 0, 300: 1, 1: 2}, "not within 0..255"),
    ],
)
def test_ids_that_cannot_be_meant(own_folder, ids, message):
    with pytest.raises(S4Error, match=message):
        data.load("folder", root=own_folder, ids=ids)


def test_ids_with_gaps(own_folder):
    (own_folder / "classes.txt").unlink()
    with pytest.raises(S4Error, match="no stored value to class 1"):
        data.load("folder", root=own_folder, ids={0: 0, 1: 2, 2: 3})


def test_guessed_ids_far_apart(own_folder):
    (own_folder / "classes.txt").unlink()
    relabel(own_folder, lambda ids: 17 * ids)
    with pytest.raises(S4Error, match=r"0, 17, 34: 32 of the 35 classes.*ids=\{0: 0, 17: 1, 34: 2\}"):
        data.load("folder", root=own_folder)
    relabel(own_folder, lambda ids: np.where(ids == 34, 254, ids // 17))
    with pytest.raises(S4Error, match=r"where 254 means void, ids=\{0: 0, 1: 1, 254: 255\}"):
        data.load("folder", root=own_folder)


def test_smoothed_masks(own_folder):
    (own_folder / "classes.txt").unlink()
    for number, file in enumerate(sorted((own_folder / "labels").rglob("*.png"))):
        disc = np.hypot(*np.mgrid[-12:12, -16:16]) + number % 5
        Image.fromarray((255 / (1 + np.exp(disc - 8))).astype(np.uint8)).save(file)
    with pytest.raises(S4Error, match=r"values .*smoothed"):
        data.load("folder", root=own_folder)


@pytest.mark.parametrize("classes", ["a,b", True, 0, 300, [], ["a", "a"], ["a", " "]])
def test_classes_that_cannot_be_meant(own_folder, classes):
    with pytest.raises(S4Error, match="class"):
        data.load("folder", root=own_folder, classes=classes)


def test_train_ids_called_label_ids(cityscapes_root):
    for file in cityscapes_root.rglob("*_labelIds.png"):
        index_map(file, 19, 16, 32)
    with pytest.raises(S4Error, match="these are train ids"):
        data.load("cityscapes", root=cityscapes_root, labelled=2)


# ---- files and what is not used ----


def test_formats_are_read_or_named(own_folder):
    Image.open(own_folder / "images/train/t00.png").save(own_folder / "images/train/t00.webp", lossless=True)
    (own_folder / "images/train/t00.png").unlink()
    (own_folder / "images/train/t01.heic").write_bytes(b"x")
    (own_folder / "images/train/day2").mkdir()
    (own_folder / "images/test").mkdir()
    picture(own_folder / "images/unlabeled/x.png", seed=70)
    index_map(own_folder / "labels/train/alone.png")
    (own_folder / "images/train/.hidden").touch()
    words = said(root=own_folder, labelled=5)
    assert "1 of the 21 files" in words and "1 .heic" in words and "(day2)" in words and "images/test" in words
    assert "1 of the 21 label maps" in words and "alone.png" in words and "hidden" not in words
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", S4Warning)
        task = data.load("folder", root=own_folder, labelled=5)
    assert "unlabelled/x" in task.train.ids and len(task.train) == 21
    assert any("heic" in words for words in data.check(task).warnings)


def test_accents_are_one_letter(own_folder):
    name = "gr\u00fcn"
    picture(own_folder / "images/train" / f"{unicodedata.normalize('NFD', name)}.png", seed=70)
    index_map(own_folder / "labels/train" / f"{name}.png")
    task = data.load("folder", root=own_folder, labelled=[name])
    assert task.train.ids[task.labelled[0]] == f"train/{name}"
    picture(own_folder / "images/train" / f"{name}.png", seed=71)
    with pytest.raises(S4Error, match=r"two files called gr.n.png, stored as .*u0308"):
        data.load("folder", root=own_folder)


@pytest.mark.parametrize("tag", [2, 3, 6])
def test_turned_photos(own_folder, tag):
    side = 24 if tag == 6 else 32  # of a square photo the label's shape says nothing
    exif = Image.Exif()
    exif[0x0112] = tag
    image = np.random.default_rng(0).integers(0, 256, (24, side, 3), dtype=np.uint8)
    Image.fromarray(image).save(own_folder / "images/train/t00.png", exif=exif)
    index_map(own_folder / "labels/train/t00.png", 3, 24, side)
    words = said(root=own_folder, labelled=["t00", "t01"])
    task = data.load("folder", root=own_folder, labelled=["t00", "t01"])
    assert any("EXIF" in text for text in data.check(task).warnings)
    assert "1 of the 6 photos with a label map" in words and 'exif="ignore"' in words
    task = data.load("folder", root=own_folder, labelled=["t00", "t01"], exif="ignore")
    assert (task.train.read(0).image.permute(1, 2, 0).numpy() == image).all()
    assert said(root=own_folder, labelled=["t00", "t01"], exif="ignore") == ""


def test_a_label_on_the_stored_pixels_tells_itself(own_folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(own_folder / "images/train/t00.png", exif=exif)
    assert 'exif="ignore"' in said(root=own_folder, labelled=["t00"])  # its map cannot be used as it is
    task = data.load("folder", root=own_folder, labelled=["t00"], exif="ignore")
    assert task.train.read(0).label.shape == (24, 32) and header_size(task.train.image_path(0)) == (32, 24)


# ---- images of more than eight bits, and large ones ----


def test_bits_are_found_over_the_images(own_folder):
    grey = np.random.default_rng(0).integers(0, 256, (24, 32))
    for number in range(20):
        path = own_folder / f"images/train/t{number:02d}.png"
        odd.save_png(path, (grey * (16 if number else 4)).astype(np.uint16), 16)
    words = said(root=own_folder, labelled=4)
    assert "read as 12-bit" in words
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", S4Warning)
        task = data.load("folder", root=own_folder, labelled=4)
    assert task.config["bits"] == 12
    assert (task.train.read(1).image[0].numpy() == grey).all() and (
        task.train.read(0).image[0].numpy() == grey // 4
    ).all()
    with pytest.raises(S4Error, match=r"beyond 0\.\.1023 \(10 bits\)"):
        data.load("folder", root=own_folder, labelled=4, bits=10).train.read(3)
    assert (
        data.load("folder", root=own_folder, labelled=4, bits=16).train.read(1).image[0].numpy() == grey // 16
    ).all()


def test_a_single_file_is_read_by_its_values(tmp_path):
    grey = np.arange(256).reshape(16, 16)
    odd.save_png(tmp_path / "a.png", (grey * 16).astype(np.uint16), 16)
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "b.tif")
    assert all((decode_image(str(tmp_path / name))[..., 0] == grey).all() for name in ("a.png", "b.tif"))
    Image.fromarray(grey.astype(np.int32) - 1).save(tmp_path / "c.tif")
    with pytest.raises(S4Error, match=r"c\.tif holds values from -1"):
        decode_image(str(tmp_path / "c.tif"))


def test_large_images_are_not_called_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = picture(tmp_path / "big.png", 20, 20)
    with pytest.raises(S4Error, match=r"big\.png has more than .*tiles.*S4KIT_MAX_PIXELS"):
        decode_image(str(path))
    monkeypatch.setenv(stored.MAX_PIXELS, "1000")
    assert decode_image(str(path)).shape == (20, 20, 3)
    monkeypatch.setenv(stored.MAX_PIXELS, "many")
    with pytest.raises(S4Error, match="no number of pixels"):
        decode_image(str(path))


def test_pages_of_a_photo(tmp_path):
    odd.two_pages(tmp_path / "a", np.zeros((8, 8), np.uint8))
    with pytest.raises(S4Error, match="holds 2 pictures"):
        decode_image(str(tmp_path / "a.tif"))


# ---- text, lists, class tables ----


def test_text_files(tmp_path):
    path = tmp_path / "a.txt"
    for raw in ("a\r\nb\n".encode("utf-16"), b"\xef\xbb\xbfa\n\nb", "a\rb".encode("utf-32")):
        path.write_bytes(raw)
        assert read_lines(path) == ["a", "b"]
    path.write_bytes("a\nStra\u00dfe".encode("cp1252"))
    with pytest.raises(S4Error, match=r"a\.txt is not UTF-8 \(byte 0xdf in line 2\).*save it"):
        read_lines(path)
    path.write_bytes("a".encode("utf-16-le"))
    with pytest.raises(S4Error, match="zero bytes"):
        read_lines(path)
    with pytest.raises(S4Error, match="cannot be opened"):
        read_lines(tmp_path)


@pytest.fixture
def numbered(own_folder):
    """Frames that are counted anew in each part of the data."""
    for part, count in (("train", 20), ("val", 4)):
        for kind in ("images", "labels"):
            for number, file in enumerate(sorted((own_folder / kind / part).iterdir())[:count]):
                file.rename(file.with_name(f"{number:04d}{file.suffix}"))
    for number in range(3):
        picture(own_folder / f"images/unlabelled/{number:04d}.png", seed=60 + number)
    return own_folder


def rows(root, *lines, **options):
    path = root / "list.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    task = data.load("folder", root=root, labelled=["train/0009"], unlabelled=path, **options)
    return [task.train.ids[row] for row in task.unlabelled]


def test_more_of_the_path_beats_the_name(numbered):
    assert rows(
        numbered, "images/unlabelled/0000.png", "images/unlabeled/0001.png", "/elsewhere/images/train/0002.png"
    ) == [
        "unlabelled/0000",
        "unlabelled/0001",
        "train/0002",
    ]
    assert rows(numbered, "train\\0001.png labels\\train\\0001.png  # why", "0007") == ["train/0001", "train/0007"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/val/0001.png", "validation images"),
        ("val/0001", "validation images"),
        ("images/unlabelled/0005.png", "not among"),
        ("0001", "fits train/0001, unlabelled/0001 equally well"),
        ("holiday/0003.jpg", r"fits train/0003, val/0003 equally well"),
        ("0007 1", "not among"),
        ("0007 (copy)", "not among"),
    ],
)
def test_a_line_never_means_another_image(numbered, line, message):
    with pytest.raises(S4Error, match=message):
        rows(numbered, line)


def test_names_with_blanks_and_hashes(own_folder):
    for number, name in enumerate(("IMG 3", "IMG 3 (copy)", "IMG #4", "IMG")):
        picture(own_folder / f"images/train/{name}.png", seed=60 + number)
        index_map(own_folder / f"labels/train/{name}.png", seed=60 + number)
    path = own_folder / "list.txt"
    path.write_text("IMG 3 (copy)\nIMG #4\nimages/train/IMG 3.png\tlabels/train/IMG 3.png\nt00.png,labels/t00.png\n")
    task = data.load("folder", root=own_folder, labelled=path)
    assert [task.train.ids[row] for row in task.labelled] == [
        "train/IMG 3 (copy)",
        "train/IMG #4",
        "train/IMG 3",
        "train/t00",
    ]


def test_candidates():
    assert candidates("a b.png c/d.png # x") == ["a b.png c/d.png # x", "a b.png c/d.png", "a"]
    assert candidates("2007_000032 -1") == ["2007_000032 -1"]
    assert bare("x/y.webp") == "y"


@pytest.mark.parametrize(
    "form",
    ["{0}.jpg", "JPEGImages/{0}.jpg SegmentationClass/{0}.png\r", "/home/me/VOC2012/JPEGImages/{0}.jpg", "\ufeff{0}"],
)
def test_voc_lists_in_any_form(voc_root, form):
    lists = voc_root / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    right = data.load("voc", root=voc_root, labelled=2)
    for name in ("trainaug", "val"):
        ids = (lists / f"{name}.txt").read_text().split()
        (lists / f"{name}.txt").write_text("\n".join(form.format(i) for i in ids).replace("\n\ufeff", "\n"), "utf-8")
    task = data.load("voc", root=voc_root, labelled=2)
    assert task.train.ids == right.train.ids and task.labelled == right.labelled and task.val.ids == right.val.ids


def test_voc_lists_with_copies_and_val_images(voc_root):
    path = voc_root / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt"
    ids = path.read_text().split()
    path.write_text("\n".join([*ids, ids[0]]))
    with pytest.raises(S4Error, match=r"1 ids are listed twice"):
        data.load("voc", root=voc_root, labelled=2)
    path.write_text("\n".join([*ids, "2007_000006"]))
    with pytest.warns(S4Warning, match=r"1 val images are in the training list, too.*2007_000006"):
        data.load("voc", root=voc_root, labelled=2)


def test_camvid_lists_of_names(camvid_root):
    right = data.load("camvid", root=camvid_root)
    path = camvid_root / "train.txt"
    path.write_bytes("\n".join(right.train.ids).encode("utf-16"))
    assert data.load("camvid", root=camvid_root).train.images == right.train.images


@pytest.mark.parametrize(
    ("text", "names", "given"),
    [
        ("a\nb c\n", ("a", "b c"), {}),
        ("# label:color_rgb:parts:actions\na:0,0,0::\nb:255,1,2::\n", ("a", "b"), {(0, 0, 0): 0, (255, 1, 2): 1}),
        ("name,r,g,b\nsky,1,2,3\nold road,4,5,6\n", ("sky", "old road"), {(1, 2, 3): 0, (4, 5, 6): 1}),
        ("__ignore__\n_background_\ncat\n", ("_background_", "cat"), {}),
        ("0 a\n1 b\n", ("a", "b"), {}),
        ("0: a\n1: b 9 8 7\n", ("a", "b"), {(9, 8, 7): 1}),
    ],
)
def test_class_tables(tmp_path, text, names, given):
    (tmp_path / "classes.txt").write_text(text)
    table = read_classes(tmp_path / "classes.txt")
    assert table.names == names and table.given == given
    assert all(table.palette[label] == colour for colour, label in given.items())
    assert len(set(table.palette)) == len(names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\na\n", "both called 'a'"),
        ("a 1 2 3\nb 1 2 3\n", "have one colour"),
        ("1 a\n2 b\n", "numbers its classes 1, 2"),
        ("# nothing\n", "names 0 classes"),
    ],
)
def test_class_tables_that_cannot_be_meant(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(S4Error, match=message):
        read_classes(tmp_path / "classes.txt")


def test_arrays_with_equal_names():
    image, label = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)
    with pytest.raises(S4Error, match="both called"):
        data.load_arrays([image], [label], [image], [label], classes=["a", "a"], crop=8)


# ---- colour maps ----


@pytest.fixture
def colour_maps(tmp_path):
    ids = np.repeat(np.arange(4), 25).reshape(10, 10)
    (tmp_path / "colour").mkdir()
    Image.fromarray(np.array(odd.COLOURS, np.uint8)[ids]).save(tmp_path / "colour/m.png")
    return tmp_path / "colour"


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (
            (odd.COLOURS[0], (201, 40, 60), *odd.COLOURS[2:]),
            r"shows the colour \(201, 40, 60\) of class 1.*\(200, 40, 60\)",
        ),
        (odd.COLOURS[:3], r"25 pixels \(25.0%\) outside the palette .*void=\[\(70, 90, 240\)\]"),
        ((*odd.COLOURS, odd.COLOURS[1]), "twice: class 1 and 4"),
        ([(i % 256, 7, i // 256) for i in range(300)], "at most 255"),
        (((1, 2),), "is no"),
        ((), "0 colours"),
    ],
)
def test_palettes_that_do_not_fit(colour_maps, tmp_path, palette, message):
    with pytest.raises(S4Error, match=message):
        data.convert_labels(colour_maps, tmp_path / "ids", palette)
    assert not (tmp_path / "ids").exists()


def test_colours_that_are_meant_to_be_void(colour_maps, tmp_path):
    assert data.convert_labels(colour_maps, tmp_path / "ids", odd.COLOURS[:3], void=odd.COLOURS[3:]) == 1
    assert np.unique(np.array(Image.open(tmp_path / "ids/m.png"))).tolist() == [0, 1, 2, 255]


def test_folders_that_cannot_be_converted(colour_maps, tmp_path):
    with pytest.raises(S4Error, match="written over itself"):
        data.convert_labels(colour_maps, tmp_path / "colour/../colour", odd.COLOURS)
    (tmp_path / "jpeg").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "jpeg/m.jpg")
    with pytest.raises(S4Error, match=r"holds no map .*JPEG maps cannot be converted"):
        data.convert_labels(tmp_path / "jpeg", tmp_path / "ids", odd.COLOURS)
    with pytest.raises(S4Error, match="is not a folder"):
        data.convert_labels(tmp_path / "none", tmp_path / "ids", odd.COLOURS)


# ---- the shell ----


def test_the_check_takes_the_options_of_a_training(own_folder, capsys):
    relabel(own_folder, lambda ids: 255 * (ids > 1))
    (own_folder / "classes.txt").unlink()
    root = ["--root", str(own_folder)]
    assert main(["data", "check", "folder", *root]) == 2
    assert "ids={0: 0, 255: 1}" in capsys.readouterr().err
    options = ["--data-option", "ids={0: 0, 255: 1}", "--data-option", "holdout=4", "--labelled", "4", "--size", "12"]
    assert main(["data", "check", "folder", *root, *options, "--split-seed", "3", "--crop", "8"]) == 0
    told = capsys.readouterr()
    assert "4 labelled, 12 unlabelled, 4 val" in told.out and "images/val" in told.out and "warning" not in told.err
    assert main(["data", "list", "--labelled", "4"]) == 2 and "takes no --labelled" in capsys.readouterr().err


def test_a_training_refuses_and_warns_in_one_line(own_folder, capsys):
    train = ["train", "supervised", "--data", "folder", "--root", str(own_folder), "--labelled", "4", "--out", "unused"]
    assert main([*train, "--data-option", "ids=0:255"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    index_map(own_folder / "labels/train/alone.png")
    assert main([*train, "--backbone", "tiny", "--crop", "16", "--batch", "9", "--steps", "2"]) == 2
    assert "s4kit: warning: mine: 1 of the 21 label maps" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["mps", "meta", "xpu"])
def test_devices_that_are_not_there(device):
    with pytest.raises(S4Error, match=device):
        pick_device(device)
