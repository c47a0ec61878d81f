"""Every recording that the kit answers, by (method, what), and the reasons why some are left out.

The functions are in the files `*_adapters.py` of this folder, which register themselves.
"""

from importlib import import_module
from pathlib import Path

from harness import ADAPTERS

__all__ = ["ADAPTERS", "LEFT_OUT"]

for path in sorted(Path(__file__).parent.glob("*_adapters.py")):
    import_module(path.stem)

# Recordings of methods that the kit has, which it does not answer.
LEFT_OUT: dict[str, str] = {
    "cps_epoch_pairing": "the kit draws from endless permutations of both lists instead of stretching the shorter one",
    "ssl_denoising_sce": "the release builds this loss and never calls it: its training is that of unsup_step",
    "dual_teacher_pil_roundtrip": "images, labels and confidences stay on the device: nothing passes through 8 bits",
}
