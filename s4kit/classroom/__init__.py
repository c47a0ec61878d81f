"""The classroom: exercises that say at once what is wrong, and assignments that can be set, graded and returned.

`check(answer, "cutmix.loss")` is the student's side. Nothing here is imported by the rest of the kit.
"""

from .check import Report, check
from .exercise import Case, Exercise, Mistake, Reading, all_exercises, find

__all__ = ["Case", "Exercise", "Mistake", "Reading", "Report", "all_exercises", "check", "find"]
