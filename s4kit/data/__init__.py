"""What an image and a label are: data sets by name, splits, reading. Everything is uint8 from here to the views."""

from .load import dataset, load, load_arrays, names
from .task import VOID, Evaluation, Sample, Source, Task

__all__ = ["VOID", "Evaluation", "Sample", "Source", "Task", "dataset", "load", "load_arrays", "names"]
