"""DINOv2 encoders and the DPT decoder."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from s4kit import nets
from s4kit.errors import S4Error
from s4kit.nets.dpt import DPT


def test_levels_are_the_normalised_tokens_of_the_blocks():
    torch.manual_seed(0)
    net = nets.make("dinov2_tiny", 3).eval()
    image = torch.rand(2, 3, 56, 56)  # the size of the position embedding: nothing is interpolated
    vit, x = net.backbone.vit, net.normalise(image)
    tokens = vit.patch_embed.proj(x).flatten(2).mT
    tokens = torch.cat([vit.cls_token.expand(2, -1, -1), tokens], 1) + vit.pos_embed
    for level, block in zip(net.encode(image).levels, vit.blocks):
        tokens = block(tokens)
        expected = vit.norm(tokens)[:, 1:].mT.reshape(2, 24, 4, 4)
        assert torch.allclose(level, expected, atol=1e-5)


def test_the_decoder_line_by_line():
    torch.manual_seed(0)
    decoder = DPT(6, 3, (4, 5, 6, 7), 8)
    levels = tuple(torch.randn(1, 6, 3, 5) for _ in range(4))
    maps = [
        F.conv2d(resize(F.conv2d(x, p.weight, p.bias)), r.weight, padding=1)
        for x, p, resize, r in zip(levels, decoder.project, decoder.assemble, decoder.reduce)
    ]
    assert [m.shape[-2:] for m in maps] == [(12, 20), (6, 10), (3, 5), (2, 3)]

    def unit(u, x):
        return x + u.second(u.first(x.clamp(min=0)).clamp(min=0))

    path = None
    for k, size in ((3, (3, 5)), (2, (6, 10)), (1, (12, 20)), (0, (24, 40))):
        block = decoder.fusions[k]
        joined = maps[k] if k == 3 else path + unit(block.own, maps[k])
        path = block.out(F.interpolate(unit(block.refine, joined), size, mode="bilinear", align_corners=True))
    assert torch.allclose(decoder.fuse(nets.Features(levels)).map, path, atol=1e-6)


def test_sizes_of_the_paper():
    """DINOv2-S as published has 22 056 576 parameters, 384 of them a mask token that only its training needs."""
    net = nets.make("dinov2_small(weights='none')", 21)
    assert net.backbone.vit.pos_embed.shape == (1, 1 + 37 * 37, 384) and net.backbone.blocks == (2, 5, 8, 11)
    assert sum(p.numel() for p in net.backbone.parameters()) == 22_056_576 - 384
    assert nets.make("dinov2_tiny", 5)(torch.rand(1, 3, 30, 45)).shape == (1, 5, 30, 45)


def test_weights_come_from_a_file(tmp_path):
    torch.manual_seed(0)
    given = nets.make("dinov2_tiny", 3).backbone.vit.state_dict()
    torch.save(given | {"mask_token": torch.zeros(1, 24)}, tmp_path / "vit.pth")  # as published: one tensor more
    net = nets.make("dinov2_tiny", 3, weights=str(tmp_path / "vit.pth"))
    assert all(torch.equal(v, given[k]) for k, v in net.backbone.vit.state_dict().items())
    del given["blocks.1.attn.qkv.weight"]
    torch.save(given, tmp_path / "part.pth")
    with pytest.raises(S4Error, match=r"blocks\.1\.attn\.qkv\.weight"):
        nets.make("dinov2_tiny", 3, weights=str(tmp_path / "part.pth"))
    with pytest.raises(S4Error, match="no pretrained weights"):
        nets.make("dinov2_tiny", 3, weights="imagenet")


def test_what_does_not_go_together_is_said():
    with pytest.raises(S4Error, match="dpt goes with dinov2_small"):
        nets.make("tiny", 3, decoder="dpt")
    with pytest.raises(S4Error, match="does not fit dinov2_tiny"):
        nets.make("dinov2_tiny", 3, decoder="psp")
    with pytest.raises(S4Error, match="no option 'aspp_rates'"):
        nets.make("dinov2_tiny", 3, aspp_rates=(1,))
    net = nets.make("dinov2_tiny", 3)
    features = net.encode(torch.rand(1, 3, 28, 28))
    with pytest.raises(S4Error, match="reads four levels"):
        net.fuse(features.ends)
    with pytest.raises(S4Error, match="cannot resume"):
        net.encode(None, start=features)
