"""Mix Transformers and the SegFormer decoder."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s4kit import nets
from s4kit.errors import S4Error
from s4kit.nets.segformer import SegFormerDecoder

WIDTHS, HEADS, RATIOS = (8, 8, 16, 16), (1, 1, 2, 2), (8, 4, 2, 1)  # of mit_tiny


def drawn(widths: tuple[int, ...] = WIDTHS, depth: int = 1) -> dict[str, Tensor]:
    """Random weights with the names and shapes of NVlabs' files."""
    generator = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {"head.weight": (1000, widths[-1]), "head.bias": (1000,)}
    for i, (width, below, ratio) in enumerate(zip(widths, (3, *widths), RATIOS), 1):
        kernel = 7 if i == 1 else 3
        shapes |= {f"patch_embed{i}.proj.weight": (width, below, kernel, kernel)}
        norms = [f"patch_embed{i}.norm", f"norm{i}"]
        for j in range(depth):
            block = f"block{i}.{j}"
            norms += [f"{block}.norm1", f"{block}.norm2"]
            linear = {"attn.q": (width, width), "attn.kv": (2 * width, width), "attn.proj": (width, width)}
            linear |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
            linear |= {"mlp.dwconv.dwconv": (4 * width, 1, 3, 3)}
            if ratio > 1:
                linear |= {"attn.sr": (width, width, ratio, ratio)}
                norms.append(f"{block}.attn.norm")
            shapes |= {f"{block}.{k}.weight": shape for k, shape in linear.items()}
        shapes |= {f"{norm}.weight": (width,) for norm in norms}
    shapes |= {k.replace("weight", "bias"): (shape[0],) for k, shape in shapes.items()}
    return {k: torch.randn(shape, generator=generator) * 0.3 for k, shape in shapes.items()}


def levels(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """The encoder's four maps, written out with the published names."""

    def linear(name: str, t: Tensor) -> Tensor:
        return F.linear(t, state[f"{name}.weight"], state[f"{name}.bias"])

    def convolution(name: str, t: Tensor, **options: int) -> Tensor:
        return F.conv2d(t, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def norm(name: str, t: Tensor, eps: float) -> Tensor:
        return F.layer_norm(t, t.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def grid(t: Tensor, like: Tensor) -> Tensor:
        return t.mT.reshape(len(t), -1, *like.shape[-2:])

    found = []
    for i, (heads, ratio) in enumerate(zip(HEADS, RATIOS), 1):
        kernel, stride = (7, 4) if i == 1 else (3, 2)
        map = convolution(f"patch_embed{i}.proj", x, stride=stride, padding=kernel // 2)
        t, block = norm(f"patch_embed{i}.norm", map.flatten(2).mT, 1e-5), f"block{i}.0"
        a = norm(f"{block}.norm1", t, 1e-6)
        q, seen = linear(f"{block}.attn.q", a), a
        if ratio > 1:
            reduced = convolution(f"{block}.attn.sr", grid(a, map), stride=ratio)
            seen = norm(f"{block}.attn.norm", reduced.flatten(2).mT, 1e-5)
        k, v = linear(f"{block}.attn.kv", seen).chunk(2, 2)
        q, k, v = (s.unflatten(2, (heads, -1)).transpose(1, 2) for s in (q, k, v))
        attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        t = t + linear(f"{block}.attn.proj", attention.transpose(1, 2).flatten(2))
        wide = grid(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", t, 1e-6)), map)
        wide = convolution(f"{block}.mlp.dwconv.dwconv", wide, padding=1, groups=wide.shape[1])
        t = t + linear(f"{block}.mlp.fc2", F.gelu(wide.flatten(2).mT))
        x = grid(norm(f"norm{i}", t, 1e-6), map)
        found.append(x)
    return found


def test_published_weights_load_and_the_levels_are_those_of_the_paper(tmp_path):
    state = drawn()
    torch.save(state, tmp_path / "mit_tiny.pth")
    net = nets.make("mit_tiny", 3, weights=str(tmp_path / "mit_tiny.pth")).eval()
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    found, expected = net.encode(image).levels, levels(state, net.normalise(image))
    assert [x.shape[-2:] for x in found] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for ours, theirs in zip(found, expected):
        assert torch.allclose(ours, theirs, atol=1e-4)
    again = net.encode(None, nets.Features(found[:2])).levels
    assert torch.equal(again[3], found[3]), "an encode resumes after the levels given"


def test_weights_that_cannot_be(tmp_path, monkeypatch):
    state = drawn()
    del state["block3.0.attn.kv.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(S4Error, match=r"stages\.2\.blocks\.0\.attn\.kv\.weight"):
        nets.make("mit_tiny", 3, weights=str(tmp_path / "part.pth"))
    with pytest.raises(S4Error, match="no pretrained weights"):
        nets.make("mit_tiny", 3, weights="imagenet")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(S4Error, match=r"mit_b0\.pth"):
        nets.make("mit_b0", 3)


def test_published_weights_are_found_where_torch_keeps_downloads(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    state = drawn((32, 64, 160, 256), depth=2)
    torch.save(state, tmp_path / "checkpoints" / "mit_b0.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    net = nets.make("mit_b0", 3)
    assert torch.equal(net.backbone.stages[3].blocks[1].attn.kv.weight, state["block4.1.attn.kv.weight"])


@pytest.mark.parametrize(
    ("size", "millions"), [("b0", 3.8), ("b1", 13.7), ("b2", 27.5), ("b3", 47.3), ("b4", 64.1), ("b5", 84.7)]
)
def test_sizes_of_the_paper(size, millions):
    """Millions of parameters of encoder and decoder for the 150 classes of ADE20K."""
    with torch.device("meta"):
        net = nets.make(f"mit_{size}(weights='none')", 150)
        deepest = net.encode(torch.empty(1, 3, 512, 512)).levels[-1]
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == millions
    assert deepest.shape[-2:] == (16, 16)


def test_the_decoder_line_by_line():
    torch.manual_seed(0)
    decoder = SegFormerDecoder((4, 5, 6), 3, decoder_channels=8).eval()
    maps = [torch.randn(2, c, 12 // s, 8 // s) for c, s in ((4, 1), (5, 2), (6, 4))]
    fused = decoder.fuse(nets.Features(tuple(maps)))
    own = [
        torch.einsum("bchw,dc->bdhw", x, p.weight[..., 0, 0]) + p.bias[:, None, None]
        for x, p in zip(maps, decoder.project)
    ]
    expected = torch.cat([F.interpolate(x, (12, 8), mode="bilinear") for x in own[::-1]], 1)
    assert torch.allclose(fused.map, expected, atol=1e-5)
    assert torch.allclose(fused.context, own[2], atol=1e-5)
    logits, embedding = decoder.classify(fused.map)
    convolution, norm, _ = decoder.join
    hidden = torch.einsum("bchw,dc->bdhw", expected, convolution.weight[..., 0, 0])
    hidden = F.batch_norm(hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    assert torch.allclose(embedding, hidden, atol=1e-5)
    assert torch.allclose(logits, decoder.classifier[1](hidden), atol=1e-5)
    assert [m.p for m in decoder.modules() if isinstance(m, nn.Dropout2d)] == [0.1]


def test_stochastic_depth_is_an_option_and_grows_with_the_depth():
    from timm.layers import DropPath

    with torch.device("meta"):
        some, none = (nets.make(f"mit_b2(weights='none'{o})", 3) for o in ("", ", drop_path=0.0"))
    rates = [m.drop_prob for m in some.modules() if isinstance(m, DropPath)][::2]
    assert torch.allclose(torch.tensor(rates), torch.linspace(0, 0.1, 16)[1:])
    assert not any(isinstance(m, DropPath) for m in none.modules())


def test_what_does_not_go_together_is_said():
    with pytest.raises(S4Error, match="segformer goes with mit_b0"):
        nets.make("tiny", 3, decoder="segformer")
    with pytest.raises(S4Error, match="does not fit mit_tiny"):
        nets.make("mit_tiny", 3, decoder="deeplabv3plus")
    with pytest.raises(S4Error, match="no option 'aspp_rates'"):
        nets.make("mit_tiny", 3, aspp_rates=(1,))
    net = nets.make("mit_tiny", 5)
    assert net(torch.rand(2, 3, 50, 70)).shape == (2, 5, 50, 70)
    with pytest.raises(S4Error, match="reads 4 levels"):
        net.fuse(net.encode(torch.rand(1, 3, 32, 32)).ends)
