"""Photometric recipes one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from .photometric import Params, Strong


class Chain:
    """A recipe that applies others in turn: `Chain(Strong(), Intensity())` is DSSN's strong view."""

    def __init__(self, *recipes: Any) -> None:
        self.recipes = recipes

    def draw(self, rng: np.random.Generator) -> Params:
        """The parameters of one sample, those of recipe k under "k/<name>"."""
        return {f"{k}/{name}": value for k, r in enumerate(self.recipes) for name, value in r.draw(rng).items()}

    sample = Strong.sample  # the same for every recipe

    def apply(self, image: Tensor, params: Params) -> Tensor:
        """Change (B, 3, H, W) images in [0, 1] by parameters stacked over the batch; returns new images."""
        for k, recipe in enumerate(self.recipes):
            own = {name.split("/", 1)[1]: value for name, value in params.items() if name.startswith(f"{k}/")}
            image = recipe.apply(image, own)
        return image
