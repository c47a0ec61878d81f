"""Items that are no images, with a stream, a look and a score of their own, go through the engine as images do; and so
does a second domain, a labelled list beside those of the task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import toy_arrays, toy_task

from s4kit import methods
from s4kit.data.kept import Kept
from s4kit.data.seeding import generator
from s4kit.data.sources import MemorySource
from s4kit.data.task import VOID, Further, Source, Task
from s4kit.engine import Settings, distributed, evaluate, fit, open_run, scores
from s4kit.engine.distributed import summed
from s4kit.engine.sweep import Sweep
from s4kit.engine.training import Training
from s4kit.errors import S4Error
from s4kit.methods import Card, Method, own
from s4kit.methods.base import Losses, PseudoLabels, Stage
from s4kit.methods.parts.losses import ce, pixel_ce
from s4kit.methods.parts.rounds import believed
from s4kit.nets import evaluating, make, place
from s4kit.views import Stream, ViewPlan, Views, draw_step, render
from s4kit.views.plan import Still
from s4kit.views.sampling import pick

DOTS = 60


@dataclass(frozen=True)
class Dots:
    points: Tensor  # (N, 3): x, y in [0, 1] and a value
    label: Tensor | None
    id: str


class DotSource(Source):
    """A dot is of class 1 right of a line, which is another one in each item; its value says so, with noise."""

    def __init__(self, items: int, seed: int) -> None:
        self.ids, self.seed = [f"{seed}/{k}" for k in range(items)], seed

    def read(self, row: int, label: bool = True) -> Dots:
        rng = generator("dots", self.seed, row)
        points = rng.random((DOTS, 3), dtype=np.float32)
        right = points[:, 0] > rng.uniform(0.3, 0.7)
        points[:, 2] = right + 0.3 * rng.standard_normal(DOTS)
        truth = torch.from_numpy(right.astype(np.uint8)) if label else None
        return Dots(torch.from_numpy(points), truth, self.ids[row])


class DotLook:
    """A dot is drawn where it lies; the last one of a pixel is seen."""

    def __init__(self, at: Tensor | None = None) -> None:
        self.at = at  # (B, side, side) index of the dot, -1 = none

    def bind(self, shown: Tensor, side: int) -> DotLook:
        at = torch.full((len(shown), side * side), -1)
        pixel = (shown[..., :2] * side).long().clamp(max=side - 1)
        for k, found in enumerate((pixel[..., 1] * side + pixel[..., 0]).cpu()):
            at[k, found] = torch.arange(len(found))
        return DotLook(at.view(-1, side, side).to(shown.device))

    def maps(self, maps: Tensor, fill: int = 0) -> Tensor:
        lead = maps.shape[1:-1]
        at = self.at.flatten(1).view(len(maps), *(1,) * len(lead), -1).expand(-1, *lead, -1)
        found = maps.gather(-1, at.clamp(min=0))
        return torch.where(at < 0, torch.as_tensor(fill, dtype=maps.dtype), found).unflatten(-1, self.at.shape[1:])

    def pictures(self, shown: Tensor) -> Tensor:
        return self.maps(shown[..., 2].clamp(0, 1))[:, None].expand(-1, 3, -1, -1)


@dataclass
class HostDots:
    points: Tensor
    label: Tensor
    index: Tensor
    labelled: Tensor

    def pin_memory(self) -> HostDots:
        return HostDots(*(t.pin_memory() for t in vars(self).values()))


@dataclass(frozen=True)
class DotStream:
    source: str
    batch: float = 1.0
    of: str | None = None
    maps: tuple[str, ...] = ()
    reveal: str | None = None
    look: ClassVar[DotLook] = DotLook()

    def check(self, task: Task, name: str) -> None:
        if not isinstance(task.train, DotSource):
            raise S4Error(f"The stream {name!r} draws dots, {task.name} has none.")

    def draw(self, task: Task, name: str, plan: ViewPlan, seed: int, stage: int, positions: range) -> HostDots:
        rows = [pick(task, self, name, seed, stage, position) for position in positions]
        return self.join([self._host(task, row, row in task.labelled_rows) for row in rows])

    def whole(self, task: Task, row: int) -> HostDots:
        return self._host(task, row, row in task.labelled_rows)

    def still(self, task: Task, part: str, row: int, whole: bool = False, reveals: tuple[str, ...] = ()) -> Still:
        dots = getattr(task, part).read(row)
        hidden = torch.full((1, DOTS), VOID, dtype=torch.uint8)
        return Still(HostDots(dots.points[None], hidden, torch.tensor([row]), torch.tensor([False])), dots.label[None])

    def join(self, hosts: Sequence[HostDots]) -> HostDots:
        return HostDots(*map(torch.cat, zip(*(vars(host).values() for host in hosts))))

    def render(self, host: HostDots, device: torch.device) -> Views:
        points = host.points.to(device)
        valid = torch.ones(points.shape[:2], device=device)
        return Views(points, [], [], valid, host.label.long().to(device), host.index, host.labelled)

    def _host(self, task: Task, row: int, shown: bool) -> HostDots:
        dots = task.train.read(row, label=shown)
        label = dots.label if shown else torch.full((DOTS,), VOID, dtype=torch.uint8)
        return HostDots(dots.points[None], label[None], torch.tensor([row]), torch.tensor([shown]))


@dataclass(frozen=True)
class Share:
    """The share of the dots that are right."""

    of = "sides of dots"
    how = "dots"


@dataclass
class ShareScores:
    name: ClassVar[str] = "Hits"
    headline: float

    def row(self) -> dict[str, float]:
        return {"hits": self.headline}

    def to_dict(self) -> dict[str, Any]:
        return {"hits": self.headline}


class ShareTally:
    name = "Hits"

    def __init__(self, task: Task, how: Share, device: torch.device, precision: str) -> None:
        self.counts = torch.zeros(2, dtype=torch.long, device=device)

    def add(self, net: nn.Module, items: Iterable[Dots]) -> None:
        for dots in items:
            right = net(dots.points[None]).argmax(1)[0] == dots.label
            self.counts += torch.stack([right.sum(), torch.tensor(len(right))])

    def scores(self) -> ShareScores:
        hits, of = summed(self.counts).tolist()
        return ShareScores(hits / of)

    @staticmethod
    def class_scores(net: nn.Module, shown: Tensor, how: Share) -> Tensor:
        return net(shown).softmax(1)


class DotNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(3, 8, 1), nn.ReLU(), nn.Conv1d(8, 2, 1))

    def forward(self, points: Tensor) -> Tensor:
        return self.layers(points.transpose(1, 2))


class DotMethod(Method):
    card = Card("baselines", "Dots", "", 2026)
    scored_by = Share
    views = ViewPlan(x=DotStream("labelled"), u=DotStream("unlabelled", batch=2.0))

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.student = DotNet()
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def stages(self) -> list[Stage]:
        return [Stage("labels", losses=self.labels), Stage("both", prepare=self.look_round)]

    def look_round(self, sweep: Any) -> None:
        mine = {row: int((view.label == VOID).all()) for row, view in sweep.over("all")}
        self.seen.fill_(sum(sweep.gather(mine).values()))

    def labels(self, batch: Any, clock: Any) -> Losses:
        return Losses(x=ce(self.student(batch.x.weak), batch.x.label))

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, z: Tensor, view: Views, clock: Any) -> PseudoLabels:
        confidence, label = z.softmax(1).max(1)
        return PseudoLabels(label, confidence, (confidence > 0.6).float(), view.valid)

    def losses(self, batch: Any, clock: Any) -> Losses:
        u = batch.u
        target, z = self.pseudo_labels(self.teach(u), u, clock), self.student(u.weak)
        losses = self.labels(batch, clock).add("u", pixel_ce(z, target, over="valid"))
        return losses.see(weak=u.weak, mixed=u.weak, target=target, student=z)


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setitem(scores.TALLIES, Share, ShareTally)
    monkeypatch.setitem(own.OWN, "dots", DotMethod)
    lists = tuple(range(4)), tuple(range(4, 12))
    return Task("dots", ("left", "right"), ((9, 9, 9), (200, 80, 0)), DotSource(12, 0), *lists, DotSource(5, 1), None,
                protocol="dots", evaluation=Share())  # fmt: skip


def train(task, out, resume=False, **options):
    torch.manual_seed(0)
    chosen = {"batch": 2, "lr": 0.02, "evaluate_every": 10, "probes": 3, "probe_size": 24, "progress": False}
    chosen |= {"workers": 0, "device": "cpu", "threads": 1}
    return fit(methods.create("dots", task), task, 40, out=out, resume=resume, **chosen | options)


def test_another_kind_learns_and_is_scored_by_its_own_score(task, tmp_path):
    run = train(task, tmp_path / "run")
    assert run.score == "Hits" and run.best["hits"] == max(row["hits"] for row in run.headline) > 0.85
    assert "miou" not in run.last and "Hits" in repr(run)
    assert [round_["hits"] for round_ in run.rounds] == [run.headline[1]["hits"], run.last["hits"]]
    found = open_run(run.path).evaluate(task=task, device="cpu")["student"]
    assert found.headline == pytest.approx(run.last["hits"], abs=1e-6)
    assert int(run.load(task=task, device="cpu")[0].seen) == len(task.unlabelled)  # their labels stay closed


def test_what_it_believes_is_stored_as_pictures(task, tmp_path):
    run = train(task, tmp_path / "run")
    shots, stream = run.snapshots(), DotStream("unlabelled")
    assert (shots.height, shots.width) == (24, 24) == shots.path_size
    row = task.train.ids.index(shots.ids[0])
    dots = task.train.read(row)
    at = stream.look.bind(dots.points[None], 24)
    image, step = shots.image(0), shots.steps["pseudo"][-1]
    assert np.array_equal(image["truth"], at.maps(dots.label[None], VOID)[0].numpy())
    assert np.array_equal(image["valid"] > 0, at.at[0].numpy() >= 0)
    net = run.load(task=task, device="cpu")[0].student
    label = net(dots.points[None]).argmax(1)
    assert np.array_equal(shots.read(step, "pseudo", 0)["label"], at.maps(label)[0].numpy())
    assert shots.path(shots.path_steps["pseudo"][-1], "pseudo", 0)["loss"].shape == (24, 24)
    pseudo = run.pseudo()[-1]  # counted over all dots, seen in the picture or not
    truth = torch.stack([task.train.read(task.train.ids.index(name)).label for name in shots.ids])
    seen = torch.stack([task.train.read(task.train.ids.index(name)).points for name in shots.ids])
    assert pseudo["accuracy"] == pytest.approx((net(seen).argmax(1) == truth).double().mean().item())
    survey = run.sweep(task=task, device="cpu", workers=0, show=False)
    assert len(survey) == len(task.unlabelled) + len(task.val)


def test_a_pass_and_a_survey_see_what_its_tally_makes_of_a_network(task, tmp_path, monkeypatch):
    run, seen = train(task, tmp_path / "run"), []
    net = run.load(task=task, device="cpu")[0].student
    sweep = Sweep(task, DotStream("unlabelled"), Kept(str(tmp_path), 0), 0, torch.device("cpu"), "float32", 0)
    for _, view in sweep.over("unlabelled"):
        seen.append(sweep.scores(net, view))
        assert torch.equal(seen[-1], net(view.weak).softmax(1))
    monkeypatch.setattr(DotMethod, "pseudo_labels", lambda *_: None)  # without a rule the predictor is asked
    found = run.sweep(task=task, device="cpu", workers=0, show=False).columns["confidence"]
    assert found[: len(seen)] == pytest.approx([float(p.amax(1).mean()) for p in seen], abs=1e-5)


def test_it_resumes_exactly(task, tmp_path, monkeypatch):
    straight = train(task, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(DotMethod, "after_step", lambda self, clock: 1 / (25 - clock.step - 20 * clock.stage))
        with pytest.raises(ZeroDivisionError):
            train(task, tmp_path / "killed", checkpoint_every=23)
    again = train(task, tmp_path / "killed", resume=True, checkpoint_every=23)
    one, two = (torch.load(run.path / "last.pt", weights_only=True)["method"] for run in (straight, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert straight.metrics() == again.metrics()


def test_a_method_and_a_task_of_two_kinds_are_told_apart(task, tmp_path):
    with pytest.raises(S4Error, match="draws dots, toy has none"):
        fit(methods.create("dots", task), toy_task(), 2, out=tmp_path / "run", progress=False)
    with pytest.raises(S4Error, match="how to score by Share"):
        scores.TALLIES.pop(Share)
        evaluate(DotNet(), task)


def test_volumes_are_placed_as_images_are():
    module = place(nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(3, 4)]), "cpu")
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    kept = replace(Stream("all"), maps=("label",))
    assert kept.look is Stream("labelled").look and kept.maps == ("label",)


class TwoDomains(Method):
    """Labels of both domains, and a round of its own labels; it looks at the second domain whole as well."""

    card = Card("baselines", "Two domains", "", 2026)
    views = ViewPlan(
        x=Stream("labelled"), d=Stream("domain", batch=0.5), u=Stream("unlabelled", batch=2.0, maps=("label",))
    )

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.student = make("tiny", task)
        self.register_buffer("seen", torch.zeros(2, dtype=torch.long))

    def stages(self) -> list[Stage]:
        first = ViewPlan(x=self.views["x"], d=self.views["d"])
        return [Stage("labels", losses=self.labels, views=first), Stage("both", prepare=self.look_round)]

    def look_round(self, sweep: Any) -> None:
        for row, view in sweep.over("unlabelled"):
            assert bool((view.label == VOID).all())
            sweep.keep("label", row, sweep.scores(self.student, view).argmax(1)[0])
        shown = {row: int((view.label != VOID).sum()) for row, view in sweep.over("domain")}
        shown = sweep.gather(shown)
        self.seen.copy_(torch.tensor([len(shown), sum(shown.values())]))

    def labels(self, batch: Any, clock: Any) -> Losses:
        return Losses(x=ce(self.student(batch.x.weak), batch.x.label), d=ce(self.student(batch.d.weak), batch.d.label))

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, z: Tensor, view: Views, clock: Any) -> PseudoLabels:
        confidence, label = z.softmax(1).max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    def losses(self, batch: Any, clock: Any) -> Losses:
        target, z = believed(batch.u.maps["label"], batch.u), self.student(batch.u.weak)
        mixed = batch.d.weak
        losses = self.labels(batch, clock).add("u", pixel_ce(z, target, over="valid"))
        return losses.see(weak=mixed, mixed=mixed, loss=mixed.mean(1))


def two_domains() -> Task:
    """Squares, and as a second domain other squares in a size of their own."""
    labels = toy_arrays(5, size=48, seed=9)
    source = MemorySource(*labels, 4, [f"other_{k}" for k in range(5)])
    return toy_task().with_(more={"domain": Further(source, (0, 1, 3, 4), "4 of others")})


def fitted(task: Task, out: Any, resume: bool = False, **options: Any) -> Any:
    torch.manual_seed(0)
    chosen = {"batch": 2, "lr": 0.02, "evaluate_every": 5, "probes": 2, "progress": False, "threads": 1}
    chosen |= {"workers": 0, "device": "cpu"}
    return fit(TwoDomains(task), task, 10, out=out, resume=resume, **chosen | options)


def test_a_stream_draws_a_further_list_with_all_its_labels():
    task = two_domains()
    batch = render(draw_step(task, TwoDomains.views, 4, 0, 0, 0), TwoDomains.views)
    assert batch.d.labelled.all() and len(batch.d) == 2 and not batch.u.labelled.any()
    rows = [pick(task, TwoDomains.views["d"], "d", 0, 0, k) for k in range(8)]
    assert sorted(rows[:4]) == sorted(rows[4:]) == [0, 1, 3, 4]
    assert batch.d.index.tolist() == rows[:2]
    alone = ViewPlan(x=Stream("labelled"))
    apart = render(draw_step(task.with_(more={}), alone, 4, 0, 0, 0), alone)
    assert torch.equal(apart.x.weak, batch.x.weak)  # what else a task has does not move its own draws
    for stream, words in ((Stream("domain", maps=("label",)), "kept of training images"), (Stream("other"), "--more")):
        with pytest.raises(S4Error, match=words):
            stream.check(task, "d")
    with pytest.raises(S4Error, match=r"asks for the list 'domain'.*toy has labelled, unlabelled, all"):
        Stream("domain").check(toy_task().with_(more={}), "d")


def test_a_second_domain_trains_is_watched_and_resumes(tmp_path, monkeypatch):
    task = two_domains()
    straight = fitted(task, tmp_path / "straight", workers=2)
    method = TwoDomains(task)
    method.load_state_dict(torch.load(straight.path / "last.pt", weights_only=True)["method"])
    whole = [(task.source("domain").read(row).label != VOID).sum() for row in task.rows("domain")]
    assert method.seen.tolist() == [4, sum(whole)]
    assert {name.split("_")[0] for name in straight.snapshots().ids} == {"train"}
    assert set(straight.snapshots().path_ids["pseudo"]) <= set(task.source("domain").ids)
    with monkeypatch.context() as patch:
        patch.setattr(TwoDomains, "after_step", lambda self, clock: 1 / (2 - clock.step - 5 * (1 - clock.stage)))
        with pytest.raises(ZeroDivisionError):
            fitted(task, tmp_path / "killed", checkpoint_every=1)
    again = fitted(task, tmp_path / "killed", resume=True)
    one, two = (torch.load(run.path / "last.pt", weights_only=True)["method"] for run in (straight, again))
    assert all(torch.equal(one[name], two[name]) for name in one) and straight.metrics() == again.metrics()
    other = task.with_(more={"domain": replace(task.more["domain"], rows=(0, 1))})
    with pytest.raises(S4Error, match="other domain images: other_3, other_4 there and not now"):
        fitted(other, tmp_path / "killed", resume=True)


def test_an_unlabelled_batch_leaves_the_second_domain_as_it_is(tmp_path):
    task = two_domains()
    training = Training(TwoDomains(task), task, Settings(steps=4, batch=2, unlabelled_batch=6,
                        device="cpu", workers=0), tmp_path / "run", False, False)  # fmt: skip
    plan = training.views(Stage("both"))
    assert {name: stream.batch for name, stream in plan.items()} == {"x": 1.0, "d": 0.5, "u": 6.0}


def test_two_processes_share_a_second_domain_out(tmp_path, monkeypatch):
    task = two_domains()
    drawn = [row for micro in (0, 1) for row in draw_step(task, TwoDomains.views, 4, 0, 0, micro)["d"].index.tolist()]
    assert sorted(drawn) == [0, 1, 3, 4]  # the micro-batches of two processes at one step
    kept, seen = Kept(str(tmp_path), 0), []
    sweep = Sweep(task, Stream("unlabelled"), kept, 0, torch.device("cpu"), "float32", 0)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        seen += [row for row, view in sweep.over("domain") if view.labelled.all() and len(view.weak) == 1]
    assert sorted(seen) == [0, 1, 3, 4]
