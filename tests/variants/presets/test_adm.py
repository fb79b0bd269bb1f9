"""ADM and its classifiers against the official code's counts and outputs, and what outputs barely show."""

import golden
import pytest
import torch
from torch import nn

from variants import presets
from variants.parts.attention import SelfAttention, SpatialTransformer
from variants.parts.blocks import ResidualBlock

ROWS = golden.rows("adm")
TINY = dict(image_size=16, in_channels=3, model_channels=32, out_channels=6, num_res_blocks=2,
            attention_resolutions=(2, 4), channel_mult=(1, 2, 3), num_classes=10, num_heads=4, num_head_channels=16,
            use_scale_shift_norm=True, resblock_updown=True, use_new_attention_order=False)


def build(family="adm", **changes):
    torch.manual_seed(0)
    return presets.build_family(family, **{**TINY, **changes}).eval()


def parts(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_counts(row):
    arguments = presets.describe(row["name"])["arguments"]
    (_, _, *size), *_ = row["input_shape"]
    with torch.device("meta"):
        network = presets.build(row["name"])
        x, t = torch.empty(1, arguments["in_channels"], *size), torch.zeros(1)
        y = torch.zeros(1, dtype=torch.long) if arguments.get("num_classes") else None
    golden.assert_counts(row, network, x, t, y)
    assert list(network(x, t, y).shape) == row["output_shape"]


def test_golden():
    entry = golden.ENTRIES["adm_tiny_ssn1_updown1_newattn0_hc16"]
    network = presets.load(build(), golden.weights(entry["state_dict"], torch.float32))
    x, t = golden.image((2, 3, 16, 16), dtype=torch.float32), torch.tensor([3, 517])
    golden.assert_output(entry, network(x, t, torch.tensor([1, 7])))


def test_official_keys_and_shapes():
    slots = presets.families.load("adm").weight_map(build())
    assert {key: list(slot.shape) for key, slot in slots.items()} == {
        key: shape for key, shape, *_ in golden.ENTRIES["adm_tiny_ssn1_updown1_newattn0_hc16"]["state_dict"]}


@pytest.mark.parametrize("changes, more, fewer", [
    (dict(resblock_updown=False), {"input_blocks.3.0.op.weight", "output_blocks.2.2.conv.weight"},
     {"input_blocks.3.0.in_layers.0.weight"}),
    (dict(resblock_updown=False, conv_resample=False), set(), {"input_blocks.3.0.op.weight"}),
    (dict(num_classes=None), set(), {"label_emb.weight"}),
    (dict(attention_resolutions=()), {"middle_block.1.qkv.weight"}, {"input_blocks.4.1.qkv.weight"}),
])
def test_official_keys_of_other_configurations(changes, more, fewer):
    keys = presets.families.load("adm").weight_map(build(**changes)).keys()
    assert more <= keys and not fewer & keys


def test_norms():
    norms = parts(build(), nn.GroupNorm)
    assert {(norm.num_groups, norm.eps) for norm in norms} == {(32, 1e-5)}


@pytest.mark.parametrize("scale_shift, kind", [(True, "scale_shift"), (False, "add_before_norm")])
def test_how_blocks_are_told(scale_shift, kind):
    assert {block.modulation.kind for block in parts(build(use_scale_shift_norm=scale_shift), ResidualBlock)} == {kind}


@pytest.mark.parametrize("new, order", [(True, "split_first"), (False, "heads_first")])
def test_query_key_value_order(new, order):
    assert {a.qkv_order for a in parts(build(use_new_attention_order=new), SelfAttention)} == {order}


@pytest.mark.parametrize("changes, encoder, decoder", [
    (dict(num_head_channels=16), {4, 6}, {4, 6}),                     # 64 and 96 channels
    (dict(num_head_channels=-1), {4}, {4}),
    (dict(num_head_channels=-1, num_heads_upsample=8), {4}, {8}),
])
def test_heads(changes, encoder, decoder):
    network = build(**changes)
    assert {a.num_heads for a in parts(network.encoder, SelfAttention)} == encoder
    assert {a.num_heads for a in parts(network.decoder, SelfAttention)} == decoder


def test_resampling():
    down, up = build(resblock_updown=False).encoder[3].parts[0], build(resblock_updown=False).decoder[2].parts[2]
    assert (down.stride, down.padding) == ((2, 2), (1, 1)) and up[0].mode == "nearest"
    block = build().encoder[3].parts[0]
    x = torch.randn(1, 32, 8, 8)
    torch.testing.assert_close(block(x, torch.zeros(1, 128)), nn.functional.avg_pool2d(x, 2))     # its branch is zero


def test_sinusoids_have_cosines_first_and_stop_short_of_the_last_frequency():
    features = build().embedding.sinusoids(torch.tensor([1]))[0]
    k = torch.arange(16, dtype=torch.float64)
    torch.testing.assert_close(features.double(), torch.cat([(10_000 ** (-k / 16)).cos(), (10_000 ** (-k / 16)).sin()]),
                               atol=1e-6, rtol=0)


def test_sides_are_concatenated_behind():
    skip = build().decoder[0].skip
    x, emitted = torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1, 1)
    assert skip(x, emitted).flatten().tolist() == [0, 0, 1]


def test_what_starts_at_zero():
    network = build()
    last = [block.conv2 for block in parts(network, ResidualBlock)] + [a.out for a in parts(network, SelfAttention)]
    assert not any(tensor.any() for layer in (*last, network.head[2]) for tensor in layer.parameters())
    assert not parts(network, SpatialTransformer)


def test_labels_and_one_hot_tokens_agree():
    network = build().double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, t, y = torch.randn(2, 3, 16, 16).double(), torch.tensor([3, 517]), torch.tensor([1, 7])
    one_hot = nn.functional.one_hot(y, 10).double()[:, None]
    torch.testing.assert_close(network(x, t, one_hot), network(x, t, y), atol=1e-12, rtol=0)


def test_flags():
    flags = presets.families.load("adm").flags
    assert flags(64, 32, 2, "1,2", attention_resolutions="32,8")["attention_resolutions"] == (2, 8)
    with pytest.raises(ValueError, match="image_size 96 needs a channel_mult"):
        flags(96, 32, 2)


@pytest.mark.parametrize("changes, match", [
    (dict(dims=3), "2-D images, not dims=3"),
    (dict(num_head_channels=24), "head_channels=24 does not divide 64"),
    (dict(num_head_channels=-1, num_heads=7), "num_heads=7 does not divide 64"),
])
def test_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        build(**changes)


@pytest.mark.parametrize("pool, shape", [("adaptive", (7, 96, 1, 1)), ("attention", (7, 96, 1))])
def test_classifier_keys(pool, shape):
    arguments = {key: value for key, value in TINY.items() if key != "num_classes"} | dict(out_channels=7, pool=pool)
    network = presets.build_family("adm_classifier", **arguments)
    slots = presets.families.load("adm_classifier").weight_map(network)
    assert slots["out.2.c_proj.weight" if pool == "attention" else "out.3.weight"].shape == shape
    assert network(torch.randn(2, 3, 16, 16), torch.tensor([3, 517])).shape == (2, 7)


def test_classifier_refuses():
    with pytest.raises(ValueError, match="pool 'spatial' is not supported"):
        presets.build("adm_classifier64", pool="spatial")
