"""The kit's methods against recordings of the official code.

`S4KIT_GOLDEN` names a folder of recordings; the default is `vectors/` next to this file.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from adapters import ADAPTERS, LEFT_OUT
from harness import TOLERANCE, errors, load

from s4kit.methods import names

FOLDER = Path(os.environ.get("S4KIT_GOLDEN") or Path(__file__).parent / "vectors")
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.npz"))}

# What belongs to the methods of the kit: such a recording is answered, or LEFT_OUT says why not.
BELONGS = re.compile(
    rf"({'|'.join(names())})_(?!v2_)"
    r"|fst_(mean_teacher_step(_late)?|unsup_loss|ohem)$"
    r"|pixelssl_baselines_(supervised_loss|mt_ema|cutmix_loss)$"
    r"|gct_rampup$|st_weak_aug$"
)


@pytest.mark.parametrize("name", [name for name in FILES if name in ADAPTERS])
def test_official_code(name: str, record_property: Callable) -> None:
    recording = load(FILES[name])
    skipped, found = ADAPTERS[name].skipped(recording), errors(recording)
    record_property("answered", f"{len(found)} of {len(recording.expected)}")
    wrong = {key: error for key, error in found.items() if not error <= TOLERANCE}
    assert not wrong, f"{name}: {wrong}"
    if not found:  # an option that the kit does not have, in another recording than those that come with it
        pytest.skip(f"{name}: nothing is answered: {skipped}")


def test_no_recording_is_forgotten() -> None:
    forgotten = [name for name in FILES if BELONGS.match(name) and name not in ADAPTERS and name not in LEFT_OUT]
    assert not forgotten
    assert not ADAPTERS.keys() & LEFT_OUT.keys()


def test_recordings_come_with_the_kit() -> None:
    here = {path.stem for path in (Path(__file__).parent / "vectors").glob("*.npz")}
    assert here >= ADAPTERS.keys(), "an adapter without a recording in vectors/ is never run"


@pytest.mark.parametrize("name", ADAPTERS)
def test_no_adapter_skips_a_whole_recording(name: str) -> None:
    recording = load(Path(__file__).parent / "vectors" / f"{name}.npz")
    skipped = ADAPTERS[name].skipped(recording)
    assert skipped.keys() < recording.expected.keys()
    assert all(len(why) > 10 for why in skipped.values()), "a reason is a sentence"
