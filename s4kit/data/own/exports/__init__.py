"""What labelling tools export, one form a file: read into an `Export`, which `convert` writes as a folder of the kit.

A form has `found(source)`, whether a folder or file looks like it, and `read(source)`, its `Export`.
"""

from . import coco, cvat, indexed, labelme, per_class, voc, yolo

FORMS = {
    "coco": coco,
    "cvat": cvat,
    "labelme": labelme,
    "yolo": yolo,
    "voc": voc,
    "per_class": per_class,
    "indexed": indexed,
}
