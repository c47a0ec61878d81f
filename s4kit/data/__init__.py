"""What an image and a label are: data sets by name, splits, reading. Everything is uint8 from here to the views.

A data set's name leads through `registry` to a `catalog`, and with a split to a `task`; `sources` read its images.

    sets, embedded          data sets that others have published; data sets that the kit paints
    own                     folders of yours, and what labelling tools export
    splitting               which images are labelled
    fetching, reading       from the web to files, from files to arrays
    checking                what files turn out to be
    points                  what is different where an item is a set of points
"""

from .checking.checks import Report, check
from .load import load, load_arrays
from .own.convert import Converted, convert
from .reading.colour_maps import convert_labels
from .registry import dataset, get, names, table
from .sets.coco_masks import make_coco_masks
from .sets.voc_merge import Merged, merge_sbd
from .sources import Cached, FileSource, MemorySource
from .splitting import published
from .task import VOID, Evaluation, Further, Sample, Source, Task

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
    "published",
    "table",
]
