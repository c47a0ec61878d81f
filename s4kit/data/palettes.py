"""Class names and colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .task import VOID

# Classes of scenes; colours after Okabe and Ito, distinct under the common colour-vision deficiencies.
SCENES = {
    "ground": (74, 78, 84),
    "ball": (230, 159, 0),
    "target": (86, 180, 233),
    "crate": (0, 158, 115),
    "tent": (240, 228, 66),
    "star": (213, 94, 0),
    "peg": (204, 121, 167),
}

# SegNet-Tutorial, Scripts/test_segmentation_camvid.py
CAMVID = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}

# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)

# The 80 things of COCO 2017 in the order of their category ids (1..90 with gaps); class 0 is everything else.
COCO_CLASSES = (
    "background", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep",
    "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)

# The 150 classes of the scene parsing challenge (objectInfo150.txt), each by its first name.
ADE20K_CLASSES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet", "sidewalk",
    "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water", "painting", "sofa",
    "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp",
    "bathtub", "railing", "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand",
    "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case", "pool table",
    "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower",
    "book", "hill", "bench", "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat",
    "bar", "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight",
    "booth", "television", "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman",
    "bottle", "buffet", "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything",
    "swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball",
    "food", "step", "tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen",
    "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen",
    "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)

# Of UC Merced's images, and of the masks of DLRSD (1..17 there) on them.
UCMERCED_SCENES = (
    "agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral", "denseresidential", "forest",
    "freeway", "golfcourse", "harbor", "intersection", "mediumresidential", "mobilehomepark", "overpass", "parkinglot",
    "river", "runway", "sparseresidential", "storagetanks", "tenniscourt",
)
DLRSD_CLASSES = (
    "airplane", "bare soil", "buildings", "cars", "chaparral", "court", "dock", "field", "grass", "mobile home",
    "pavement", "sand", "sea", "ship", "tanks", "trees", "water",
)
# fmt: on

# The land cover challenge of DeepGlobe 2018; black is unknown.
DEEPGLOBE = {
    "urban land": (0, 255, 255),
    "agriculture land": (255, 255, 0),
    "rangeland": (255, 0, 255),
    "forest land": (0, 255, 0),
    "water": (0, 0, 255),
    "barren land": (255, 255, 255),
}

# cityscapesScripts, helpers/labels.py: train id order, with the label id of each.
CITYSCAPES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}


def voc_palette(count: int = 21) -> tuple[tuple[int, int, int], ...]:
    """The official VOC colour map: the bits of the class index, spread over the high bits of r, g and b."""
    colours = []
    for index in range(count):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colours.append(tuple(rgb))
    return tuple(colours)


def distinct(count: int) -> tuple[tuple[int, int, int], ...]:
    """Colours for any number of classes: class 0 dark grey, then hues by the golden angle at three lightnesses."""
    colours = [(74, 78, 84)]
    for index in range(1, count):
        value, saturation = ((0.95, 0.75), (0.65, 0.9), (0.85, 0.45))[index % 3]
        rgb = colorsys.hsv_to_rgb(index * 0.61803 % 1, saturation, value)
        colours.append(tuple(round(255 * c) for c in rgb))
    return tuple(colours[:count])


def indexed(label: np.ndarray, palette: Sequence[Sequence[int]]) -> Image.Image:
    """An (H, W) uint8 label map as an indexed image in its classes' colours, void white: it can be looked at, too."""
    image = Image.fromarray(label)
    colours = [*palette, *[(0, 0, 0)] * (VOID - len(palette)), (255, 255, 255)]
    image.putpalette([value for colour in colours for value in colour])
    return image
