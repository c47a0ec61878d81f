"""The yardstick of the host benchmark: a plain Pillow pipeline per sample, as public semi-supervised loaders have it.

Everything on the CPU, on whole images: resize, pad, crop, flip, then colour jitter, grey and blur through torchvision's
and Pillow's image operations, then to tensors.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor

from ...data.task import Task
from .plain.views import geometry, strong, unimatch_box

_normalised = Compose([ToTensor(), Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])


def labelled_sample(task: Task, row: int) -> tuple[Tensor, Tensor]:
    """One labelled image: normalised (3, S, S) and its label (S, S) long."""
    image, label = _geometry(task, row)
    return _normalised(image), torch.from_numpy(np.array(label)).long()


def unlabelled_sample(task: Task, row: int) -> tuple[Tensor, ...]:
    """One unlabelled image: a weak and two strong views (3, S, S), the padding (S, S) as 255, two CutMix masks (S, S).

    The label map is read as well, since these loaders' lists name one for every image.
    """
    image, label = _geometry(task, row)
    views = [strong(image.copy()) for _ in range(2)]
    ignored = torch.zeros(label.size[::-1], dtype=torch.long)
    ignored[torch.from_numpy(np.array(label)).long() == 255] = 255
    return _normalised(image), *map(_normalised, views), ignored, *(unimatch_box(task.crop).float() for _ in range(2))


def _geometry(task: Task, row: int) -> tuple[Image.Image, Image.Image]:
    image = Image.open(task.train.image_path(row)).convert("RGB")
    label = Image.fromarray(np.array(Image.open(task.train.label_path(row))))
    return geometry(image, label, task.crop)
