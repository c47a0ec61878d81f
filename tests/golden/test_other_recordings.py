"""The adapters of the official recordings on recordings of our own, whose answers are independent of the kit's code."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import ADAPTERS
from harness import TOLERANCE, errors, load
from other_recordings import VARIANTS, recording

for path in sorted(Path(__file__).parent.glob("others_*.py")):
    import_module(path.stem)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_another_recording(name: str) -> None:
    found = errors(recording(name))
    assert found, "nothing is answered"
    assert not {key: error for key, error in found.items() if not error <= TOLERANCE}


# Official recordings made narrower, the arrays by the width that is left: answers are finite and of the right shape.
NARROW = {
    "fst_mean_teacher_step": {"in_image_l": 11, "in_label_l": 11, "in_image_u": 11},
    "fst_mean_teacher_step_late": {"in_image_l": 12, "in_label_l": 12, "in_image_u": 12},
    "ddfp_attack": {"in_features": 5, "in_label": 9, "out_noise": 5},
    "pseudoseg_sgc": {
        "in_feature_s15": 6, "in_feature_s16": 3, "in_valid": 12, "out_cam": 3, "out_attention_logits": 3
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NARROW)
def test_a_narrower_recording(name: str) -> None:
    official = load(Path(__file__).parent / "vectors" / f"{name}.npz")
    for key, width in NARROW[name].items():
        arrays = official.inputs if key in official.inputs else official.expected
        arrays[key] = np.ascontiguousarray(arrays[key][..., :width])
    answers = ADAPTERS[name].run(official)
    for key, expected in official.expected.items():
        answer = torch.as_tensor(answers[key]).detach()
        assert tuple(answer.shape) == expected.shape, key
        assert answer.isfinite().all(), key


def test_names() -> None:
    assert VARIANTS.keys() | NARROW.keys() <= ADAPTERS.keys()
    assert not VARIANTS.keys() & NARROW.keys()
