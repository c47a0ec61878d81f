"""Views of images: what a teacher sees (weak) and what a student sees (strong), mixing, and batches of them."""

from .boxes import beta_box, cut_out, half_area_box, half_box, rasterise, three_boxes, unimatch_box
from .geometry import Geometry, weak
from .mixing import paste
from .photometric import STRONG, Strong, recolour
from .plan import Batch, Stream, ViewPlan, Views
from .sampling import HostStep, Steps, draw_step, render
from .warp import draw_shift, warp

__all__ = [
    "STRONG",
    "Batch",
    "Geometry",
    "HostStep",
    "Steps",
    "Stream",
    "Strong",
    "ViewPlan",
    "Views",
    "beta_box",
    "cut_out",
    "draw_shift",
    "draw_step",
    "half_area_box",
    "half_box",
    "paste",
    "rasterise",
    "recolour",
    "render",
    "three_boxes",
    "unimatch_box",
    "warp",
    "weak",
]
