"""What is particular to the variants that are not one argument away from the control."""

import math

import pytest
import torch
from torch import nn

import variants
from variants.parts.embedding import grid_positions, sinusoidal
from variants.parts.skips import GateSkip

SMALL = dict(in_channels=1, out_channels=1, width=8)


def test_dit_starts_as_zero_and_its_blocks_as_identity():
    network = variants.build("dit", image_size=16, time=True, **SMALL)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([1, 900])
    assert not network(x, t).any()
    tokens, cond = torch.randn(2, 64, 32), torch.randn(2, 32)
    assert torch.equal(network.blocks[0](tokens, cond), tokens)


def test_dit_unpatches_where_it_patched():
    """With the head as the patch embedding's inverse and no blocks in between, the image comes back."""
    network = variants.build("dit", in_channels=1, out_channels=1, image_size=8, patch_size=2, hidden_size=4, depth=0)
    with torch.no_grad():
        network.patches.weight.copy_(torch.eye(4).view(4, 1, 2, 2))
        network.patches.bias.zero_()
        network.head.weight.copy_(torch.eye(4))
    network.norm = nn.Identity()
    x = torch.randn(1, 1, 8, 8)
    positions = grid_positions(4, 4, 4).T.reshape(1, 4, 4, 4)
    expected = x + nn.functional.pixel_shuffle(positions, 2)
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("size, patch", [(8, 2), (32, 2), (64, 4), (256, 16)])
def test_dit_keeps_at_most_16_tokens_a_side(size, patch):
    assert variants.build("dit", image_size=size, **SMALL).patch_size == patch


@pytest.mark.parametrize("stride, scores", [(8, {"8", "16", "32"}), (16, {"16", "32"}), (32, {"32"})])
def test_fcn_adds_the_scores_of_finer_strides(stride, scores):
    assert set(variants.build("fcn", image_size=64, stride=stride, **SMALL).scores) == scores


def test_fcn_refuses_other_strides():
    with pytest.raises(ValueError, match="one of 8, 16, 32, not 4"):
        variants.build("fcn", image_size=64, stride=4, **SMALL)


def test_cross_attention_without_context_attends_to_the_image():
    network = variants.build("cross_attention", image_size=16, **SMALL)
    keys = [m.k for name, m in network.named_modules() if name.endswith("cross_attention")]
    assert keys and all(k.in_features == k.out_features for k in keys)


def test_cross_attention_reads_tokens_not_their_mean():
    """Two contexts of one mean but other tokens give two outputs."""
    torch.manual_seed(0)
    network = variants.build("cross_attention", image_size=8, time=True, context_dim=4, **SMALL).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x, t = torch.randn(1, 1, 8, 8), torch.tensor([10])
    context = torch.randn(1, 2, 4)
    spread = context.mean(1, keepdim=True) + torch.tensor([[[3.0], [-3.0]]]) * torch.randn(1, 1, 4)
    torch.testing.assert_close(spread.mean(1), context.mean(1), atol=1e-5, rtol=0)
    assert not torch.allclose(network(x, t, context), network(x, t, spread), atol=1e-5)


def test_gate_is_between_nothing_and_all_of_the_skip():
    gate = GateSkip(8, 8)
    x, skip = torch.randn(2, 8, 5, 5), torch.randn(2, 8, 5, 5)
    out = gate(x, skip)
    assert gate.coefficients.shape == (2, 1, 5, 5)
    assert ((0 < gate.coefficients) & (gate.coefficients < 1)).all()
    torch.testing.assert_close(out[:, :8], skip * gate.coefficients)
    assert torch.equal(out[:, 8:], x)


def test_sinusoidal_embedding_by_its_formula():
    row = sinusoidal(torch.tensor([7]), 6)[0]
    frequencies = [10_000 ** (-k / 3) for k in range(3)]
    expected = [math.cos(7 * f) for f in frequencies] + [math.sin(7 * f) for f in frequencies]
    torch.testing.assert_close(row, torch.tensor(expected))
    assert sinusoidal(torch.tensor([7]), 7).shape == (1, 7)


def test_grid_positions_are_distinct_and_need_a_multiple_of_four():
    code = grid_positions(8, 3, 5)
    assert code.shape == (15, 8) and len(torch.unique(code, dim=0)) == 15
    with pytest.raises(ValueError, match="divisible by 4, not 6"):
        grid_positions(6, 2, 2)
