"""The embedded video data set: frames, their truth, and the motion between them."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import s4kit.data as data
from s4kit.data.corrections import Corrected
from s4kit.data.embedded.clips_paint import Clip
from s4kit.data.gathered import Gathered
from s4kit.errors import S4Error

SIDE, FRAMES = 64, 5


@pytest.fixture(scope="module")
def clips():
    return [Clip(0, index, SIDE, FRAMES) for index in range(6)]


@pytest.fixture(scope="module")
def task():
    return data.load("clips", n_train=12, n_val=3, frames=4, side=48, labelled=5)


def pulled(maps: np.ndarray, flow: np.ndarray, mode: str) -> np.ndarray:
    """The frame where the flow leads, seen from where it begins: (H, W, ...) of (H, W, ...)."""
    side = len(maps)
    y, x = np.mgrid[:side, :side]
    to = np.stack([x + flow[..., 0], y + flow[..., 1]], 2)
    grid = torch.from_numpy((to + 0.5) / side * 2 - 1)[None].float()
    planes = torch.from_numpy(maps.reshape(side, side, -1).astype(np.float32)).permute(2, 0, 1)[None]
    found = F.grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)
    return found[0].permute(1, 2, 0).numpy().reshape(maps.shape)


def test_a_clip_is_a_function_of_seed_and_index(clips):
    again = Clip(0, 1, SIDE, FRAMES)
    backwards = [again.frame(k) for k in reversed(range(FRAMES))][::-1]  # the order of reading does not matter
    for k in range(FRAMES):
        assert all(np.array_equal(a, b) for a, b in zip(clips[1].frame(k), backwards[k]))
    image, label = clips[1].frame(0)
    owner = clips[1].owner(0)
    assert image.shape == (SIDE, SIDE, 3) and label.shape == owner.shape == (SIDE, SIDE)
    known = label != 255
    assert np.array_equal(clips[1].kinds[owner][known], label[known])
    assert (image != Clip(1, 1, SIDE, FRAMES).frame(0)[0]).any()


def test_something_moves_and_something_is_covered(clips):
    found = [clip.flow(0, FRAMES - 1) for clip in clips]
    assert all(np.abs(flow).max() > 1 for flow, _ in found)
    shares = [seen.mean() for _, seen in found]
    assert 0.5 < min(shares) < max(shares) < 1
    flow, seen = clips[0].flow(2, 2)
    assert not flow.any() and seen.all()


def test_the_flow_leads_to_the_same_surface(clips):
    """What is seen in both frames has the same class there, and nearly the same colour."""
    same = of = 0
    followed, resting, covered = [], [], []
    for clip in clips:
        (image, label), (then, other) = clip.frame(1), clip.frame(3)
        flow, seen = clip.flow(1, 3)
        arrived = pulled(other, flow, "nearest")
        known = seen & (label != 255) & (arrived != 255)
        same, of = same + (arrived == label)[known].sum(), of + known.sum()
        apart = np.abs(pulled(then, flow, "bilinear") - image).mean(2)
        followed.append(apart[seen].mean())
        covered.append(apart[~seen].mean())
        resting.append(np.abs(then.astype(float) - image).mean())
    assert same / of > 0.998
    assert np.mean(followed) < 0.7 * np.mean(resting)
    assert np.mean(covered) > 1.5 * np.mean(followed), "covered pixels show something else"


def test_there_and_back_is_where_it_began(clips):
    for clip in clips[:3]:
        (there, seen), (back, seen_back) = clip.flow(0, 3), clip.flow(3, 0)
        total = there + pulled(back, there, "nearest")
        assert np.abs(total[seen & (pulled(seen_back, there, "nearest") > 0)]).max() < 0.6  # turning: half a pixel


def test_the_middle_frame_is_what_may_be_labelled(task):
    assert len(task.train) == 48 and len(task.val) == 12 and len(task.labelled) == 5
    assert all(row % 4 == 2 for row in task.labelled) and "5 of 12" in task.protocol
    assert len(task.unlabelled) == 43 and "clip_0003/1" in task.train.ids
    assert list(task.train.clip(6)) == [4, 5, 6, 7]
    assert task.train.read(5).label is not None, "the truth of the others is there to judge by"
    with pytest.raises(S4Error, match="clip_0000/1"):
        data.load("clips", n_train=2, n_val=1, labelled=["clip_0000/1"])


def test_flow_stays_in_its_clip(task):
    flow, seen = task.train.flow(4, 7)
    assert flow.shape == (48, 48, 2) and seen.shape == (48, 48) and seen.dtype == torch.bool
    with pytest.raises(S4Error, match="two clips"):
        task.train.flow(3, 4)
    with pytest.raises(S4Error, match="not known"):
        data.load("scenes", n_train=8, n_val=2, side=32).train.flow(0, 1)


def test_corrected_labels_stay_in_their_clips(task):
    corrected = Corrected(task.train, {}, task.num_classes)
    assert corrected.clip(6) == task.train.clip(6)
    assert torch.equal(corrected.flow(4, 7)[0], task.train.flow(4, 7)[0])


def test_a_list_that_has_lost_frames_keeps_the_rest_of_a_clip(task):
    kept = Gathered([task.train.ids[row] for row in (9, 5, 7, 30, 4)], [task.train])
    assert kept.clip(1) == [4, 1, 2] and kept.clip(3) == [3]
    assert torch.equal(kept.flow(1, 2)[0], task.train.flow(5, 7)[0])
    source = pickle.loads(pickle.dumps(task.train))
    assert torch.equal(source.read(6).image, task.train.read(6).image)


@pytest.mark.parametrize("wrong", [{"frames": 1}, {"n_train": 0}, {"side": 16}])
def test_impossible_clips_are_refused(wrong):
    with pytest.raises(S4Error, match="clips needs"):
        data.load("clips", **wrong)
    with pytest.raises(S4Error, match="side="):
        data.load("clips", size=0.5)


def test_motion_is_known_without_painting():
    clip = Clip(0, 2, SIDE, FRAMES)
    flow, seen = clip.flow(1, 3)
    assert "table" not in vars(clip)
    other = Clip(0, 2, SIDE, FRAMES)
    other.frame(3)
    assert all(np.array_equal(a, b) for a, b in zip(other.flow(1, 3), (flow, seen)))
