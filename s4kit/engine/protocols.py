"""How the papers score, by name: `evaluate(net, task, PROTOCOLS["cityscapes/cps"].evaluation)`.

Read in the official code at the commits below. All are single-scale without flip, as published; `scored_by` adds scales
and flip on request. Every one scores at the original resolution, over all pixels whose label is not void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..data.task import Evaluation
from ..errors import S4Error, closest

UNIMATCH = "LiheYoung/UniMatch@0324f3d"
UNIMATCH_V2 = "LiheYoung/UniMatch-V2@f6afb4d"
CPS = "charlesCXK/TorchSemiSeg@5e0c29c"
U2PL = "Haochen-Wang409/U2PL@ab3d2be"
AEL = "hzhupku/SemiSeg-AEL@747c797"
IMAS = "ZhenZHAO/iMAS@96e57e0"
AUGSEG = "ZhenZHAO/AugSeg@7ead870"
PSMT = "yyliu01/PS-MT@058cdc3"


@dataclass(frozen=True)
class Protocol:
    """A paper's way to score.

    Attributes:
        evaluation: sizes, windows and the rest, as a task has them.
        source: repository, commit and file.
        note: what the official code does beyond it, or differently on other images.
    """

    evaluation: Evaluation
    source: str
    note: str = ""

    def __str__(self) -> str:
        how = self.evaluation
        words = {
            "whole": "whole images at original resolution",
            "resize": "whole images at "
            + (f"a shorter side of {how.short}" if how.short else f"the nearest multiples of {how.multiple}")
            + " pixels, scores brought back",
            "enlarge": f"whole images at the next multiples of {how.multiple} pixels, scores brought back",
            "sliding": f"window {how.window}, step {how.stride:.2f} of it, {how.border} at the border, {how.combine}",
        }[how.mode]
        scales = "" if how.scales == (1.0,) else f", scales {', '.join(f'{scale:g}' for scale in how.scales)}"
        return words + scales + (", mirrored too" if how.flip else "")


WHOLE = Evaluation(combine="logits")
MULTIPLE_14 = Evaluation("resize", combine="logits", multiple=14, corners=True)
FURNACE = Evaluation("sliding", 512, border="shift", combine="logits", pad="fitting")
PSP = Evaluation("sliding", 769, border="shift", combine="logits", overlap="mean", pad="mean", corners=True)
_COUNTED = (
    "The release also counts the padding, its label set to background, which adds easy background pixels; the kit "
    "leaves it out."
)

PROTOCOLS = {
    "voc": Protocol(WHOLE, f"{UNIMATCH} supervised.py: evaluate, mode original"),
    "voc/cps": Protocol(
        FURNACE,
        f"{CPS} furnace/engine/evaluator.py: sliding_eval; exp.voc/*/config.py: eval_crop_size 512",
        "VOC images fit into one window: they are padded to 512 with the mean colour. Between scales the release "
        "resizes 8-bit images, the kit floats.",
    ),
    "voc/u2pl": Protocol(
        replace(PSP, window=513), f"{U2PL} train_semi.py: validate; u2pl/dataset/augmentation.py: Crop", _COUNTED
    ),
    "voc/ael": Protocol(
        replace(PSP, window=513), f"{AEL} train.py: validate; semseg/dataset/augmentation.py: Crop", _COUNTED
    ),
    "voc/guidedmix": Protocol(
        Evaluation("resize", combine="logits", short=512),
        "yh-pengtu/GuidedMix-Net@27de72a configs/3sseg/guidedmix_deeplabv3plus_res101_1323.py: test_pipeline",
        "The release resizes 8-bit images, the kit floats. Its longer side ends at 2048, which no VOC image reaches.",
    ),
    "voc/unimatch_v2": Protocol(MULTIPLE_14, f"{UNIMATCH_V2} supervised.py: evaluate, multiplier 14"),
    "cityscapes": Protocol(
        Evaluation("sliding", 801),
        f"{UNIMATCH} supervised.py: evaluate, mode sliding_window; configs/cityscapes.yaml: crop_size 801",
    ),
    "cityscapes/whole": Protocol(
        WHOLE,
        "Britefury/cutmix-semisup-seg, WilhelmT/ClassMix, Ivan1248/semisup-seg-efficient: images halved beforehand; "
        "dvlab-research/Context-Aware-Consistency: as they are",
        "Where the images are read at half size (`size=0.5`), that is their original resolution.",
    ),
    "cityscapes/cps": Protocol(
        replace(FURNACE, window=800),
        f"{CPS} furnace/engine/evaluator.py: sliding_eval; exp.city/*/config.py: eval_crop_size 800",
        "Between scales the release resizes 8-bit images, the kit floats. PS-MT scores in the same way.",
    ),
    "cityscapes/u2pl": Protocol(
        PSP,
        f"{U2PL} eval.py: validate_city, --scales 1.0; experiments/cityscapes/744/ours/config.yaml: 769",
        "The release first brings the long side to 2048, which Cityscapes has.",
    ),
    "cityscapes/ael": Protocol(
        replace(PSP, combine="probabilities"),
        f"{AEL} eval.py: validate_city, --scales 1.0 as in experiments/cityscapes_2/train.sh",
        "eval.py by itself would use the scales 0.5, 0.75, 1, 1.25, 1.5, 2.",
    ),
    "cityscapes/imas": Protocol(
        Evaluation("sliding", 769),
        f"{IMAS} train_semi.py: validate_citys; exps/citys_semi744/config_semi_os8.yaml: crop 769",
    ),
    "cityscapes/unimatch_v2": Protocol(
        Evaluation("sliding", 798, border="shift"),
        f"{UNIMATCH_V2} supervised.py: evaluate, mode sliding_window; configs/cityscapes.yaml: crop_size 798",
        "The release fails on images smaller than the window, the kit pads them with black.",
    ),
    "cityscapes/augseg": Protocol(
        Evaluation("sliding", 800),
        f"{AUGSEG} exps/zrun_citys/citys_semi744/config_semi.yaml: AugSeg on Cityscapes, UniMatch's way at its crop",
    ),
    "cityscapes/tri_kd": Protocol(
        Evaluation("sliding", 512),
        "mlvccn/TriKD_SemiSeg configs/cityscapes_triple21m_512_e300.yaml: crop_size 512, UniMatch's way",
        "The file that scores is not in the release.",
    ),
    "voc/psmt": Protocol(
        Evaluation("enlarge", combine="logits", multiple=8, corners=True),
        f"{PSMT} VocCode/train.py: _valid_epoch: PS-MT on VOC",
    ),
    "coco": Protocol(WHOLE, f"{UNIMATCH} supervised.py: evaluate, mode original"),
    "coco/unimatch_v2": Protocol(MULTIPLE_14, f"{UNIMATCH_V2} supervised.py: evaluate, multiplier 14"),
    "ade20k": Protocol(WHOLE, f"{UNIMATCH} supervised.py: evaluate, mode original"),
    "ade20k/unimatch_v2": Protocol(MULTIPLE_14, f"{UNIMATCH_V2} supervised.py: evaluate, multiplier 14"),
    "ade20k/dual_teacher": Protocol(
        Evaluation("resize", combine="logits", short=512),
        "naver-ai/dual-teacher@868e6e7 local_configs/_base_/datasets/ade20k_repeat.py: test_pipeline",
        "The release resizes 8-bit images, the kit floats; both sides then become multiples of 32 pixels there.",
    ),
}


def protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        S4Error: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise S4Error(f"There is no protocol {name!r}. {closest(name, sorted(PROTOCOLS))}")
    return PROTOCOLS[name]


def scored_by(
    evaluation: Evaluation, name: str | None = None, scales: Sequence[float] | None = None, flip: bool = False
) -> Evaluation:
    """An evaluation with what is asked for on top: a protocol by name in its place, other scales, flip.

    Raises:
        S4Error: no such protocol, scales that are not above 0, or the data are not scored by pixels.
    """
    if not (name or scales or flip):
        return evaluation
    if not isinstance(evaluation, Evaluation):
        raise S4Error(
            f"Papers' protocols, scales and flip are of {Evaluation.of}; these data are scored by {evaluation.of}."
        )
    how = protocol(name).evaluation if name else evaluation
    return replace(how, scales=tuple(scales or how.scales), flip=flip or how.flip)
