"""Improved DDPM against the official code's counts."""

import golden
import pytest
import torch

from variants import presets
from variants.parts.attention import SelfAttention


@pytest.mark.parametrize("row", golden.rows("iddpm"), ids=lambda row: row["name"])
def test_counts(row):
    with torch.device("meta"):
        network = presets.build(row["name"])
        y = torch.zeros(1, dtype=torch.long) if row["config"]["class_cond"] else None
        golden.assert_counts(row, network, torch.empty(row["input_shape"][0]), torch.zeros(1), y)


def test_official_constructor_has_no_image_size():
    network = presets.build_family("iddpm", in_channels=3, model_channels=32, out_channels=6, num_res_blocks=1,
                                   attention_resolutions=(2,), channel_mult=(1, 2), num_heads=2, num_heads_upsample=4)
    heads = {side: {a.num_heads for a in getattr(network, side).modules() if isinstance(a, SelfAttention)}
             for side in ("encoder", "middle", "decoder")}
    assert heads == {"encoder": {2}, "middle": {2}, "decoder": {4}}
    assert {a.qkv_order for a in network.modules() if isinstance(a, SelfAttention)} == {"heads_first"}
    slots = presets.families.load("iddpm").weight_map(network)
    assert slots["input_blocks.2.0.op.weight"].shape == (32, 32, 3, 3)
    assert slots["input_blocks.3.1.qkv.weight"].shape == (192, 64, 1)


def test_unknown_size():
    with pytest.raises(ValueError, match="one of 32, 64, 256, not 128"):
        presets.families.load("iddpm").flags(128, 32, 1)
