"""Norms and attention in bf16 against float64, where their inputs make it hard; see ``tests/test_numerics.py``."""

import pytest
import torch
from rounding import UNIT, Rounding, distance, error, rounded

from harness.training.train import make_accelerator
from variants.parts.attention import TransformerBlock, attend
from variants.parts.normalization import normalization
from variants.parts.tokens import TokenBlock

BATCH, CHANNELS, SIDE = 4, 16, 32
NORMS = {"group": lambda: normalization("group", CHANNELS), "batch": lambda: normalization("batch", CHANNELS),
         "instance": lambda: normalization("instance", CHANNELS), "tokens": lambda: TokenBlock(CHANNELS, 2).norm1,
         "transformer": lambda: TransformerBlock(CHANNELS, None, 2).norm1}
OF_TOKENS = ("tokens", "transformer")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
ATTENTION_OVER_ROUNDING = 1.5                      # measured: up to 1.1


@pytest.fixture
def accelerator():
    return make_accelerator("cpu", "bf16")


def map_for(kind, mean, deviation, dtype, layout, seed=0):
    """(N, C, H, W), or tokens (N, H W, C)."""
    generator = torch.Generator().manual_seed(seed)
    x = mean + deviation * torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=generator)
    x = x.to(dtype).contiguous(memory_format=LAYOUTS[layout])
    return x.flatten(2).transpose(1, 2) if kind in OF_TOKENS else x


def both(kind, x, towards, accelerator):
    """(norm's output, gradient of x, gradients of weights and bias): under autocast, and in float64."""
    results = []
    for norm, leaf in ((NORMS[kind](), x.detach().clone()), (NORMS[kind]().double(), x.double())):
        leaf.requires_grad_()
        with accelerator.autocast():
            y = norm(leaf)
        y.backward(towards.to(y.dtype))
        results.append((y.detach(), leaf.grad, torch.cat([p.grad for p in norm.parameters()])))
    return results


EXACT = [(kind, layout) for kind in NORMS for layout in LAYOUTS if (kind, layout) != ("group", "channels_last")]


@pytest.mark.parametrize("kind, layout, deviations", [
    *((kind, layout, 100) for kind, layout in EXACT), ("group", "channels_last", 10)])
def test_a_norm_of_a_bf16_map_bears_an_offset(kind, layout, deviations, accelerator):
    """Of 100 deviations, where the map's own last bit is worth 0.4: a mean or a mean square in bf16 would spoil it."""
    mean = 10.0125 * deviations
    x = map_for(kind, mean, 10, torch.bfloat16, layout)
    (y, dx, _), (exact_y, exact_dx, _) = both(kind, x, map_for(kind, 0, 1, torch.bfloat16, layout, 1), accelerator)
    assert error(y, exact_y) < UNIT                                               # one rounding is 0.42 u
    assert distance(dx, exact_dx) < UNIT
    exact = x.double() - x.double().mean()
    assert error(x.double() - rounded(x.double().mean()), exact) > 2 * UNIT, "a mean in bf16 would be seen"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_s_weights_are_given_sums_in_float32(kind, layout, accelerator):
    """Over 4,096 values with a part in common: in bf16 a sum stops growing where a summand is half its last bit."""
    towards = map_for(kind, 1, 1, torch.bfloat16, layout, 1)
    (*_, found), (*_, exact) = both(kind, map_for(kind, 0, 1, torch.bfloat16, layout), towards, accelerator)
    assert found.dtype == torch.float32
    assert distance(found, exact) < UNIT


@pytest.mark.parametrize("kind, layout, deviations", [
    *((kind, layout, 1000) for kind, layout in EXACT), ("group", "channels_last", 10)])
def test_a_norm_of_a_float32_map_bears_an_offset(kind, layout, deviations, accelerator):
    """A channels-last GroupNorm bears less: PyTorch's takes E[x^2] - E[x]^2 on a CPU, which loses 2^-24 of the offset's
    square, and more the larger the map: a tenth or all at 1,000 deviations. What enters a norm of the networks here is
    within three, as they start."""
    x = map_for(kind, deviations, 1, torch.float32, layout)
    with accelerator.autocast(), torch.no_grad():
        y = NORMS[kind]()(x)
    assert y.dtype == torch.float32
    assert error(y, NORMS[kind]().double()(x.double()).detach()) < 2e-3            # measured: 8e-4 (batch)


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("head_channels", [8, 64])           # narrow heads, and wide ones
def test_attention_errs_no_more_than_with_scores_and_weights_rounded(head_channels, scale, accelerator):
    """``scale`` is the deviation of the scores: what bf16 rounds off them, the exponential makes larger."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 128, 2 * head_channels, generator=generator).bfloat16() for _ in range(3))
    q = scale * q
    heads = [x.double().unflatten(2, (2, -1)).transpose(1, 2) for x in (q, k, v)]

    def materialised(q, k, v):
        return ((q @ k.transpose(2, 3) * head_channels ** -0.5).softmax(dim=3) @ v).transpose(1, 2).flatten(2)

    exact = materialised(*heads)
    with Rounding():
        expected = error(materialised(*heads), exact)
    with accelerator.autocast(), torch.inference_mode():
        assert error(attend(q, k, v, 2), exact) < ATTENTION_OVER_ROUNDING * expected
