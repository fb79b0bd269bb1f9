"""Latent diffusion's U-Nets against the official code's counts and outputs, and what outputs barely show."""

import golden
import pytest
import torch
from torch import nn

from variants import presets
from variants.parts.attention import CrossAttention, SelfAttention, SpatialTransformer, attend, attend_to_one

TINY = dict(image_size=16, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=2, channel_mult=[1, 2],
            attention_resolutions=[2, 1], num_heads=4, use_spatial_transformer=True, transformer_depth=1,
            context_dim=24, legacy=False, use_checkpoint=False)


def build(**changes):
    torch.manual_seed(0)
    return presets.build_family("ldm", **{**TINY, **changes}).eval()


def parts(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("row", golden.rows("ldm"), ids=lambda row: row["name"])
def test_counts(row):
    image, _, context = row["input_shape"]
    with torch.device("meta"):
        network = presets.build(row["name"])
        tokens = torch.empty(context) if all(context) else None
        golden.assert_counts(row, network, torch.empty(image), torch.zeros(1), tokens)


def test_golden():
    entry = golden.ENTRIES["ldm_sd_spatialtransformer"]
    network = presets.load(build(), golden.weights(entry["state_dict"], torch.float32))
    x, context = golden.image((2, 4, 16, 16), dtype=torch.float32), golden.image((2, 7, 24), 1.0, torch.float32)
    golden.assert_output(entry, network(x, torch.tensor([3, 517]), context))


def test_official_keys_and_shapes():
    slots = presets.families.load("ldm").weight_map(build())
    assert {key: list(slot.shape) for key, slot in slots.items()} == {
        key: shape for key, shape, *_ in golden.ENTRIES["ldm_sd_spatialtransformer"]["state_dict"]}


def test_norms():
    """GroupNorm has eps 1e-6 in front of the transformers and 1e-5 in the blocks."""
    network = build()
    norms = {norm: norm.eps for norm in parts(network, nn.GroupNorm)}
    assert {norm.num_groups for norm in norms} == {32}
    assert {norms.pop(transformer.norm) for transformer in parts(network, SpatialTransformer)} == {1e-6}
    assert set(norms.values()) == {1e-5} and {norm.eps for norm in parts(network, nn.LayerNorm)} == {1e-5}


def test_sides_are_concatenated_behind():
    assert not any(step.skip.skip_first for step in build().decoder)


@pytest.mark.parametrize("changes, heads, inner", [
    (dict(num_heads=4), {4}, {32, 64}),
    (dict(num_heads=5), {5}, {30, 60}),                                                   # rounded down
    (dict(num_heads=-1, num_head_channels=16), {2, 4}, {32, 64}),
    (dict(num_heads=-1, num_head_channels=20), {1, 3}, {20, 60}),                         # the rest is dropped
    (dict(num_heads=-1, num_head_channels=20, legacy=True), {1, 3}, {32, 63}),            # heads are widened
])
def test_heads_of_transformers(changes, heads, inner):
    network = build(**changes)
    assert {attention.num_heads for attention in parts(network, CrossAttention)} == heads
    assert {transformer.enter.out_channels for transformer in parts(network, SpatialTransformer)} == inner


@pytest.mark.parametrize("legacy, decoder", [(True, {8}), (False, {4})])
def test_heads_upsample_is_only_for_legacy_self_attention(legacy, decoder):
    network = build(use_spatial_transformer=False, context_dim=None, num_heads_upsample=8, legacy=legacy)
    assert {attention.num_heads for attention in parts(network.encoder, SelfAttention)} == {4}
    assert {attention.num_heads for attention in parts(network.decoder, SelfAttention)} == decoder


def test_one_token_weighs_as_many_do():
    q, k, v = (torch.randn(2, length, 6, requires_grad=True) for length in (5, 1, 1))
    found, expected = attend_to_one(q, k, v, 2), attend(q, k, v, 2)
    torch.testing.assert_close(found, expected)
    towards = torch.randn(2, 5, 6)
    torch.testing.assert_close(torch.autograd.grad(found, (q, k, v), towards),
                               torch.autograd.grad(expected, (q, k, v), towards))


def test_a_whole_systems_checkpoint_loads():
    network = build()
    slots = presets.families.load("ldm").weight_map(network)
    official = {f"model.diffusion_model.{key}": torch.randn(slot.shape) for key, slot in slots.items()}
    presets.load(network, {**official, "betas": torch.zeros(1000)})
    assert torch.equal(network.encoder[0].parts[0].bias, official["model.diffusion_model.input_blocks.0.0.bias"])


@pytest.mark.parametrize("changes, match", [
    (dict(num_heads=-1), "give num_heads or num_head_channels"),
    (dict(context_dim=None), "go together"),
    (dict(use_spatial_transformer=False), "go together"),
    (dict(n_embed=8), "not supported"),
    (dict(num_classes=8), "not supported"),
])
def test_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        build(**changes)
