"""`s4kit diagnose`: the run's images, held against the data as it is now; and what was odd when it began."""

from __future__ import annotations

from ...engine import Run
from ...engine.images import FILE
from ...errors import S4Error
from .finding import OK, UNKNOWN, WARNING, Finding


def images(run: Run) -> Finding | None:
    """Is the data as it was when the run began?"""
    if not run.config.get("task"):
        return None
    if not (run.path / FILE).is_file():
        return Finding("images", UNKNOWN, "an older version, which did not store them: the split is drawn again")
    try:
        changed = run.changes()
    except S4Error as error:
        return Finding("images", UNKNOWN, f"the data cannot be read here: {error}")
    if changed.missing:
        return Finding("images", WARNING, str(changed), "Put them back: the run can neither go on nor be scored again.")
    if changed.content or changed.moved:
        mend = "The run has learnt from the files as they were: train again (another --out) to learn from these."
        return Finding("images", WARNING, str(changed), mend)
    mend = "To train on them start another run; this one keeps its own split." if changed else ""
    return Finding("images", OK, str(changed) or "as they were when the run began", mend)


def notices(run: Run) -> Finding | None:
    """Was something about the data said when the run began, such as a class without a pixel?"""
    said = run.config.get("notices", ())
    if not said:
        return None
    return Finding("data", WARNING, "; ".join(said), "Look at the labels: s4kit data check takes the options of train.")
