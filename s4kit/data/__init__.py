"""What an image and a label are: data sets by name, splits, reading. Everything is uint8 from here to the views."""

from .checks import Report, check
from .coco_masks import make_coco_masks
from .colour_maps import convert_labels
from .convert import Converted, convert
from .load import load, load_arrays
from .registry import dataset, get, names, table
from .sources import Cached, FileSource, MemorySource
from .task import VOID, Evaluation, Further, Sample, Source, Task
from .voc_merge import Merged, merge_sbd

__all__ = [
    "VOID",
    "Cached",
    "Converted",
    "Evaluation",
    "FileSource",
    "Further",
    "MemorySource",
    "Merged",
    "Report",
    "Sample",
    "Source",
    "Task",
    "check",
    "convert",
    "convert_labels",
    "dataset",
    "get",
    "load",
    "load_arrays",
    "make_coco_masks",
    "merge_sbd",
    "names",
    "table",
]
