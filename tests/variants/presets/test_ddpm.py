"""DDPM's networks against the official ports' counts and outputs, and what outputs barely show."""

import golden
import pytest
import torch
from torch import nn

from variants import presets
from variants.parts.attention import SelfAttention
from variants.parts.blocks import ResidualBlock

TINY = dict(resolution=16, in_channels=3, out_ch=3, ch=32, ch_mult=(1, 2), num_res_blocks=2, attn_resolutions=(8,))
TABLE = dict(T=1000, ch=32, ch_mult=(1, 2), attn=(1,), num_res_blocks=1, dropout=0.1)
BUILT = {"ddpm": TINY, "ddpm_w86763777": TABLE}
every_family = pytest.mark.parametrize("family", BUILT)


def build(family="ddpm", **changes):
    torch.manual_seed(0)
    return presets.build_family(family, **{**BUILT[family], **changes}).eval()


@pytest.mark.parametrize("row", golden.rows("ddpm"), ids=lambda row: row["name"])
def test_counts(row):
    with torch.device("meta"):
        network = presets.build(row["name"])
        golden.assert_counts(row, network, torch.empty(row["input_shape"][0]), torch.zeros(1, dtype=torch.long))


def test_golden():
    entry = golden.ENTRIES["ddpm_pesser_tiny"]
    network = presets.load(build(), golden.weights(entry["state_dict"], torch.float32))
    golden.assert_output(entry, network(golden.image((2, 3, 16, 16), dtype=torch.float32), torch.tensor([3, 517])))


def test_official_keys_and_shapes():
    slots = presets.families.load("ddpm").weight_map(build())
    assert {key: list(slot.shape) for key, slot in slots.items()} == {
        key: shape for key, shape, *_ in golden.ENTRIES["ddpm_pesser_tiny"]["state_dict"]}


def test_official_keys_without_learned_resampling():
    keys = presets.families.load("ddpm").weight_map(build(resamp_with_conv=False)).keys()
    assert not [key for key in keys if "sample" in key] and "up.0.block.2.conv2.weight" in keys


@pytest.mark.parametrize("family, eps", [("ddpm", 1e-6), ("ddpm_w86763777", 1e-5)])
def test_norms(family, eps):
    assert {(m.num_groups, m.eps) for m in build(family).modules() if isinstance(m, nn.GroupNorm)} == {(32, eps)}


def test_strides_are_padded_at_the_far_sides_or_at_all():
    far, every = build().encoder[3].parts[0], build("ddpm_w86763777").encoder[2].parts[0]
    assert far[0].padding == (0, 1, 0, 1) and (far[1].padding, every.padding) == ((0, 0), (1, 1))


def test_sinusoids():
    k = torch.arange(16, dtype=torch.float64)
    angles = 7 * 10_000 ** (-k / 15)                                       # DDPM: the last frequency is 1 / 10 000
    torch.testing.assert_close(build().embedding.sinusoids(torch.tensor([7]))[0].double(),
                               torch.cat([angles.sin(), angles.cos()]), atol=1e-5, rtol=0)
    angles = 7 * 10_000 ** (-k / 16)
    table = build("ddpm_w86763777").embedding.table
    torch.testing.assert_close(table.weight[7].double(), torch.stack([angles.sin(), angles.cos()], 1).flatten(),
                               atol=1e-5, rtol=0)
    assert len(table.weight) == 1000 and not table.weight.requires_grad


@every_family
def test_blocks_and_skips(family):
    network = build(family)
    assert {m.modulation.kind for m in network.modules() if isinstance(m, ResidualBlock)} == {"add_before_norm"}
    assert {m.num_heads for m in network.modules() if isinstance(m, SelfAttention)} == {1}
    assert not any(step.skip.skip_first for step in network.decoder)


@every_family
def test_query_key_and_value_are_our_thirds(family):
    network = build(family)
    slots = presets.families.load(family).weight_map(network)
    official = {key: torch.randn(slot.shape) for key, slot in slots.items()}
    presets.load(network, official)
    names = ("mid.attn_1.q", "mid.attn_1.k", "mid.attn_1.v") if family == "ddpm" else (
        f"middleblocks.0.attn.proj_{name}" for name in "qkv")
    expected = torch.cat([official[f"{name}.weight"].flatten(1) for name in names])
    assert torch.equal(network.middle.parts[1].qkv.weight, expected)


def test_time_bias_is_added_before_the_second_norm():
    """A bias equal in all channels of a group is taken out again by a norm behind it."""
    block = ResidualBlock(32, 32, 4, "group32", time_conditioning="add_before_norm")
    with torch.no_grad():
        block.norm2 = nn.GroupNorm(1, 32)
        block.modulation.project[1].weight.zero_()
        x, emb = torch.randn(2, 32, 4, 4), torch.randn(2, 4)
        before = block(x, emb)
        block.modulation.project[1].bias += 3.0
        torch.testing.assert_close(block(x, emb), before, atol=1e-4, rtol=1e-4)
