"""s4kit: teach, run and debug semi-supervised semantic segmentation.

    import s4kit as s4
    recipe = s4.methods.recipe("unimatch", "scenes")
    task   = s4.load("scenes", labelled=16)
    method = s4.methods.create("unimatch", task, **recipe["method"])
    run    = s4.fit(method, task, **recipe["fit"])
    run.evaluate()

Train
    load(name)              a data set as a task: its labelled, unlabelled and validation images
    methods                 all methods: table(), create(name, task), recipe(name, data), register(name)
    fit(method, task)       the training; it leaves a run
    query(task, budget)     which images to have labelled, as many as the budget allows
    open_run(folder)        a run again: evaluate(), metrics(), load(), snapshots(), sweep()

Look
    explore(run)            what the pseudo-labels do, pixel by pixel
    plots                   pictures of batches, labels, curves and scores
    gallery                 the methods with a picture of each idea, their tree, what was measured
    look(data)              what may be wrong with a data set, before anything is trained
    literature(methods)     reported numbers, each with its source
    splits                  published lists of labelled images, side by side

Learn
    lesson(profile)         what the cells of a notebook share: data, trainings, references, pictures
    ready()                 what this machine can do for the notebooks
    show(thing)             the lines that a method really runs; show_diff(a, b): what one changes in another
    claim(words, numbers)   a sentence that states what was computed
    check(answer, key)      is an answer right, and if not, what is wrong with it

Below
    data, views, nets, engine, report       what these are made of, from files to tables
    S4Error                                 a mistake in what was asked, with what to do

`help(s4.load)` says more of one. Importing is light: PyTorch and the rest are imported at the first use of a name.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Threads of PyTorch that wait sleep, where they would spin and take the core from whoever has work. It is read when
# PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOME = {
    "load": "data",
    "fit": "engine",
    "query": "engine",
    "open_run": "engine",
    "S4Error": "errors",
    "lesson": "walk.lesson",
    "claim": "walk.claim",
    "ready": "report.ready",
    "show": "explore.source",
    "show_diff": "explore.diff",
    "literature": "report.reproducing.literature",
    "look": "report.looking.look",
    "check": "classroom.check",
}
_MODULES = {m: m for m in ("data", "views", "nets", "methods", "engine", "report", "explore")}
_MODULES["plots"] = "explore.plots"
_MODULES["gallery"] = "explore.gallery"
_MODULES["splits"] = "report.splits"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOME, *_MODULES, "__version__"])
