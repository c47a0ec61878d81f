"""What an image and a label are: data sets by name, splits, reading. Everything is uint8 from here to the views."""

from .checks import Report, check
from .decode import convert_labels
from .load import load, load_arrays
from .registry import dataset, get, names, table
from .sources import Cached, FileSource, MemorySource
from .task import VOID, Evaluation, Sample, Source, Task

__all__ = [
    "VOID",
    "Cached",
    "Evaluation",
    "FileSource",
    "MemorySource",
    "Report",
    "Sample",
    "Source",
    "Task",
    "check",
    "convert_labels",
    "dataset",
    "get",
    "load",
    "load_arrays",
    "names",
    "table",
]
