"""Decoding, and every bad file."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import s4kit.data as data
from s4kit.data.decode import decode_image, decode_label, id_table, map_ids
from s4kit.data.reading import jpeg
from s4kit.data.reading.colour_maps import convert_labels
from s4kit.data.sources import Cached, FileSource, MemorySource, parse_size, resized
from s4kit.errors import S4Error

from .conftest import index_map, picture


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK", "I;16", "I"])
def test_images_become_rgb(tmp_path, mode):
    grey = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    if mode.startswith("I"):
        image = Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey.astype(np.int32) * 257)
    else:
        image = Image.fromarray(np.stack([grey] * 3, -1)).convert(mode)
    path = tmp_path / f"a.{'tif' if mode in ('CMYK', 'I') else 'png'}"
    image.save(path)
    rgb = decode_image(str(path))
    assert rgb.shape == (5, 7, 3) and rgb.dtype == np.uint8
    if mode in ("L", "RGBA", "LA", "I;16", "I"):
        assert (rgb == grey[..., None]).all()


def test_exif_orientation_is_applied(tmp_path):
    image = Image.fromarray(np.zeros((10, 20, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    image.save(path, exif=exif)
    assert decode_image(str(path)).shape == (20, 10, 3)
    index_map(tmp_path / "turned.png", 2, 10, 20)
    source = FileSource(["a"], ["turned.jpg"], ["turned.png"], tmp_path, 2)
    assert source.shape(0) == (20, 10)
    with pytest.raises(S4Error, match="EXIF"):
        source.read(0)


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("size", [(1, 1), (37, 51), (64, 48)])
def test_jpegs_have_the_pixels_of_pillow(tmp_path, how, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", **how)
    decoder = pytest.importorskip("torchvision.io").decode_jpeg
    expected = np.array(Image.open(tmp_path / "a.jpg"))
    assert np.array_equal(decode_image(str(tmp_path / "a.jpg")), expected)
    if jpeg._agreeing() is decoder:  # else Pillow has decoded it
        assert np.array_equal(jpeg.decode_jpeg(str(tmp_path / "a.jpg")), expected)


def test_a_decoder_that_differs_is_not_used(tmp_path, monkeypatch):
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / "a.jpg")
    io = pytest.importorskip("torchvision.io")
    monkeypatch.setattr(io, "decode_jpeg", lambda content: torch.zeros(3, 8, 8, dtype=torch.uint8))
    jpeg._agreeing.cache_clear()
    try:
        assert jpeg.decode_jpeg(str(tmp_path / "a.jpg")) is None
        assert decode_image(str(tmp_path / "a.jpg")).min() > 80
    finally:
        monkeypatch.undo()
        jpeg._agreeing.cache_clear()


def test_palette_labels_are_indices(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    label = Image.fromarray(ids).convert("P")
    label.putpalette([(5 * v) % 256 for v in range(768)])
    label.save(tmp_path / "p.png")
    assert (decode_label(str(tmp_path / "p.png")) == ids).all()
    Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "i16.png")
    assert (decode_label(str(tmp_path / "i16.png")) == ids).all()


@pytest.mark.parametrize("bad", ["missing", "empty", "text", "truncated", "truncated_jpg"])
@pytest.mark.parametrize("what", ["image", "label"])
def test_bad_files_are_named(tmp_path, bad, what):
    image, label = picture(tmp_path / "i.png", 40, 50), index_map(tmp_path / "l.png", 3, 40, 50)
    broken = image if what == "image" else label
    if bad == "missing":
        broken.unlink()
    elif bad == "truncated_jpg":
        jpeg = picture(tmp_path / "j.jpg", 40, 50).read_bytes()
        broken.write_bytes(jpeg[: len(jpeg) // 2])
    else:
        broken.write_bytes({"empty": b"", "text": b"hello", "truncated": broken.read_bytes()[:300]}[bad])
    source = FileSource(["a"], ["i.png"], ["l.png"], tmp_path, 3)
    with pytest.raises(S4Error, match=f"{broken.name}.*(missing|cannot be read)"):
        source.read(0)
    if what == "label":
        assert source.read(0, label=False).label is None


def test_size_mismatch_tells_both(tmp_path):
    picture(tmp_path / "i.png", 40, 50)
    index_map(tmp_path / "l.png", 3, 41, 50)
    with pytest.raises(S4Error, match=r"l\.png is 50 x 41 pixels but its image .*i\.png is 50 x 40"):
        FileSource(["a"], ["i.png"], ["l.png"], tmp_path, 3).read(0)


def test_colour_label_maps(tmp_path):
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    ids = np.random.default_rng(0).integers(0, 3, (6, 8))
    rgb = np.array(palette, np.uint8)[ids]
    rgb[0, 0] = 9  # a colour of no class
    (tmp_path / "colour").mkdir()
    Image.fromarray(rgb).save(tmp_path / "colour/a.png")
    with pytest.raises(S4Error, match=r"colour/a\.png is a colour image.*convert_labels"):
        decode_label(str(tmp_path / "colour/a.png"))
    assert convert_labels(tmp_path / "colour", tmp_path / "index", palette) == 1
    index = decode_label(str(tmp_path / "index/a.png"))
    assert index[0, 0] == 255 and (index.ravel()[1:] == ids.ravel()[1:]).all()
    with pytest.raises(S4Error, match="no pixel has a colour"):
        convert_labels(tmp_path / "colour", tmp_path / "index", [(1, 2, 3)])


def test_ids_out_of_range():
    stored = np.zeros((4, 5), np.uint8)
    stored[2, 3] = 7
    with pytest.raises(S4Error, match=r"x\.png has the label id 7 at row 2, column 3 .*Allowed: 0\.\.2, 255"):
        map_ids(stored, id_table(3), "x.png")
    wide = stored.astype(np.int32)
    wide[2, 3] = 70000
    with pytest.raises(S4Error, match="label id 70000"):
        map_ids(wide, id_table(3), "x.png")
    assert map_ids(np.full((2, 2), 255), id_table(3), "x").dtype == np.uint8


@pytest.mark.parametrize(("size", "parsed"), [(None, None), (0.5, 0.5), ("0.5", 0.5), (180, 180), ("180", 180)])
def test_size_is_a_factor_or_a_short_side(size, parsed):
    assert parse_size(size) == parsed and type(parse_size(size)) is type(parsed)


@pytest.mark.parametrize("size", ["half", 0, -1, 0.0, 9.5, True])
def test_bad_sizes(size):
    with pytest.raises(S4Error, match="size="):
        parse_size(size)


def test_resizing_keeps_image_and_label_together(tmp_path):
    picture(tmp_path / "i.png", 36, 48)
    index_map(tmp_path / "l.png", 3, 36, 48)
    assert resized(360, 480, 0.5) == (180, 240) and resized(360, 480, 90) == (90, 120)
    for size, shape in ((0.5, (18, 24)), (18, (18, 24)), (72, (72, 96))):
        source = FileSource(["a"], ["i.png"], ["l.png"], tmp_path, 3, size)
        sample = source.read(0)
        assert sample.image.shape[1:] == sample.label.shape == source.shape(0) == shape
        assert set(sample.label.unique().tolist()) <= {0, 1, 2}


class Counting(FileSource):
    reads = 0

    def read(self, row, label=True):
        self.reads += 1
        return super().read(row, label)


def test_cache(tmp_path):
    for i in range(3):
        picture(tmp_path / f"i{i}.png", 10 + i, 20, seed=i)
        index_map(tmp_path / f"l{i}.png", 3, 10 + i, 20, seed=i)
    (tmp_path / "broken.png").write_bytes(b"x")
    names = ["i0.png", "i1.png", "i2.png", "i0.png", "broken.png"]
    source = Counting(["a", "b", "c", "d", "e"], names, ["l0.png", "l1.png", "l2.png", None, None], tmp_path, 3)
    plain = FileSource(source.ids, source.images, source.labels, tmp_path, 3)
    kept = Cached(source)
    for _ in range(2):
        for row in range(4):
            assert kept.read(row, label=False).label is None
            a, b = kept.read(row), plain.read(row)
            assert torch.equal(a.image, b.image) and a.id == b.id
            assert (a.label is None) == (b.label is None)
            assert a.label is None or torch.equal(a.label, b.label)
            a.image.zero_()
    assert source.reads == 8  # once without, once with the label
    with pytest.raises(S4Error, match="broken"):
        kept.read(4)
    assert kept.image_path(0).endswith("i0.png")
    copy = pickle.loads(pickle.dumps(kept))
    assert torch.equal(copy.read(1).label, plain.read(1).label)
    assert Cached(source, limit=10).read(0).label is not None


def test_forked_workers_share_the_cache(own_folder):
    task = data.load("folder", root=own_folder, labelled=4)
    sheet = torch.utils.data.DataLoader(
        _Rows(task.train), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    first = list(sheet)
    for file in (own_folder / "images/train").iterdir():
        file.unlink()  # all is in memory now
    second = list(sheet)
    assert all(torch.equal(a, b) for a, b in zip(first, second)) and len(first) == 20


def test_spawned_workers_read_the_same(own_folder):
    task = data.load("folder", root=own_folder, labelled=4)
    copy = pickle.loads(pickle.dumps(task))
    assert torch.equal(copy.train.read(3).image, task.train.read(3).image)
    assert copy.labelled == task.labelled


class _Rows(torch.utils.data.Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, row):
        return self.source.read(row).image


def test_arrays():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(6)]
    labels = [rng.integers(0, 3, (20, 30)) for _ in range(4)] + [None, None]
    task = data.load_arrays(images, labels, images[:2], labels[:2], classes=["a", "b", "c"], crop=16)
    assert task.labelled == (0, 1, 2, 3) and task.unlabelled == (4, 5) and task.train.read(4).label is None
    assert torch.equal(task.train.read(1).image.permute(1, 2, 0), torch.from_numpy(images[1]))
    assert data.load_arrays(images, labels, images[:2], labels[:2], classes=3, labelled=2).labelled != task.labelled


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), None, "give uint8 RGB"),
        (np.zeros((4, 4), np.uint8), None, "give uint8 RGB"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), "Label 0 has shape"),
        (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 9), "label id 9"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), "integer"),
    ],
)
def test_bad_arrays(image, label, message):
    with pytest.raises(S4Error, match=message):
        MemorySource([image], [label], 3)


@pytest.mark.parametrize("ids", [{0: 0, 256: 1}, {-1: 255, 0: 0}, 257])
def test_ids_that_no_label_map_can_hold_are_refused(ids):
    with pytest.raises(S4Error, match="not within"):
        id_table(ids)


def test_images_in_memory_have_no_config():
    images, labels = [np.zeros((20, 20, 3), np.uint8)] * 4, [np.zeros((20, 20), np.uint8)] * 4
    task = data.load_arrays(images, labels, images[:1], labels[:1], classes=2, labelled=2, crop=16)
    assert task.config == {} and task.with_(crop=8).config == {} and task.with_(crop=8).crop == 8
