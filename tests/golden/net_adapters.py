"""Networks against recordings: the ASPP of CPS and the shapes of its DeepLabV3+."""

import re
from collections import Counter

import torch
from harness import Recording, adapter, grad_of
from torch import nn

from s4kit import nets
from s4kit.methods.cotraining.cps import PAPER_NET
from s4kit.nets.deeplab import CPSASPP


def other_slope(recording: Recording) -> dict[str, str]:
    slope = recording.hyper["leaky_slope"]
    return {} if slope == 0.01 else dict.fromkeys(recording.expected, f"a slope of {slope} is in no released network")


@adapter("cps", "aspp", skip=other_slope)
def aspp(recording: Recording) -> dict:
    hyper = recording.hyper
    layer = CPSASPP(hyper["in_channels"], hyper["out_channels"], hyper["rates"], hidden=hyper["hidden"])
    given = {k.removeprefix("in_w_"): torch.from_numpy(v) for k, v in recording.inputs.items() if k.startswith("in_w_")}
    missing, unexpected = layer.load_state_dict({k.replace("__", "."): v for k, v in given.items()}, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    for m in layer.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = hyper["bn_momentum"]
    x = recording.tensor("x", grad=True)
    y = layer.train()(x)
    (y * recording.tensor("cotangent")).sum().backward()
    state = layer.state_dict()
    running = {k: state[k.removeprefix("out_state_").replace("__", ".")] for k in recording.expected if "state" in k}
    return {"out_y_train": y, "out_y_eval_after": layer.eval()(x), "out_grad_x": grad_of(x), **running}


def other_backbone(recording: Recording) -> dict[str, str]:
    said = recording.hyper["backbone"]
    known = re.fullmatch(r"resnet(50|101) deep stem width 64", said)
    return {} if known else dict.fromkeys(recording.expected, f"the configurations of CPS have no {said}")


@adapter("cps", "network_shapes", skip=other_backbone)
def network_shapes(recording: Recording) -> dict:
    hyper, size = recording.hyper, recording.tensor("input_shape").tolist()
    dilations = tuple(int(d) for d in re.match(r"(\d+),(\d+),(\d+)", hyper["layer4_dilations"]).groups())
    name, options = f"{hyper['backbone'].split()[0]}c", nets.parse(PAPER_NET)[1] | {"multi_grid": dilations}
    spec = f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})"
    net = nets.make(spec, hyper["classes"], weights="none", output_stride=hyper["output_stride"])
    convolutions = [conv for _, *conv in recording.spec["convolutions"]]
    mine = [[list(v) for v in (m.kernel_size, m.stride, m.dilation, m.padding)] for m in net.modules() if _is_conv(m)]
    backbone = sum(_is_conv(m) for m in net.backbone.modules())
    assert mine[:backbone] == convolutions[:backbone], "the backbone's layers, in order"
    assert Counter(map(str, mine)) == Counter(map(str, convolutions))
    shapes = Counter(str(list(p.shape)) for p in net.parameters())
    assert shapes == Counter(str(shape) for _, shape in recording.spec["parameters"])
    with torch.device("meta"):
        image = torch.empty(size)
    net = net.to("meta")
    features = net.encode(image)
    return {
        "out_block_shapes": [list(level.shape) for level in features.levels],
        "out_feature_shape": list(net.decode(features).embedding.shape),
        "out_pred_shape": list(net.train()(image).shape),
        "out_eval_pred_shape": list(net.eval()(image).shape),
        "out_n_params": sum(p.numel() for p in net.parameters()),
    }


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)
