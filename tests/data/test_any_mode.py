"""Whatever the files store, in whatever layout: the ids that were written come out, or an error; never others."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import s4kit.data as data
from s4kit.data.decode import decode_label
from s4kit.data.sets.ade20k import label_table
from s4kit.data.sets.cityscapes import label_id_table
from s4kit.errors import S4Error, S4Warning

from . import odd

LAYOUTS = ("folder", "voc", "camvid", "coco", "ade20k", "cityscapes")
ALL = {**odd.READABLE, **odd.REFUSED}


def places(layout: str, root: Path, part: str, name: str) -> tuple[Path, Path]:
    """Where an image and its label lie, the suffix apart."""
    number = int(name)
    if layout == "folder":
        found = f"images/{part}/{name}", f"labels/{part}/{name}"
    elif layout == "voc":
        found = f"JPEGImages/{name}", f"SegmentationClass/{name}"
    elif layout == "camvid":
        found = f"{part}/{name}", f"{part}annot/{name}"
    elif layout == "coco":
        found = f"{part}2017/{number:012d}", f"masks/{number:012d}"
    elif layout == "ade20k":
        split = {"train": "training", "val": "validation"}[part]
        found = f"images/{split}/{name}", f"annotations/{split}/{name}"
    else:
        frame = f"ulm_{number:06d}_000019"
        found = f"leftImg8bit/{part}/ulm/{frame}_leftImg8bit", f"gtFine/{part}/ulm/{frame}_gtFine_labelIds"
    for path in found:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    return root / found[0], root / found[1]


def write(layout: str, root: Path, maps: list[np.ndarray], label: str, image: str) -> None:
    """The last map is val's."""
    names = [f"{number:04d}" for number in range(len(maps))]
    for number, (name, ids) in enumerate(zip(names, maps)):
        picture, target = places(layout, root, "val" if number == len(maps) - 1 else "train", name)
        odd.photo(picture, np.random.default_rng(number).integers(0, 256, (*ids.shape, 3), dtype=np.uint8), image)
        ALL[label](target, ids)
    if layout in ("voc", "camvid"):
        lists = root / "ImageSets/Segmentation" if layout == "voc" else root
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "train.txt").write_text("\n".join(names[:-1]) + "\n")
        (lists / "val.txt").write_text(names[-1] + "\n")


def expected(layout: str, ids: np.ndarray) -> np.ndarray:
    table = np.arange(256)
    table[11] = 255 if layout == "camvid" else 11
    table = {"ade20k": label_table("raw"), "cityscapes": label_id_table()}.get(layout, table)
    return table[ids]


@st.composite
def sets(draw):
    layout = draw(st.sampled_from(LAYOUTS))
    label, image = draw(st.sampled_from(list(ALL))), draw(st.sampled_from(odd.PHOTOS))
    shape = draw(st.tuples(st.integers(9, 13), st.integers(9, 13)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    values = np.array((7, 8, 11, 13) if layout == "cityscapes" and label != "2 bits" else (0, 1, 2, 3), np.uint8)
    maps = [values[rng.integers(0, 4, shape)] for _ in range(3)]
    if layout == "cityscapes" and label not in ("2 bits", "4 bits"):
        maps[0][0, 0] = 21  # a label id that no train id is
    return layout, label, image, maps


@given(sets())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_the_right_ids_or_an_error(case):
    layout, label, image, maps = case
    extra = {"classes": 4} if layout == "folder" else {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", S4Warning)
        write(layout, Path(folder), maps, label, image)
        try:
            task = data.load(layout, root=folder, labelled="all", crop=8, **extra)
            read = [task.train.read(row) for row in range(2)] + [task.val.read(0)]
        except S4Error as why:
            png_only = layout in ("cityscapes", "coco", "ade20k")  # their layouts name the suffix
            by_suffix = png_only and ("TIFF" in label or label in ("BMP P", "white is zero"))
            frames = layout == "cityscapes" and image in ("CMYK", "webp", "gif", "int32")
            few = layout == "cityscapes" and label in ("2 bits", "4 bits")
            assert label in odd.REFUSED or by_suffix or frames or few, why
            return
    assert label not in odd.REFUSED
    for sample, ids in zip(read, maps):
        assert (sample.label.numpy() == expected(layout, ids)).all(), case[:3]
        assert sample.image.shape == (3, *ids.shape)


@pytest.mark.parametrize("label", odd.READABLE)
def test_every_way_to_store_ids(tmp_path, label):
    ids = np.random.default_rng(1).integers(0, 4, (7, 9), dtype=np.uint8)
    assert (decode_label(str(odd.READABLE[label](tmp_path / "a", ids))) == ids).all()


@pytest.mark.parametrize("label", odd.REFUSED)
def test_what_cannot_be_told_is_refused_with_its_name(tmp_path, label):
    ids = np.random.default_rng(1).integers(0, 4, (7, 9), dtype=np.uint8)
    path = odd.REFUSED[label](tmp_path / "a", ids)
    with pytest.raises(S4Error, match=path.name):
        decode_label(str(path))


@given(st.permutations(range(4)), st.permutations(range(4)), st.booleans(), st.integers(0, 99))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_palettes_are_read_by_colour_or_refused(first, second, coloured, seed):
    rng = np.random.default_rng(seed)
    maps = [rng.integers(0, 4, (10, 10), dtype=np.uint8) for _ in range(3)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", S4Warning)
        root = Path(folder)
        write("folder", root, maps, "L", "RGB")
        for number, order in enumerate((tuple(first), tuple(second), tuple(first))):
            odd.indexed(
                places("folder", root, "val" if number == 2 else "train", f"{number:04d}")[1], maps[number], order
            )
        lines = [f"c{k} {' '.join(map(str, colour))}" if coloured else f"c{k}" for k, colour in enumerate(odd.COLOURS)]
        (root / "classes.txt").write_text("\n".join(lines))
        if coloured:
            task = data.load("folder", root=root, labelled="all", crop=8)
            assert all((task.train.read(row).label.numpy() == maps[row]).all() for row in range(2))
        elif first != second:
            with pytest.raises(S4Error, match=r'contradict each other.*palettes="ignore"'):
                data.load("folder", root=root, labelled="all", crop=8)
            data.load("folder", root=root, labelled="all", crop=8, palettes="ignore")
        else:
            data.load("folder", root=root, labelled="all", crop=8)
