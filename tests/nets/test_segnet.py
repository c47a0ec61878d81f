"""The network type: shapes, cuts, modes of use."""

import pytest
import torch
from torch import nn

from s4kit import nets
from s4kit.errors import S4Error
from s4kit.nets.layers import ReLU6

SPECS = [
    "tiny",
    "efficientnet_lite0",
    "mobilenetv2(weights='none')",
    "mobilenetv3(weights='none')",
    "resnet18(weights='none')",
]


@pytest.fixture(scope="module")
def tiny() -> nets.SegNet:
    torch.manual_seed(0)
    return nets.make("tiny", 5)


def image(batch: int = 2, height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("size", [(64, 64), (65, 49)])
def test_shapes(spec, size):
    net = nets.make(spec, 7).eval()
    x = image(2, *size)
    with torch.no_grad():
        features = net.encode(x)
        decoded = net.decode(features, size)
        stride4 = features.low.shape[-2:]
        assert net(x).shape == (2, 7, *size)
    assert stride4 == tuple(-(-s // 4) for s in size)
    assert features.high.shape[-2:] == tuple(-(-s // 16) for s in size)
    assert [f.shape[1] for f in features.levels] == list(net.backbone.channels)
    assert decoded.embedding.shape == (2, net.decoder.embedding_channels, *stride4)
    assert decoded.fused.shape == (2, net.decoder.fused_channels, *stride4)
    assert net.decode(features).logits.shape == (2, 7, *stride4)


@pytest.mark.parametrize("spec", SPECS)
def test_output_stride_8(spec):
    net = nets.make(spec, 3, output_stride=8).eval()
    with torch.no_grad():
        assert net.encode(image(1, 64, 96)).high.shape[-2:] == (8, 12)


def test_decode_is_fuse_then_classify(tiny):
    tiny.eval()
    features = tiny.encode(image())
    whole, parts = tiny.decode(features, (48, 64)), tiny.classify(tiny.fuse(features).map, (48, 64))
    assert torch.equal(whole.logits, parts.logits)
    assert torch.equal(whole.fused, tiny.fuse(features).map)
    assert tiny.fuse(features).context.shape[-2:] == features.high.shape[-2:]


@pytest.mark.parametrize("shared", [1, 2])
def test_encode_resumes_after_shared_levels(tiny, shared):
    tiny.eval()
    full = tiny.encode(image())
    resumed = tiny.encode(image(), start=nets.Features(full.levels[:shared]))
    assert all(a is b for a, b in zip(full.levels[:shared], resumed.levels)) is True
    assert all(torch.equal(a, b) for a, b in zip(full.levels, resumed.levels))


def test_joint_is_one_batch(tiny):
    tiny.train()
    a, b = image(2, seed=1), image(3, seed=2)
    with nets.bn_untouched(tiny):
        parts, whole, alone = tiny.joint(a, b), tiny(torch.cat([a, b])), tiny(a)
    assert [len(p.logits) for p in parts] == [2, 3]
    assert torch.equal(torch.cat([p.logits for p in parts]), whole)
    assert not torch.allclose(parts[0].logits, alone, atol=1e-4), "the BN batch should have been shared"


def test_the_net_normalises_once(tiny):
    x = image()
    assert torch.allclose(tiny.normalise(x), (x - 0.5) / 0.5)
    lite0 = nets.make("efficientnet_lite0", 2)
    assert torch.allclose(lite0.normalise(x), (x * 255 - 127) / 128, atol=1e-6)
    assert "mean" not in tiny.state_dict(), "mean and std are constants of the weights, not state"


def test_logits_are_float32_under_autocast(tiny):
    with torch.autocast("cpu", torch.bfloat16):
        decoded = tiny.decode(tiny.encode(image()), (48, 64))
    assert decoded.logits.dtype == torch.float32
    assert decoded.embedding.dtype == torch.bfloat16


def test_param_groups_part_all_parameters():
    net = nets.make("tiny", 5, aux=True)
    net.heads["projection"] = nets.ProjectionHead(net.decoder.fused_channels, dim=8, hidden=8)
    groups = net.param_groups()
    ids = [id(p) for group in groups.values() for p in group]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in net.parameters()}
    assert {id(p) for p in net.heads.parameters()} <= {id(p) for p in groups["head"]}


def test_auxiliary_head():
    net = nets.make("tiny", 5, aux=True).eval()
    assert net.auxiliary(net.encode(image()), (48, 64)).shape == (2, 5, 48, 64)
    plain = nets.make("tiny", 5)
    with pytest.raises(S4Error, match="aux=True"):
        plain.auxiliary(plain.encode(image()))


@pytest.mark.parametrize("options", [{}, {"aspp": "cps"}])
def test_batch_of_one_trains(options):
    net = nets.make("tiny", 5, **options).train()
    pooled = net.decoder.aspp.pool[2] if not options else net.decoder.aspp.global_pooling_bn
    before = pooled.running_mean.clone()
    net(image(1)).mean().backward()
    assert torch.equal(pooled.running_mean, before), "one value has no statistics: they must not be learnt from it"
    assert pooled.weight.grad is not None
    net(image(2))
    assert not torch.equal(pooled.running_mean, before)


def test_channels_last_stays(tiny):
    net = nets.make("tiny", 5).to(memory_format=torch.channels_last)
    x = image().contiguous(memory_format=torch.channels_last)
    features = net.encode(x)
    maps = [*features.levels, *net.fuse(features), *nets.feature_dropout(features).levels]
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)
    assert net(x).is_contiguous(), "softmax over classes wants them so"


def test_no_conv_bias_before_a_norm():
    for spec in ("tiny(aux=True)", "efficientnet_lite0", "resnet50c(weights='none')", "tiny(aspp='cps')"):
        net = nets.make(spec, 3)
        biased = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
        assert set(biased) <= {"decoder.classifier", "aux.1"}, biased


def test_group_norm_results_do_not_depend_on_the_batch():
    net = nets.make("tiny", 5, norm="group").train()
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())
    x = image(4)
    assert torch.allclose(net(x)[:2], net(x[:2]), atol=1e-6)


def test_in_channels():
    assert nets.make("tiny", 2, in_channels=4)(torch.rand(2, 4, 32, 32)).shape == (2, 2, 32, 32)
    assert nets.make("efficientnet_lite0", 2, in_channels=1).eval()(torch.rand(1, 1, 32, 32)).shape == (1, 2, 32, 32)


def test_features_move_together():
    features = nets.Features((torch.arange(6.0).view(3, 2), torch.arange(3.0)), {"token": torch.arange(3)})
    a, b = features.split(1, 2)
    joined = nets.Features.cat([a, b])
    assert all(torch.equal(x, y) for x, y in zip(joined.levels, features.levels))
    assert torch.equal(joined.extra["token"], features.extra["token"])
    assert torch.equal(features.rows([2]).high, torch.tensor([2.0]))
    assert torch.equal(features.map(lambda x: x * 2).low, features.low * 2)


def test_feature_dropout_draws_per_image_and_level():
    torch.manual_seed(0)
    ones = nets.Features(tuple(torch.ones(4, 64, 3, 3) for _ in range(3)))
    low, mid, high = nets.feature_dropout(ones, 0.5).levels
    assert torch.equal(mid, ones.mid)
    assert set(low.unique().tolist()) == {0.0, 2.0}, "kept channels are rescaled"
    assert torch.equal(low, low[..., :1, :1].expand_as(low)), "whole channels drop"
    assert not torch.equal(low[0], low[1])
    assert not torch.equal(low, high)
    assert torch.equal(nets.feature_dropout(ones, 0.0).low, ones.low)


def test_projection_head():
    head = nets.ProjectionHead(10, dim=12, hidden=8, dropout=0.1)
    assert head(torch.rand(2, 10, 5, 7)).shape == (2, 12, 5, 7)
    assert sum(isinstance(m, nn.Dropout2d) for m in head.modules()) == 2


def to_fake(module: nn.Module, device: torch.device) -> None:
    """Move parameters and buffers to a device that exists in name only; call inside FakeTensorMode."""
    for m in module.modules():
        for name, t in [*m._parameters.items(), *m._buffers.items()]:
            if t is not None:
                fake = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device)
                setattr(m, name, nn.Parameter(fake, t.requires_grad) if isinstance(t, nn.Parameter) else fake)


@pytest.mark.parametrize("spec", ["tiny(aux=True)", "efficientnet_lite0", "tiny(aspp='cps')"])
def test_everything_stays_on_the_device_and_reads_nothing(spec):
    from torch._subclasses.fake_tensor import FakeTensorMode

    net = nets.make(spec, 5)
    teacher = nets.copy_of(net)
    device = torch.device("lazy", 0)
    with FakeTensorMode():
        to_fake(net, device), to_fake(teacher, device)
        x = torch.empty(2, 3, 48, 64, device=device)
        z, _ = net.joint(x, x[:1])
        features = net.encode(x).ends
        both = nets.Features.cat([features, nets.feature_dropout(features)])
        (z.logits.mean() + net.decode(both).logits.mean()).backward()
        with nets.evaluating(teacher):
            assert teacher(x[:1]).device == device
        with nets.bn_untouched(net), nets.frozen(net):
            net(x[:1])
        nets.ema(teacher, net, 0.9)
    assert z.logits.shape == (2, 5, 48, 64)


def test_relu6_is_pytorchs_and_keeps_nothing_but_its_answer():
    x = torch.tensor([-1.0, -0.0, 0.0, 1e-8, 3.0, 6.0, 6.0000005, 9.0, torch.inf])
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        y = ReLU6()(before := ours + 0)
    expected = nn.ReLU6()(theirs)
    upstream = torch.randn(len(x))
    assert torch.equal(y, expected) and kept == [y.data_ptr()] == [before.data_ptr()], "in place"
    assert torch.equal(*(torch.autograd.grad(out, leaf, upstream)[0] for out, leaf in ((y, ours), (expected, theirs))))
    assert ReLU6()(x) is x and x.max() == 6


def test_logits_that_nobody_asks_for_are_not_enlarged(tiny):
    image, asked = torch.rand(3, 3, 33, 33), []
    whole = tiny.decode(tiny.encode(image), (33, 33))
    enlarge, whole.enlarge = whole.enlarge, lambda scores: asked.append(len(scores)) or enlarge(scores)
    first, _ = whole.split(1, 2)
    torch.testing.assert_close(first.logits, whole.logits[:1])
    assert first.logits is first.logits and asked == [1, 3]
    assert whole.logits.is_contiguous() and whole.logits.shape[-2:] == (33, 33)
