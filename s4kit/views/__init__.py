"""Views of images: what a teacher sees (weak) and what a student sees (strong), mixing, and batches of them."""

from .boxes import any_area_box, beta_box, cut_out, half_area_box, half_box, rasterise, three_boxes, unimatch_box
from .chain import Chain
from .distortion import Distortion
from .geometry import Geometry, SameBox, overlapping, weak
from .images import Stream
from .intensity import Intensity
from .lab import match_colours
from .mixing import paste
from .motion import Cycle
from .photometric import STRONG, Strong, recolour
from .plan import AnyStream, Batch, MapReader, ViewPlan, Views
from .points import PointStream, Rigid, Upright
from .sampling import HostStep, Steps, draw_step, render
from .warp import align, draw_affine, draw_shift, draw_zoom, warp

__all__ = [
    "STRONG",
    "AnyStream",
    "Batch",
    "Chain",
    "Cycle",
    "Distortion",
    "Geometry",
    "HostStep",
    "Intensity",
    "MapReader",
    "PointStream",
    "Rigid",
    "SameBox",
    "Steps",
    "Stream",
    "Strong",
    "Upright",
    "ViewPlan",
    "Views",
    "align",
    "any_area_box",
    "beta_box",
    "cut_out",
    "draw_affine",
    "draw_shift",
    "draw_step",
    "draw_zoom",
    "half_area_box",
    "half_box",
    "match_colours",
    "overlapping",
    "paste",
    "rasterise",
    "recolour",
    "render",
    "three_boxes",
    "unimatch_box",
    "warp",
    "weak",
]
