"""One set of photos with the same regions, exported by hand as each tool documents its form."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 60
NAMES = ("background", "car", "tree")
COLOURS = ((0, 0, 0), (200, 30, 30), (30, 160, 40))
# photo -> (class, left, top, right, bottom) in pixels, right and bottom exclusive; later ones cover earlier ones
REGIONS = {
    "a": [("car", 5, 6, 25, 20), ("tree", 20, 10, 50, 34)],
    "b": [("tree", 0, 0, 30, 40), ("car", 12, 8, 22, 30)],
    "c": [("car", 30, 2, 58, 19)],
}
UNSEEN = ("d", "e")  # photos that no export mentions


def truth(name: str) -> np.ndarray:
    """(H, W) uint8 of indices into NAMES."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    for kind, left, top, right, bottom in REGIONS[name]:
        label[top:bottom, left:right] = NAMES.index(kind)
    return label


def photo(name: str) -> Image.Image:
    label = truth(name) if name in REGIONS else np.zeros((HEIGHT, WIDTH), np.uint8)
    noise = np.random.default_rng(ord(name)).integers(0, 40, (HEIGHT, WIDTH, 3))
    return Image.fromarray((np.array(COLOURS)[label] // 2 + 60 + noise).astype(np.uint8))


def photos(folder: Path, suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*REGIONS, *UNSEEN):
        photo(name).save(folder / f"{name}{suffix}")
    return folder


def corners(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def png(mask: np.ndarray) -> bytes:
    store = io.BytesIO()
    Image.fromarray(mask).save(store, "PNG")
    return store.getvalue()


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# ---- the forms: each writes the export into `root` and its photos where the tool would put them ----


def labelme(root: Path) -> Path:
    photos(root)
    for name, regions in REGIONS.items():
        shapes = []
        for number, (kind, *box) in enumerate(regions):
            left, top, right, bottom = box
            shape = {"label": kind, "group_id": None, "flags": {}}
            if number == 0:
                shape |= {"shape_type": "rectangle", "points": [[right, bottom], [left, top]]}
            elif name == "a":
                mask = base64.b64encode(png(np.full((bottom - top, right - left), 255, np.uint8))).decode()
                shape |= {"shape_type": "mask", "points": [[left, top], [right - 1, bottom - 1]], "mask": mask}
            else:
                shape |= {"shape_type": "polygon", "points": corners(*box)}
            shapes.append(shape)
        told = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"..\\photos\\{name}.jpg"}
        told |= {"imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
        write(root / f"{name}.json", json.dumps(told))
    return root


def coco(root: Path) -> Path:
    photos(root / "images")
    told = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "tree"}, {"id": 3, "name": "car"}]}
    for number, (name, regions) in enumerate(REGIONS.items()):
        told["images"].append({"id": number, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH})
        for k, (kind, *box) in enumerate(regions):
            flat = [value for corner in corners(*box) for value in corner]
            one = {"id": len(told["annotations"]), "image_id": number, "category_id": {"car": 3, "tree": 7}[kind]}
            told["annotations"].append(one | {"segmentation": runs(box) if k else [flat], "iscrowd": k})
    write(root / "annotations" / "instances_default.json", json.dumps(told))
    return root


def runs(box: list[int]) -> dict:
    """Uncompressed run lengths, column by column, beginning with what is outside."""
    left, top, right, bottom = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    flat = mask.T.ravel()
    ends = [*(np.flatnonzero(np.diff(flat)) + 1), flat.size]
    counts = np.diff([0, *ends]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": [0, *counts] if flat[0] else counts}


def yolo(root: Path) -> Path:
    photos(root / "images" / "train")
    write(root / "data.yaml", "path: .\ntrain: images/train\nnames:\n  0: car\n  1: tree  # any\nnc: 2\n")
    for name, regions in REGIONS.items():
        lines = []
        for kind, *box in regions:
            values = [f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in corners(*box)]
            lines.append(f"{NAMES.index(kind) - 1} {' '.join(values)}")
        write(root / "labels" / "train" / f"{name}.txt", "\n".join(lines) + "\n")
    return root


def cvat(root: Path) -> Path:
    photos(root / "images")
    text = "<?xml version='1.0' encoding='utf-8'?>\n<annotations>\n<version>1.1</version><meta><task><labels>"
    text += (
        "<label><name>car</name><color>#c81e1e</color></label><label><name>tree</name><color>#1ea028</color></label>"
    )
    text += "</labels></task></meta>"
    for number, (name, regions) in enumerate(REGIONS.items()):
        text += f"<image id='{number}' name='{name}.jpg' width='{WIDTH}' height='{HEIGHT}'>"
        for z, (kind, *box) in reversed([*enumerate(regions)]):
            left, top, right, bottom = box
            about = f"label='{kind}' source='manual' occluded='0' z_order='{z}'"
            if z == 0:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(*box))
                text += f"<polygon {about} points='{points}'></polygon>"
            elif name == "a":
                width, height = right - left, bottom - top
                text += f"<mask {about} rle='0, {width * height}' left='{left}' top='{top}'"
                text += f" width='{width}' height='{height}'></mask>"
            else:
                text += f"<box {about} xtl='{left}' ytl='{top}' xbr='{right}' ybr='{bottom}'></box>"
        text += "<tag label='car' source='manual'></tag></image>"
    write(root / "annotations.xml", text + "</annotations>\n")
    return root


def voc(root: Path) -> Path:
    photos(root / "JPEGImages")
    rows = [f"{name}:{','.join(map(str, colour))}::" for name, colour in zip(NAMES, COLOURS)]
    write(root / "labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *rows]) + "\n")
    write(root / "ImageSets" / "Segmentation" / "default.txt", "\n".join(REGIONS) + "\n")
    for name in REGIONS:
        write(root / "SegmentationClass" / f"{name}.png", png(np.array(COLOURS, np.uint8)[truth(name)]))
        write(root / "SegmentationObject" / f"{name}.png", png(np.array(COLOURS, np.uint8)[truth(name)] // 2))
    return root


def indexed(root: Path) -> Path:
    photos(root / "images")
    write(root / "classes.txt", "\n".join(NAMES))
    for name in REGIONS:
        image = Image.fromarray(truth(name))
        image.putpalette([value for colour in COLOURS for value in colour])
        (root / "masks").mkdir(parents=True, exist_ok=True)
        image.save(root / "masks" / f"{name}.png")
    return root


def supervisely(root: Path) -> Path:
    photos(root / "img")
    write(root / "obj_class_to_machine_color.json", json.dumps({"car": [10, 10, 10], "tree": [20, 20, 20]}))
    for name in REGIONS:
        write(root / "masks_machine" / f"{name}.png", png(np.array([0, 10, 20], np.uint8)[truth(name)]))
    return root


def label_studio(root: Path) -> Path:
    """Brush labels to PNG, and the JSON export that says which task has which photo."""
    photos(root / "images")
    tasks = []
    for number, name in enumerate(REGIONS, 11):
        url = f"/data/upload/1/0a1b2c3d-{name}.jpg"
        tasks.append({"id": number, "annotations": [{"id": 90 + number, "result": []}], "data": {"image": url}})
        for kind in NAMES[1:]:
            if (mask := truth(name) == NAMES.index(kind)).any():
                file = f"task-{number}-annotation-{90 + number}-by-1-tag-{kind}-0.png"
                write(root / file, png(mask.astype(np.uint8) * 255))
    write(root / "project-1.json", json.dumps(tasks))
    return root


def per_class(root: Path) -> Path:
    photos(root / "images")
    for name in REGIONS:
        for kind in NAMES[1:]:
            write(root / kind / f"{name}.png", png((truth(name) == NAMES.index(kind)).astype(np.uint8) * 255))
    return root


WRITERS = (labelme, coco, yolo, cvat, voc, indexed, supervisely, label_studio, per_class)
