"""How long a lesson trains and on what: the profiles of the notebooks, as data.

"cpu" and "gpu" put all methods under one protocol, so that their differences are the methods'; "paper" is each
method's own published recipe; "test" only shows that the cells run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import S4Error, closest
from ..report import setup

PROFILES = ("cpu", "gpu", "paper", "test")
DATA = ("scenes", "camvid", "voc", "cityscapes")
WALK = ("supervised", "cutmix", "cps", "u2pl", "unimatch")  # what the notebooks train
BEYOND = ("clips", "shapes", "rooms")  # of lessons beyond still images: each has its own
OWN_DATA = "folder"  # a lesson on photos of one's own: root=... says where they are


@dataclass(frozen=True)
class Profile:
    """One profile on one data set.

    Attributes:
        task: for `load`. options: for `create`, of every method. fit: for `fit`.
        takes: what one training takes, in words.
        note: what must be known of the numbers that come out.
        equal: all methods under the protocol of `supervised`, else each under its own recipe.
    """

    takes: str
    note: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    equal: bool = True


LITE = {"net": "efficientnet_lite0"}
R50 = {"net": "resnet50c(weights='imagenet')"}
UNVERIFIED = "Planned for a 16 GB T4; not verified on one."
SMALL = "The true split on small pictures, trained briefly: it shows the cells at work, not what the methods can do."
FEW = "Six labels, each class in two of them: at half the resolution, so that there is something to be gained."
OWN = "There is no published recipe for this data set: the kit's own, at its full length."
PUBLISHED = "The published recipe of each method; its batch is over all GPUs. Not verified at full length."


def _fit(steps: int, batch: int, evaluations: int = 5, **more: Any) -> dict[str, Any]:
    return {"steps": steps, "batch": batch, "evaluate_every": max(1, steps // evaluations), **more}


_TEST = {"net": "tiny"}
_TEST_FIT = _fit(12, 2, 2, probes=4, checkpoint_every=12, warmup=0, lr=2e-3)

TABLE: dict[tuple[str, str], Profile] = {
    ("cpu", "scenes"): Profile("about a minute on two cores", fit=_fit(600, 4)),
    ("cpu", "camvid"): Profile("some five minutes on two cores", FEW, options=LITE, fit=_fit(1200, 4)),
    ("cpu", "voc"): Profile("some minutes on two cores", SMALL, {"size": 160, "crop": 128}, LITE, _fit(350, 4, 1)),
    ("cpu", "cityscapes"): Profile(
        "some ten minutes on two cores, most of it reading",
        SMALL,
        {"size": 0.125, "crop": 112, "scale": (0.8, 1.6)},
        LITE,
        _fit(350, 4, 1),
    ),
    ("gpu", "scenes"): Profile("some minutes", UNVERIFIED, {"side": 192}, fit=_fit(1500, 16)),
    ("gpu", "camvid"): Profile(
        "about a quarter of an hour", UNVERIFIED, {"size": None, "crop": 224}, LITE, _fit(6000, 4)
    ),
    ("gpu", "voc"): Profile("about an hour", UNVERIFIED, {}, R50, _fit(4000, 8, 4)),
    ("gpu", "cityscapes"): Profile(
        "about an hour", UNVERIFIED, {"size": 0.5, "crop": 401}, R50, _fit(3000, 4, 3, unlabelled_batch=4)
    ),
    ("cpu", OWN_DATA): Profile(
        "about half a minute on two cores",
        "",
        {"labelled": "all", "crop": 96, "scale": (0.85, 1.4)},
        LITE,
        _fit(90, 4, 3),
    ),
    ("gpu", OWN_DATA): Profile("minutes", UNVERIFIED, {"labelled": "all"}, LITE, _fit(2000, 8)),
    ("paper", OWN_DATA): Profile("a quarter of an hour or more", OWN, {"labelled": "all"}, LITE, equal=False),
    ("cpu", "clips"): Profile("about a minute on two cores", fit=_fit(600, 4)),
    ("gpu", "clips"): Profile("some minutes", UNVERIFIED, {"side": 192}, fit=_fit(1500, 16)),
    ("paper", "clips"): Profile("minutes", OWN, equal=False),
    ("test", "clips"): Profile(
        "seconds", "It learns nothing.", {"n_train": 8, "n_val": 2, "side": 48, "labelled": 4}, _TEST, _TEST_FIT
    ),
    ("paper", "scenes"): Profile("minutes", OWN, equal=False),
    ("paper", "camvid"): Profile("a quarter of an hour or more", OWN, options=LITE, equal=False),
    ("paper", "voc"): Profile("a day or more on one large GPU", PUBLISHED, equal=False),
    ("paper", "cityscapes"): Profile("days on one large GPU", PUBLISHED, equal=False),
    ("test", "scenes"): Profile(
        "seconds", "It learns nothing.", {"n_train": 24, "n_val": 4, "side": 48, "labelled": 8}, _TEST, _TEST_FIT
    ),
    ("cpu", "shapes"): Profile(
        "half a minute of one core", "", {"points": 1024}, {"net": "voxel(grid=16, depth=2)"}, _fit(250, 4, 2)
    ),
    ("gpu", "shapes"): Profile("some minutes", UNVERIFIED, {}, {"net": "voxel(width=16, grid=64)"}, _fit(2000, 8)),
    ("paper", "shapes"): Profile("minutes", OWN, equal=False),
    ("test", "shapes"): Profile(
        "seconds",
        "It learns nothing.",
        {"n_train": 24, "n_val": 4, "points": 128, "labelled": 8},
        {"net": "voxel(width=4, grid=16, depth=2)"},
        _TEST_FIT,
    ),
    ("cpu", "rooms"): Profile(
        "about two minutes of one core",
        "",
        {"points": 3072},
        {"net": "voxel(cell=0.15, reach=0.12, least=20)"},
        _fit(400, 2, 2),
    ),
    ("gpu", "rooms"): Profile(
        "some minutes", UNVERIFIED, {"n_train": 400}, {"net": "voxel(width=16, cell=0.05)"}, _fit(2000, 8)
    ),
    ("paper", "rooms"): Profile("minutes", OWN, equal=False),
    ("test", "rooms"): Profile(
        "seconds",
        "It learns nothing.",
        {"n_train": 8, "n_val": 2, "points": 512, "labelled": 4},
        {"net": "voxel(width=4, depth=2, cell=0.2, least=8)"},
        _TEST_FIT,
    ),
    **{
        ("test", data): Profile("seconds", "It learns nothing.", {"size": 64, "crop": 48}, _TEST, _TEST_FIT)
        for data in (*DATA[1:], OWN_DATA)
    },
}


def profile(name: str, data: str) -> Profile:
    """The profile of a data set.

    Raises:
        S4Error: an unknown profile or data set; names the closest ones.
    """
    if name not in PROFILES:
        raise S4Error(f"There is no PROFILE {name!r}. {closest(name, list(PROFILES))}")
    if data not in (*DATA, *BEYOND, OWN_DATA):
        raise S4Error(f"There is no lesson on DATA = {data!r}. {closest(data, [*DATA, *BEYOND])}")
    return TABLE[name, data]


def setup_of(
    chosen: Profile, data: str, method: str, task: dict[str, Any], options: dict[str, Any], fit: dict[str, Any]
) -> setup.Setup:
    """One training of a method under a profile; `task`, `options` and `fit` go over the profile's.

    Without `equal` the paper's network is taken, with ImageNet weights; on the kit's own data sets the recipe's.
    """

    def made(name: str, own: dict[str, Any]) -> setup.Setup:
        return setup.of(name, data, chosen.task | task, chosen.options | own, chosen.fit | fit)

    if chosen.equal:
        asked = {"net": options["net"]} if "net" in options else {}  # in place of the protocol's, for this training
        return setup.match([made("supervised", asked), made(method, options)])[1]
    from ..methods import get
    from ..methods.recipes import is_light

    kind = get(method).kind_of(chosen.task | task)
    own = kind.recipe(data)["method"] if not is_light(kind, data) else {}
    return made(method, {name: setup.with_weights(own[name]) for name in kind.specs if name in own} | options)


def demand(name: str, data: str) -> float:
    """Bytes of a GPU that the largest training of the walk takes under a profile, by the planner."""
    from ..data import load
    from ..report.comparing import placement

    setups = [setup_of(profile(name, data), data, method, {}, {}, {}) for method in WALK]
    loaded = [load(**one.task) for one in setups]
    return max(placement.largest([setup.settle(one, task)], task) for one, task in zip(setups, loaded))
