"""TinyViT, DeiT and the decoder that weighs frequencies (parity with the release: tests/golden)."""

from __future__ import annotations

import math

import pytest
import torch

from s4kit import nets
from s4kit.errors import S4Error
from s4kit.nets.frequency import FrequencySelect, band
from s4kit.nets.tinyvit import WholeBlock


def test_a_constant_is_low_and_a_wave_is_what_the_gaussian_leaves_of_it():
    constant = torch.full((1, 2, 15, 21), 3.0)
    torch.testing.assert_close(band(constant, low=True), constant)
    assert band(constant, low=False).max() < 1e-5
    wave = torch.cos(2 * math.pi * 4 * torch.arange(21) / 21).expand(1, 1, 15, 21)
    gain = math.exp(-(4**2) / (2 * 10**2))
    torch.testing.assert_close(band(wave, low=True), gain * wave.abs(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(band(wave, low=False), (1 - gain) * wave.abs(), atol=1e-5, rtol=1e-4)


def test_without_a_weight_all_channels_count_one_and_a_half():
    block, x = FrequencySelect(3, 5, low=True), torch.randn(2, 3, 6, 8)
    torch.nn.init.zeros_(block.weigh.weight)
    torch.testing.assert_close(block(x), 1.5 * block.project(x))


def test_the_last_block_is_timms_on_a_map_of_one_window_without_biases():
    from timm.models.tiny_vit import TinyVitBlock

    torch.manual_seed(0)
    block = TinyVitBlock(12, 3, window_size=4).eval()
    torch.nn.init.zeros_(block.attn.attention_biases)
    whole, x = WholeBlock(block).eval(), torch.randn(2, 4, 4, 12)
    torch.testing.assert_close(whole(x), block(x))
    wide = torch.randn(1, 3, 5, 12)
    assert whole(wide).shape == wide.shape


@pytest.mark.parametrize("name", ["tiny_vit_micro", "deit_micro"])
def test_the_products_are_those_of_the_last_block(name):
    torch.manual_seed(0)
    net, image = nets.make(name, 3).eval(), torch.rand(2, 3, 48, 40)
    last = net.backbone.stages[-1].last if name == "tiny_vit_micro" else net.backbone.vit.blocks[-1].attn
    seen = []
    last.qkv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    last.proj.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    plain = net.encode(image)
    qkv, mixed = seen[:2]
    features, heads = net.encode(image, attention=True), net.backbone.heads
    for level, expected in zip(features.levels, plain.levels, strict=True):
        torch.testing.assert_close(level, expected)
    attention = features.extra["attention"]
    n = attention.shape[-1]
    assert attention.shape == (2, heads, n, n) and n == (4 if name == "tiny_vit_micro" else 2 + 6 * 5)
    if name == "tiny_vit_micro":  # packed by head, then by query, key and value
        v = qkv.reshape(2, n, heads, 3, -1)[:, :, :, 2].transpose(1, 2)
    else:
        v = qkv.reshape(2, n, 3, heads, -1)[:, :, 2].transpose(1, 2)
    torch.testing.assert_close((attention.softmax(-1) @ v).transpose(1, 2).flatten(2), mixed.reshape(2, n, -1))


def test_published_sizes():
    with torch.device("meta"):
        small = nets.make("tiny_vit_21m", 19, weights="none")
        other = nets.make("tiny_vit_11m", 19, weights="none")
        cnn = nets.make(
            "resnet101c(output_stride=32, widths=(128, 256, 256, 512))", 19, decoder="frequency", weights="none"
        )
        vit = nets.make("deit_base", 19, weights="none")
    assert small.backbone.channels == (96, 192, 384, 576) and small.backbone.heads == 18
    assert other.backbone.channels == (64, 128, 256, 448) and other.backbone.heads == 14
    assert vit.backbone.channels == (768,) * 4 and vit.backbone.heads == 12 and vit.backbone.blocks == (2, 5, 8, 11)
    widths = {net: [conv.out_channels for conv in (b.project for b in net.decoder.select)] for net in (small, cnn, vit)}
    assert widths == {small: [48, 96, 192], cnn: [128, 256, 256], vit: [48, 96, 192]}
    assert [b.low for b in vit.decoder.select] == [False, False, True]
    assert vit.decoder.neck.reduce[0][0].weight.shape == (448, 768, 1, 1)
    # Touvron et al., table 5: 87 million with both heads of 1000 classes; the encoder here ends before its last norm
    assert 86e6 < sum(p.numel() for p in vit.backbone.parameters()) < 87e6


def test_a_vision_transformers_shallowest_block_becomes_the_coarsest_level():
    net = nets.make("deit_micro", 3).eval()
    levels = net.decoder.neck(net.encode(torch.rand(1, 3, 64, 64)).levels)
    assert [tuple(x.shape[-2:]) for x in levels] == [(4, 4), (8, 8), (16, 16), (32, 32)]


def test_which_decoder_goes_with_which_encoder():
    assert nets.make("tiny", 3, decoder="frequency")(torch.rand(2, 3, 33, 40)).shape == (2, 3, 33, 40)
    with pytest.raises(S4Error, match="does not fit deit_micro"):
        nets.make("deit_micro", 3, decoder="psp")
    with pytest.raises(S4Error, match="3 levels"):
        nets.make("tiny", 3, decoder="frequency", widths=(8, 8))
    with pytest.raises(S4Error, match="for four levels"):
        nets.make("tiny", 3, decoder="frequency", neck=8)
    with pytest.raises(S4Error, match="attention of a DINOv2"):
        nets.make("dinov2_tiny", 3).encode(torch.rand(1, 3, 56, 56), attention=True)
    assert nets.make("resnet18(output_stride=32, weights='none')", 3).backbone.channels == (64, 128, 256, 512)
