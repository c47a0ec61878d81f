"""UC Merced with DLRSD's masks and DeepGlobe in their true layouts: right, and wrong in every way we know."""

import json

import numpy as np
import pytest
from PIL import Image

import s4kit.data as data
from s4kit.data.gathered import Gathered
from s4kit.data.palettes import DEEPGLOBE
from s4kit.errors import S4Error, S4Warning

from .conftest import index_map, picture

SCENES = ("agricultural", "beach", "tenniscourt")


def dlrsd(path, seed):
    """A map of 0 (nothing) and 1..17."""
    index_map(path, classes=18, seed=seed)


@pytest.fixture(params=["archives", "flat"])
def ucmerced_root(request, tmp_path):
    for k, scene in enumerate(SCENES):
        for number in range(6):
            name = f"{scene}{number:02d}"
            flat = request.param == "flat"
            images, masks = ("UCMerced_Images", "UCMerced_Labels") if flat else (
                f"UCMerced_LandUse/Images/{scene}", f"DLRSD/Images/{scene}")  # fmt: skip
            picture(tmp_path / images / f"{name}.tif", seed=10 * k + number)
            dlrsd(tmp_path / masks / f"{name}.png", 10 * k + number)
    return tmp_path


def test_ucmerced(ucmerced_root):
    task = data.load("ucmerced", root=ucmerced_root, labelled=4)
    assert task.num_classes == 17 and task.crop == 256 and len(task.train) == 12 and len(task.labelled) == 4
    assert task.val.ids == [f"{scene}{number:02d}" for scene in SCENES for number in (0, 5)]
    assert "every fifth image" in task.protocol
    row = task.train.ids.index("beach03")
    assert task.train.scenes[task.train.scene(row)] == "beach" and len(task.train.scenes) == 21
    stored = next(ucmerced_root.rglob("beach03.png"))
    expected = np.array(Image.open(stored)).astype(int) - 1
    assert np.array_equal(task.train.read(row).label.numpy(), np.where(expected < 0, 255, expected))
    again = data.load(**json.loads(json.dumps(task.config)))
    assert again.labelled == task.labelled
    gathered = Gathered(["tenniscourt01", "beach03"], [task.train])
    assert [gathered.scenes[gathered.scene(k)] for k in (0, 1)] == ["tenniscourt", "beach"]


def test_ucmerced_with_lists_of_its_own(ucmerced_root):
    (ucmerced_root / "train.txt").write_text("beach00\nbeach01\n")
    (ucmerced_root / "test.txt").write_text("agricultural00\n")
    task = data.load("ucmerced", root=ucmerced_root, labelled="all")
    assert task.train.ids == ["beach00", "beach01"] and task.val.ids == ["agricultural00"]
    assert "scored on test.txt" in task.protocol
    (ucmerced_root / "train.txt").write_text("beach00\nbeach77\n")
    with pytest.raises(S4Error, match=r"1 lines name no image that is there .beach77"):
        data.load("ucmerced", root=ucmerced_root)


def test_ucmerced_errors(ucmerced_root):
    mask = next(ucmerced_root.rglob("beach05.png"))
    index_map(mask, classes=40)
    with pytest.warns(S4Warning, match="beach05"):
        task = data.load("ucmerced", root=ucmerced_root, labelled=4)
    with pytest.raises(S4Error, match=r"beach05.png has the label id .* Allowed: 0..17"):
        task.val.read(task.val.ids.index("beach05"))
    mask.unlink()
    with pytest.raises(S4Error, match=r"1 of 6 scored images have no mask .beach05"):
        data.load("ucmerced", root=ucmerced_root)
    dlrsd(mask, 0)
    next(ucmerced_root.rglob("beach01.png")).unlink()  # a training image without one is used unlabelled
    task = data.load("ucmerced", root=ucmerced_root, labelled="all")
    assert task.train.ids.index("beach01") in task.unlabelled
    image = next(ucmerced_root.rglob("beach01.tif"))
    image.rename(image.with_name("strand01.tif"))
    with pytest.raises(S4Error, match=r"strand01: an image is called by its scene"):
        data.load("ucmerced", root=ucmerced_root)


def test_what_is_missing_is_said_with_the_way_to_it(tmp_path):
    (tmp_path / "Images").mkdir()
    with pytest.raises(S4Error, match=r"holds no image. Expected: ROOT/UCMerced_LandUse"):
        data.load("ucmerced", root=tmp_path)
    picture(tmp_path / "Images/beach00.tif")
    with pytest.raises(S4Error, match=r"none of DLRSD/Images, .* is in .*Found: Images"):
        data.load("ucmerced", root=tmp_path)
    with pytest.raises(S4Error, match=r"UCMerced_LandUse.zip(?s:.*)zhouwx"):
        data.get("ucmerced", tmp_path)
    with pytest.raises(S4Error, match=r"free account(?s:.*)codalab(?s:.*)kaggle datasets download"):
        data.get("deepglobe", tmp_path)
    with pytest.raises(S4Error, match=r"deepglobe is not at .*by hand"):
        data.load("deepglobe")
    with pytest.raises(S4Error, match=r"holds no ID_sat.jpg"):
        data.load("deepglobe", root=tmp_path)
    (tmp_path / "DLRSD/Images").mkdir(parents=True)
    assert data.get("ucmerced", tmp_path) == tmp_path


def land(path, codes):
    """A mask of colours as DeepGlobe has them, some a little off."""
    colours = np.array([*DEEPGLOBE.values(), (0, 0, 0), (255, 0, 0)])[codes]
    noise = np.random.default_rng(0).integers(0, 30, colours.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(colours > 0, colours - noise, noise).astype(np.uint8)).save(path)


@pytest.fixture(params=["land-train", "train", "."])
def deepglobe_root(request, tmp_path):
    for k, name in enumerate(("119", "2334", "855", "999934", "6399", "10452", "7")):
        picture(tmp_path / request.param / f"{name}_sat.jpg", 20, 20, seed=k)
        land(tmp_path / request.param / f"{name}_mask.png", np.random.default_rng(k).integers(0, 7, (20, 20)))
    return tmp_path


def test_deepglobe(deepglobe_root):
    task = data.load("deepglobe", root=deepglobe_root, labelled=2, size=10)
    assert task.classes == tuple(DEEPGLOBE) and task.crop == 512 and task.train.scenes == ()
    assert task.val.ids == ["7", "10452"] and task.train.ids == ["119", "855", "2334", "6399", "999934"]
    assert task.train.read(0).label.shape == (10, 10) and "scored at that size" in task.protocol
    whole = data.load("deepglobe", root=deepglobe_root, labelled=2)
    codes = np.random.default_rng(0).integers(0, 7, (20, 20))
    assert np.array_equal(whole.train.read(0).label.numpy(), np.where(codes == 6, 255, codes))
    with pytest.raises(S4Error, match=r"not known"):
        whole.train.scene(0)


def test_deepglobe_errors(deepglobe_root):
    mask = next(deepglobe_root.rglob("855_mask.png"))
    codes = np.zeros((20, 20), int)
    codes[3, 7] = 7
    land(mask, codes)
    task = data.load("deepglobe", root=deepglobe_root, labelled=["119"])
    with pytest.raises(S4Error, match=r"855_mask.png: the colour at row 3, column 7 is of no class: urban land"):
        task.train.read(1)
    next(deepglobe_root.rglob("7_mask.png")).unlink()
    with pytest.raises(S4Error, match=r"DeepGlobe: 1 of 2 scored images have no mask .7"):
        data.load("deepglobe", root=deepglobe_root)
