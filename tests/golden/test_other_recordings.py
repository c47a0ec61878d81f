"""The adapters of the official recordings on recordings of our own, whose answers are independent of the kit's code."""

from importlib import import_module
from pathlib import Path

import pytest
from adapters import ADAPTERS
from harness import TOLERANCE, errors
from other_recordings import VARIANTS, recording

for path in sorted(Path(__file__).parent.glob("others_*.py")):
    import_module(path.stem)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_another_recording(name: str) -> None:
    found = errors(recording(name))
    assert found, "nothing is answered"
    assert not {key: error for key, error in found.items() if not error <= TOLERANCE}


def test_what_has_no_recording_of_our_own() -> None:
    assert VARIANTS.keys() <= ADAPTERS.keys()
