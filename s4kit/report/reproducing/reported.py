"""Which reported number a training stands beside: rows of the literature, ranked by what they share with a set-up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...data.splitting import published
from ...methods import get
from ...nets import parse
from .literature import entries, score_of, value_of

KINDS = {
    "readme": "table",
    "table_image": "table",
    "log": "training log",
    "leaderboard": "leaderboard",
    "copied_by_other": "table of another paper",
}
DINOV2 = {"small": "Small", "base": "Base", "large": "Large"}
# Papers whose classic lists are not those of the others: their endings in the names of the kit's lists.
CLASSIC = {"cps": "pseudoseg", "psmt": "psmt", "pseudoseg": "psmt"}
# What the notes of rows say of other versions than the kit's, and of lists that nobody else has.
VERSIONS = {
    "with AEL": "AEL as its host",
    "on FixMatch": "FixMatch as its host",
    "no sliding window": "whole images scored",
}
OWN_LISTS = re.compile("own lists|random splits|Hung-protocol")


@dataclass(frozen=True)
class Reported:
    """One row of the literature beside a set-up.

    Attributes:
        row: as in literature.json, see `value_of`.
        other: what differs from the set-up, in words.
        unsaid: what the source does not say, in words.
        own: the source is the method's official code.
    """

    row: dict[str, Any]
    other: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    own: bool = False

    @property
    def exact(self) -> bool:
        """Nothing that the source says differs."""
        return not self.other

    @property
    def kind(self) -> str:
        """Of what kind the source is: "the method's own table", "training log of another code"."""
        kind = KINDS.get(self.row["kind"], self.row["kind"])
        if self.row["kind"] == "copied_by_other":
            return kind
        return f"the method's own {kind}" if self.own else f"{kind} of another code"

    @property
    def words(self) -> str:
        """How near it is to the set-up: a clause."""
        if self.other:
            return "but with " + _listed(self.other)
        if self.unsaid:
            return f"same as far as its source says: it leaves open {_listed(self.unsaid)}"
        return "same list, network and crop"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def reported(method: str, dataset: str, split: str, net: str, crop: int) -> list[Reported]:
    """Rows of a method on a data set and list, the nearest to a set-up first.

    Args:
        method, dataset: names of the kit.
        split: the list, such as "voc/classic/183", "cps/1323", "1_8".
        net: network spec. crop: side of the training crop.

    Returns:
        Rows of mIoU on the same data set, protocol of labels (classic or blended) and number of labels; [] where there
        is none.
    """
    place = published.get(split, dataset=dataset)
    label = place.fraction or str(place.count)
    section = {"classic": "voc_classic"}.get(place.family, "voc_blended") if dataset == "voc" else dataset
    wanted = ("mIoU", method, section, label)
    rows = [r for r in entries() if (score_of(r), r["name"], r["dataset"], r["split"]) == wanted]
    found = [_beside(row, method, place, net, crop) for row in rows]
    return sorted(found, key=_distance)


def _distance(found: Reported) -> tuple[float, ...]:
    kind = list(KINDS).index(found.row["kind"]) if found.row["kind"] in KINDS else len(KINDS)
    return len(found.other), len(found.unsaid), not found.own, kind, -value_of(found.row)


def _beside(row: dict[str, Any], method: str, place: published.Split, net: str, crop: int) -> Reported:
    other, unsaid, code = [], [], get(method).card.code
    note = row.get("note") or ""
    other += [words for said, words in VERSIONS.items() if said in note]
    for aspect in (_list(row, method, place), _network(row["backbone"], net), _crop(row.get("crop"), crop)):
        other += aspect[0]
        unsaid += aspect[1]
    owner = code.removeprefix("https://github.com/").split("/")[0].lower()  # its repositories may have been renamed
    own = bool(owner) and row["source"].lower().startswith(f"{owner}/")
    return Reported(row, tuple(other), tuple(unsaid), own)


def _list(row: dict[str, Any], method: str, place: published.Split) -> tuple[list[str], list[str]]:
    """The list of labelled images, and which images are unlabelled beside it."""
    if OWN_LISTS.search(row.get("note") or ""):
        return ["labelled lists of its own"], []
    if place.family == "classic":
        number = str(place.count)
        wanted = "_".join(filter(None, (f"voc/classic/{number}", CLASSIC.get(method))))
        wanted = wanted if wanted in published.names() else f"voc/classic/{number}"
        return ([], []) if wanted == place.name else ([f"the list {wanted}"], [])
    if place.dataset not in ("voc", "cityscapes"):
        return [], []
    said = {"cps": "cps", "u2pl": "u2pl", "u2pl_priority": "u2pl"}.get(row.get("split_protocol") or "")
    if said is None:
        return [], ["the list"]
    wanted = place.name.replace(f"/{place.family}/", f"/{said}/")
    return ([], []) if wanted == place.name else ([f"the list {wanted}"], [])


def network(net: str) -> tuple[str, str, int]:
    """A network spec in the words of papers: ("ResNet-101", "DeepLabV3+", output stride)."""
    name, options = parse(net)
    if name.startswith("dinov2_"):
        size = name.removeprefix("dinov2_")
        return f"DINOv2-{DINOV2.get(size, size)}", "DPT", 14
    if name.startswith("mit_"):
        return f"MiT-{name.removeprefix('mit_').upper()}", "SegFormer", 32
    if name.startswith("tiny_vit_"):
        return f"TinyViT-{name.removeprefix('tiny_vit_').upper()}", "UPerNet with frequencies", 32
    found = re.fullmatch(r"resnet(\d+)c?", name)
    decoder = "PSPNet with pixel shuffles" if options.get("decoder") == "psp" else "DeepLabV3+"
    return f"ResNet-{found[1]}" if found else name, decoder, options.get("output_stride", 16)


def _network(text: str, net: str) -> tuple[list[str], list[str]]:
    """The network, of which sources say more or less: "ResNet-101 / DeepLabV3+ (os 16)", "CNN (R101)"."""
    encoder, decoder, stride = network(net)
    other, unsaid = [], []
    said = re.search(r"ResNet-\d+|DINOv2-\w+|Xception-?\d*|MiT-B\d|SegFormer-B\d", text)
    short = re.search(r"\bR(\d+)\b", text)
    names = said[0] if said else f"ResNet-{short[1]}" if short else ""
    if names and names != encoder:
        other.append(names)
    if not said or "unsure" in text:
        unsaid.append("the network")
    head = re.search(r"DeepLabV\d\+?|PSPNet|DPT|SegFormer", text)
    if head and head[0] != decoder:
        other.append(head[0])
    if "COCO pretrained" in text:
        other.append("pretraining on COCO")
    os = re.search(r"os (\d+)", text)
    if os and int(os[1]) != stride:
        other.append(f"output stride {os[1]}")
    return other, unsaid


def _crop(said: int | str | None, crop: int) -> tuple[list[str], list[str]]:
    if said == crop:
        return [], []
    if said is None:
        return [], ["the crop"]
    numbers = re.findall(r"\d+", str(said))
    if "unsure" in str(said) or str(crop) in numbers:
        return [], [f"the crop ({said})"]
    return [f"crop {said}"], []
