"""Scoring against slow, obvious references."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from toy import toy_task

from s4kit.data.task import Evaluation, Sample
from s4kit.engine import ahead, evaluate, sliding
from s4kit.engine.scores import Scores, count
from s4kit.engine.windows import predict
from s4kit.errors import S4Error


class Conv(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, classes, 3, padding=1)

    def forward(self, image):
        return self.conv(image)


def slow_confusion(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    out = np.zeros((classes, classes), int)
    for p, t in zip(prediction.ravel(), label.ravel()):
        if t != 255:
            out[t, p] += 1
    return out


def test_confusion_counts_every_known_pixel_once():
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 4, (9, 11)), rng.integers(0, 4, (9, 11))
    label[2] = 255
    got = count(torch.from_numpy(prediction), torch.from_numpy(label), 4)
    assert (got.numpy() == slow_confusion(prediction, label, 4)).all()


def test_iou_of_a_class_nobody_has_is_left_out_of_the_mean():
    scores = Scores(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert scores.iou[:2].tolist() == pytest.approx([3 / 4, 4 / 5]) and scores.iou[2].isnan()
    assert scores.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert scores.accuracy == pytest.approx(7 / 8)
    assert "—" in str(scores) and "77.5" in str(scores)


def test_evaluation_of_a_task_is_the_sum_over_its_images():
    task, net = toy_task(), Conv()
    scores = evaluate(net, task)
    expected = np.zeros((4, 4), int)
    for row in range(len(task.val)):
        sample = task.val.read(row)
        with torch.no_grad():
            prediction = net(sample.image[None] / 255).argmax(1)[0]
        expected += slow_confusion(prediction.numpy(), sample.label.numpy(), 4)
    assert (scores.confusion.numpy() == expected).all()


@pytest.mark.parametrize("size", [(16, 16), (26, 33), (9, 40)])
def test_sliding_window_cut_at_the_border(size):
    net, image = Conv(), torch.rand(1, 3, *size)
    expected = torch.zeros(1, 4, *size)
    with torch.no_grad():
        for y in range(0, size[0], 10):
            for x in range(0, size[1], 10):
                part = image[..., y : y + 15, x : x + 15]
                expected[..., y : y + 15, x : x + 15] += net(part).softmax(1)
        torch.testing.assert_close(sliding(net, image, 15), expected)


@pytest.mark.parametrize("size", [(24, 24), (40, 57), (10, 30)])
def test_sliding_window_shifted_back_covers_everything(size):
    net, image = Conv(), torch.rand(1, 3, *size)
    with torch.no_grad():
        got = sliding(net, image, 24, border="shift", combine="logits")
        assert got.shape == (1, 4, *size)
        if size == (24, 24):
            torch.testing.assert_close(got, net(image))


def test_mode_is_restored_and_the_protocol_obeyed():
    task, net = toy_task(), Conv().train()
    evaluate(net, task, Evaluation("sliding", 16))
    assert net.training
    image = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(predict(net, image, Evaluation("sliding", 16)), sliding(net, image, 16))


# ---- several at once ----


class Mixed:
    """Images of two sizes in turn, of which one cannot be read where `broken` says so."""

    def __init__(self, broken: int | None = None) -> None:
        g = torch.Generator().manual_seed(0)
        sizes = [(20, 26), (20, 26), (26, 20), (20, 26), (26, 20), (20, 26), (20, 26)]
        self.images = [torch.randint(256, (3, *s), generator=g, dtype=torch.uint8) for s in sizes]
        self.labels = [torch.randint(4, s, generator=g, dtype=torch.uint8) for s in sizes]
        self.ids, self.broken = [str(k) for k in range(len(sizes))], broken

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int, label: bool = True) -> Sample:
        if row == self.broken:
            raise S4Error(f"{row}.png is cut off")
        return Sample(self.images[row], self.labels[row], self.ids[row])


class Batches(Conv):
    """Keeps how many images each forward had; has no room for more than `room`."""

    def __init__(self, room: int = 100) -> None:
        super().__init__()
        self.room, self.seen = room, []

    def forward(self, image):
        self.seen.append(len(image))
        if len(image) > self.room:
            raise torch.OutOfMemoryError
        return super().forward(image)


@pytest.mark.parametrize(
    "how",
    [
        Evaluation(),
        Evaluation("sliding", 12),
        Evaluation("sliding", 12, border="shift", overlap="mean", flip=True),
        Evaluation("resize", multiple=8, scales=(1, 1.5), corners=True),
    ],
)
def test_several_at_once_score_as_one_by_one(how, monkeypatch):
    task = toy_task().with_(val=Mixed())
    one, few = Batches(), Batches()
    expected = evaluate(one, task, how).confusion
    assert set(one.seen) == {1}
    monkeypatch.setattr(ahead, "at_once", lambda device: 3)
    assert torch.equal(evaluate(few, task, how).confusion, expected)
    assert max(few.seen) == 3 and sum(few.seen) == sum(one.seen) and len(few.seen) < 0.6 * len(one.seen)
    scarce = Batches(room=1)  # nothing is lost or counted twice where the memory ends in the middle
    monkeypatch.setattr(ahead, "at_once", lambda device: 4)
    assert torch.equal(evaluate(scarce, task, how).confusion, expected)
    assert sum(n > 1 for n in scarce.seen) == 2  # tried once with four, once with two


def test_memory_that_ends_with_a_single_image_is_said():
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Batches(room=0), toy_task())


def test_groups_are_of_one_size_and_few_images_wait():
    source, drawn = Mixed(), []

    def read():
        for row in range(len(source)):
            drawn.append(row)
            yield source.read(row)

    groups = [([sample.id for sample in group], len(drawn)) for group in ahead.alike(read(), 2)]
    assert groups == [(["0", "1"], 2), (["2", "4"], 5), (["3", "5"], 6), (["6"], 7)]


def test_images_are_read_ahead_in_order_and_a_broken_file_is_named(monkeypatch):
    source, read, gate = Mixed(), [], threading.Event()
    monkeypatch.setattr(ahead, "pick_workers", lambda workers, device: 2)
    plain = source.read

    def slow(row):
        read.append(row)
        return plain(row) if gate.wait(timeout=30) else None

    monkeypatch.setattr(source, "read", slow)
    monkeypatch.setattr(ahead, "AHEAD", 1)
    threading.Timer(0.2, gate.set).start()
    drawn = ahead.samples(source, [4, 0, 6, 2], torch.device("cpu"))
    assert next(drawn).id == "4" and {4, 0} <= {*read} and 2 not in read  # two are waited for, the last not yet begun
    assert [sample.id for sample in drawn] == ["0", "6", "2"]
    with pytest.raises(S4Error, match=r"^3.png is cut off$"):
        list(ahead.samples(Mixed(broken=3), range(7), torch.device("cpu")))
