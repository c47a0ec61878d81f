"""Scoring against slow, obvious references."""

import numpy as np
import pytest
import torch
from torch import nn
from toy import toy_task

from s4kit.data.task import Evaluation
from s4kit.engine import evaluate, sliding
from s4kit.engine.evaluate import Scores, count, predict


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
