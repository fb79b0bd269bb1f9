"""The control: parameter counts derived by hand, and every axis of the encoder-decoder."""

import pytest
import torch

import variants
from variants.parts.blocks import ResidualBlock
from variants.parts.unet import channel_mult_for


def parameters(**options):
    with torch.device("meta"):
        network = variants.build("plain", in_channels=1, out_channels=2, image_size=16, width=4, **options)
    return sum(p.numel() for p in network.parameters())


# A plain block a -> b holds 9ab + b (conv), 2b (norm), 9bb + b (conv), 2b (norm) = 9ab + 9bb + 6b parameters.
ENCODER = (9 * 1 * 4 + 9 * 4 * 4 + 6 * 4) + (9 * 4 * 8 + 9 * 8 * 8 + 6 * 8)   # 1 -> 4, pooled, 4 -> 8
UP = 2 * 2 * 8 * 4 + 4                                                         # transposed 2x2, 8 -> 4
HEAD = 4 * 2 + 2                                                               # 1x1, 4 -> 2


def test_parameters_with_concatenated_skip_by_hand():
    decoder = 9 * 8 * 4 + 9 * 4 * 4 + 6 * 4                                    # 4 from below + 4 of the skip -> 4
    assert parameters(channel_mult=(1, 2)) == ENCODER + UP + decoder + HEAD == 1714


def test_parameters_without_skip_by_hand():
    decoder = 9 * 4 * 4 + 9 * 4 * 4 + 6 * 4                                    # 4 from below -> 4
    assert parameters(channel_mult=(1, 2), skip="none") == ENCODER + UP + decoder + HEAD == 1570


def test_parameters_with_gate_by_hand():
    # Gate 4 of the skip, 4 from below, 2 inside: two 1x1 convs with norm, and 2 -> 1.
    gate = 2 * (4 * 2 + 2 + 2 * 2) + (2 + 1)
    decoder = 9 * 8 * 4 + 9 * 4 * 4 + 6 * 4
    assert parameters(channel_mult=(1, 2), skip="gate") == ENCODER + UP + gate + decoder + HEAD


def test_time_adds_its_embedding_and_one_bias_a_block():
    mlp = (4 * 16 + 16) + (16 * 16 + 16)                                       # width features -> 4 width -> 4 width
    biases = (16 * 4 + 4) + (16 * 8 + 8) + (16 * 4 + 4)
    assert parameters(channel_mult=(1, 2), time=True) - parameters(channel_mult=(1, 2)) == mlp + biases


@pytest.mark.parametrize("size, levels", [(64, 4), (28, 4), (8, 3), (4, 2), ((64, 8), 3)])
def test_depth_follows_the_image(size, levels):
    assert channel_mult_for(size) == (1, 2, 4, 8)[:levels]


AXES = {
    "block": ("plain", "residual"),
    "skip": ("none", "add", "concat", "gate"),
    "norm": ("group", "batch", "instance", "none"),
    "down": ("max_pool", "avg_pool", "strided_conv"),
    "up": ("transposed_conv", "nearest_conv", "bilinear_conv", "pixel_shuffle"),
    "act": ("silu", "relu", "gelu"), "time_conditioning": ("add", "scale_shift"), "skip_levels": ((), (0,), (1, 2)),
    "attention_levels": ((), (2,), (1, 2)), "num_blocks": (1, 2), "channel_mult": ((1,), (1, 1), (1, 2, 3, 4)),
}


@pytest.mark.parametrize("axis, value", [(axis, value) for axis, values in AXES.items() for value in values])
def test_every_choice_of_every_axis_trains(axis, value):
    torch.manual_seed(0)
    network = variants.build("plain", in_channels=1, out_channels=1, image_size=16, width=8, time=True, **{axis: value})
    y = network(torch.randn(2, 1, 17, 22), torch.tensor([1, 900]))
    assert y.shape == (2, 1, 17, 22)
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def features_and_condition(emb_dim=6):
    torch.manual_seed(0)
    return torch.randn(2, 4, 8, 8), torch.randn(2, emb_dim)


@pytest.mark.parametrize("out_channels, options", [
    (4, {}), (8, {}), (8, {"resample": "down"}), (8, {"stride": 2}), (4, {"zero_last": True})])
def test_ada_zero_starts_as_the_shortcut_and_learns(out_channels, options):
    """adaLN-Zero: at the start a block is its shortcut; one step later it is not, in every part."""
    x, emb = features_and_condition()
    block = ResidualBlock(4, out_channels, 6, time_conditioning="ada_zero", **options)
    assert torch.equal(block(x, emb), block.shortcut(block.resample(x)))
    optimizer = torch.optim.SGD(block.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (block(x, emb) - 1).square().mean().backward()
        optimizer.step()
    assert not torch.equal(block(x, emb), block.shortcut(block.resample(x)))
    (block(x, emb) - 1).square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in [*block.modulation.parameters(), block.conv1.weight])


def test_ada_zero_by_its_formula():
    """x + g(emb) F(norm(h) (1 + s(emb)) + b(emb)), with the three regressed by one linear layer each."""
    x, emb = features_and_condition()
    block = ResidualBlock(4, 4, 6, time_conditioning="ada_zero")
    for p in block.modulation.parameters():
        torch.nn.init.normal_(p)
    scale, shift = block.modulation.project(emb)[:, :, None, None].chunk(2, dim=1)
    h = block.norm2(block.conv1(block.act(block.norm1(x)))) * (1 + scale) + shift
    expected = x + block.modulation.to_gate(emb)[:, :, None, None] * block.conv2(block.act(h))
    torch.testing.assert_close(block(x, emb), expected)


@pytest.mark.parametrize("block", ["plain", "inverted", "shuffle"])
def test_ada_zero_needs_a_residual_branch(block):
    with pytest.raises(ValueError, match="residual branch.*block='residual'"):
        variants.build("plain", in_channels=1, out_channels=1, image_size=16, width=8, time=True, block=block,
                       time_conditioning="ada_zero")


def test_u_net_with_ada_zero_trains():
    network = variants.build("residual", in_channels=1, out_channels=1, image_size=16, width=8, time=True,
                             time_conditioning="ada_zero")
    y = network(torch.randn(2, 1, 16, 16), torch.tensor([1, 900]))
    y.square().mean().backward()
    assert y.shape == (2, 1, 16, 16) and all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("axis", ["block", "skip", "norm", "down", "up", "act", "time_conditioning", "attention"])
def test_unknown_choice_names_the_known_ones(axis):
    with pytest.raises(ValueError, match="'nonsense'.*known"):
        variants.build("plain", in_channels=1, out_channels=1, image_size=16, time=True, attention_levels=(0,),
                       **{axis: "nonsense"})


def test_skip_levels_out_of_range():
    with pytest.raises(ValueError, match=r"skip_levels \[3\] must be among the levels 0..2"):
        variants.build("plain", in_channels=1, out_channels=1, image_size=64, skip_levels=(3,))


def test_image_too_small_for_the_depth():
    network = variants.build("plain", in_channels=1, out_channels=1, image_size=64, width=4)
    with pytest.raises(ValueError, match="at least 8 x 8 pixels, not 7 x 9"):
        network(torch.randn(1, 1, 7, 9))


def test_dropped_skip_carries_nothing():
    """With no skip at all, the decoder hears of the image only through the bottleneck."""
    network = variants.build("no_skip", in_channels=1, out_channels=1, image_size=16, width=8).eval()
    network.middle.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    first, second = network(torch.randn(1, 1, 16, 16)), network(torch.randn(1, 1, 16, 16))
    torch.testing.assert_close(first, second)


def test_missing_time_is_said():
    network = variants.build("plain", in_channels=1, out_channels=1, image_size=16, width=8, time=True)
    with pytest.raises(ValueError, match="call it with t"):
        network(torch.randn(1, 1, 16, 16))
