"""Look inside a training: the pseudo-label explorer. `s4.explore(run)` opens it; the module itself can be called.

`view` is an explorer without a browser, `state` says where it stands, `explorer` is the widget.

    packing, serving        what the browser gets of runs; where it gets it: a notebook, a local server, a page
    browser                 what it makes of it
    plots, gallery          pictures for notebooks and papers; the methods in one table
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """The name `explore` is wanted twice: for this package and for what everybody does with it."""

    def __call__(self, runs: Any, **state: Any) -> Any:
        """Open the explorer on a run, or several of them side by side.

        Args:
            runs: a `Run`, the path of its folder, a list of either, or a dict {title: either}.
            state: where to start: image, snapshot (indices), threshold (0..1), policy ("own", "fixed", "entropy",
                "adaptive"), tracks (indices of those shown), hidden (classes left out), selection.

        Returns:
            Explorer: a widget; `.figure()` and `.save_html(path)` work without a notebook, too.

        Raises:
            S4Error: no run there, one without snapshots, runs that do not fit together, anywidget is missing, or a
                value out of range.
        """
        from .explorer import Explorer

        return Explorer(runs, **state)


sys.modules[__name__].__class__ = _Callable
