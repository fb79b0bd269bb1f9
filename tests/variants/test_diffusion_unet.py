"""The diffusion papers' U-Net: parameter counts derived by hand, where its skips lie, and every axis of it."""

import pytest
import torch

import variants
from variants.parts.attention import SelfAttention, SpatialTransformer
from variants.parts.diffusion_unet import DiffusionUNet
from variants.parts.embedding import condition_embedding
from variants.presets.published import PublishedDiffusionUNet

SMALL = dict(in_channels=1, out_channels=1, image_size=16, width=8)


def parameters(time=False, **options):
    with torch.device("meta"):
        embedding, _ = condition_embedding(4, time, None, "add")
        network = DiffusionUNet(1, 2, (4, 8), num_blocks=1, embedding=embedding, **options)
    return sum(p.numel() for p in network.parameters())


def block(a, b):
    """Norm, convolution, norm, convolution, and a projection where channels change."""
    return 2 * a + (9 * a * b + b) + 2 * b + (9 * b * b + b) + (a * b + b if a != b else 0)


STEM, DOWN, UP, HEAD = 9 * 1 * 4 + 4, 9 * 4 * 4 + 4, 9 * 8 * 8 + 8, 2 * 4 + 9 * 4 * 2 + 2
ENCODER = STEM + block(4, 4) + DOWN + block(4, 8)
ATTENTION = 2 * 8 + (8 * 24 + 24) + (8 * 8 + 8)


def test_parameters_by_hand():
    middle = block(8, 8) + ATTENTION + block(8, 8)
    # From below and of the skip: after the block, after the downsampling; after the block, after the input.
    decoder = block(8 + 8, 8) + block(8 + 4, 8) + UP + block(8 + 4, 4) + block(4 + 4, 4)
    assert parameters() == ENCODER + middle + decoder + HEAD


def test_attention_by_level():
    assert parameters(attention_levels=(1,)) - parameters() == 3 * ATTENTION          # one block down, two up


def test_scale_shift_doubles_the_modulations():
    modulation = 16 * (4 + 8 + 8 + 8 + 8 + 8 + 4 + 4) + (4 + 8 + 8 + 8 + 8 + 8 + 4 + 4)
    mlp = (4 * 16 + 16) + (16 * 16 + 16)
    assert parameters(time=True) - parameters() == mlp + modulation
    assert parameters(time=True, time_conditioning="scale_shift") - parameters(time=True) == modulation


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_every_step_emits_a_skip_and_every_block_merges_one(num_blocks):
    network = variants.build("ddpm", channel_mult=(1, 2, 2), num_blocks=num_blocks, **SMALL)
    assert all(step.emits_skip for step in network.encoder) and all(step.skip for step in network.decoder)
    assert len(network.encoder) == len(network.decoder) == 3 * (num_blocks + 1)


@pytest.mark.parametrize("size, levels", [(16, {0}), (32, {1}), (64, {2}), (8, {0}), ((37, 50), {2}), (256, set())])
def test_attends_at_16_pixels_and_in_the_middle(size, levels):
    network = variants.build("ddpm", **{**SMALL, "image_size": size})
    attended = {i // 3 for i, step in enumerate(list(network.encoder)[1:])
                if any(isinstance(part, SelfAttention) for part in step.parts)}
    assert attended == levels
    assert isinstance(network.middle.parts[1], SelfAttention)


AXES = {
    "skip": ("none", "add", "concat", "gate"), "norm": ("group", "batch", "instance", "none"),
    "down": ("max_pool", "avg_pool", "strided_conv", "padded_strided_conv", "block"),
    "up": ("transposed_conv", "nearest_conv", "bilinear_conv", "pixel_shuffle", "nearest", "block"),
    "attention": ("self", "transformer"), "head_channels": (4,),
    "time_conditioning": ("add_before_norm", "add", "scale_shift"),
    "sinusoid_order": ("sin_cos", "cos_sin", "interleaved"), "frequency_shift": (0,), "table_steps": (1000,),
    "zero_last": (False,), "channel_mult": ((1,), (1.5, 2), (2, 1, 1)), "num_blocks": (1, 3), "num_classes": (1000,),
}


@pytest.mark.parametrize("axis, value", [(axis, value) for axis, values in AXES.items() for value in values])
def test_every_choice_of_every_axis_trains(axis, value):
    torch.manual_seed(0)
    network = variants.build("ddpm", time=True, **SMALL, **{axis: value})
    t = torch.tensor([1, 900])
    y = network(torch.randn(2, 1, 17, 22), t, t if axis == "num_classes" else None)
    assert y.shape == (2, 1, 17, 22)
    y.square().mean().backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@pytest.mark.parametrize("detail", [
    {"qkv_order": "split_first"}, {"qkv_order": "heads_first"}, {"num_heads_up": 2}, {"stem_channels": 12},
    {"norm_eps": 1e-3}, {"attention": "transformer", "transformer_depth": 2},
    {"attention": "transformer", "head_channels": 3, "cut_heads": True}], ids=str)
def test_every_detail_of_published_ones_trains(detail):
    torch.manual_seed(0)
    network = PublishedDiffusionUNet(1, 1, (8, 16), attention_levels=(1,), **detail)
    y = network(torch.randn(2, 1, 17, 22))
    assert y.shape == (2, 1, 17, 22)
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_unknown_details_name_the_known_ones():
    with pytest.raises(ValueError, match="'nonsense'.*known"):
        PublishedDiffusionUNet(1, 1, (8, 16), qkv_order="nonsense")


def test_tokens_are_read_one_by_one_by_transformers():
    network = variants.build("ddpm", time=True, context_dim=6, attention="transformer", context_by="attention", **SMALL)
    keys = {m.blocks[0].cross_attention.k.in_features for m in network.modules() if isinstance(m, SpatialTransformer)}
    assert keys == {6} and network.embedding.context is None


@pytest.mark.parametrize("axis", ["skip", "norm", "down", "up", "act", "attention", "time_conditioning",
                                  "sinusoid_order", "context_by"])
def test_unknown_choice_names_the_known_ones(axis):
    with pytest.raises(ValueError, match="'nonsense'.*known"):
        network = variants.build("ddpm", time=True, context_dim=4, **SMALL, **{axis: "nonsense"})
        network(torch.zeros(1, 1, 16, 16), torch.zeros(1), torch.zeros(1, 2, 4))      # sinusoids are made here


@pytest.mark.parametrize("options, match", [
    (dict(attention_levels=(4,)), r"\(4,\) must be among the levels 0..3"),
    (dict(context_dim=4, context_by="attention"), "needs attention='transformer'"),
    (dict(head_channels=3), "head_channels=3 does not divide"),
    (dict(up="nearest", channel_mult=(1, 2)), None),
])
def test_options_that_go_together(options, match):
    if match is None:
        assert variants.build("ddpm", **SMALL, **options)           # channels change in the blocks, not on the way up
    else:
        with pytest.raises(ValueError, match=match):
            variants.build("ddpm", **SMALL, **options)


def test_image_too_small_for_the_depth():
    with pytest.raises(ValueError, match="at least 8 x 8 pixels, not 7 x 9"):
        variants.build("ddpm", **SMALL)(torch.zeros(1, 1, 7, 9))
