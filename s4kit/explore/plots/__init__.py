"""Pictures for notebooks and papers. Every function returns a matplotlib figure that a notebook shows by itself.

Colours: classes have those of the task; methods have the same colour in every picture of the kit; void is near-white
with stripes. Confidence is shown from dark to light in "cividis", readable without colour vision.
"""

from .clips import by_distance, clip
from .features import embeddings, project
from .ideas import idea
from .images import blend, boxes, grid, overlay, pseudo, views
from .labels import class_share, histogram, quality, recorded, reliability
from .network import network
from .objects import objects, precision_recall
from .over_time import classes_over_time
from .rooms import mended, room
from .scores import bars, class_frequency, confusion, iou_bars
from .shapes import copies, shape
from .splits import presence
from .training import curves, lines, losses

__all__ = [
    "bars",
    "blend",
    "boxes",
    "by_distance",
    "class_frequency",
    "class_share",
    "classes_over_time",
    "clip",
    "confusion",
    "copies",
    "curves",
    "embeddings",
    "grid",
    "histogram",
    "idea",
    "iou_bars",
    "lines",
    "losses",
    "mended",
    "network",
    "objects",
    "overlay",
    "precision_recall",
    "presence",
    "project",
    "pseudo",
    "quality",
    "recorded",
    "reliability",
    "room",
    "shape",
    "views",
]
