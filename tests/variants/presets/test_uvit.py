"""U-ViT against the official code's counts and outputs, and its long skips against their definition."""

import golden
import pytest
import torch

import variants
from variants import presets
from variants.parts.encoder_decoder import EncoderDecoder

TINY = dict(img_size=16, patch_size=4, in_chans=3, embed_dim=64, depth=4, num_heads=4)


def build(**arguments):
    torch.manual_seed(0)
    return presets.build_family("uvit", **{**TINY, **arguments}).eval()


def inputs(size=16, dtype=torch.float32):
    return golden.image((2, 3, size, size), dtype=dtype), torch.tensor([3.0, 517.0]), torch.tensor([1, 7])


def test_every_row_has_its_preset():
    assert set(presets.families.load("uvit").PRESETS) == {row["name"] for row in golden.rows("uvit")}


@pytest.mark.parametrize("row", golden.rows("uvit"), ids=lambda row: row["name"])
def test_counts(row):
    image, _, *text = row["input_shape"]
    with torch.device("meta"):
        network = presets.build(row["name"])
        context = torch.empty(text[0]) if text else torch.zeros(1, dtype=torch.long) if network.classes else None
        x, t = torch.empty(image), torch.zeros(1)
    golden.assert_counts(row, network, x, t, context)


def test_golden():
    entry = golden.ENTRIES["uvit_tiny_skip1"]
    network = presets.load(build(num_classes=10), golden.weights(entry["state_dict"], torch.float32))
    golden.assert_output(entry, network(*inputs()))


def test_official_keys_and_shapes():
    slots = presets.families.load("uvit").weight_map(build(num_classes=10))
    assert {key: list(slot.shape) for key, slot in slots.items()} == {
        key: shape for key, shape, *_ in golden.ENTRIES["uvit_tiny_skip1"]["state_dict"]}


@pytest.mark.parametrize("arguments, more, fewer", [
    (dict(skip=False), set(), {"out_blocks.0.skip_linear.weight", "label_emb.weight"}),
    (dict(conv=False), set(), {"final_layer.weight", "label_emb.weight"}),
    (dict(qkv_bias=True), {"in_blocks.0.attn.qkv.bias", "mid_block.attn.qkv.bias"}, set()),
    (dict(mlp_time_embed=True), {"time_embed.0.weight", "time_embed.2.bias"}, set()),
    (dict(clip_dim=6, num_clip_token=5), {"context_embed.weight", "context_embed.bias"}, {"label_emb.weight"}),
])
def test_official_keys_of_other_configurations(arguments, more, fewer):
    keys = presets.families.load("uvit").weight_map(build(**arguments)).keys()
    assert more <= keys and not fewer & keys


def test_norms_and_gelu_as_published():
    network = build()
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}
    assert {m.approximate for m in network.modules() if isinstance(m, torch.nn.GELU)} == {"none"}


def test_long_skips_are_last_in_first_out():
    """With the blocks as identities, the deepest decoder step merges what the last encoder step emitted."""
    trunk = build().trunk
    assert isinstance(trunk, EncoderDecoder)
    for step in [*trunk.encoder, *trunk.decoder]:
        step.parts = torch.nn.ModuleList()
    merged = []
    for i, step in enumerate(trunk.encoder):
        step.register_forward_hook(lambda module, args, output, i=i: torch.full_like(output, i))
    for step in trunk.decoder:
        step.skip.register_forward_pre_hook(lambda module, args: merged.append(args[1].unique().tolist()))
    trunk(torch.zeros(1, 3, 64), None, None)
    assert merged == [[1.0], [0.0]]


def test_without_skip_the_second_half_hears_only_the_first():
    network = build(skip=False)
    network.trunk.middle.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    first, second = (network(x, torch.tensor([1.0])) for x in torch.randn(2, 1, 3, 16, 16))
    assert torch.equal(first, second)


def test_labels_and_one_hot_tokens_agree():
    network = build(num_classes=10).double()
    x, t, y = inputs(dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(y, 10).double()[:, None]
    torch.testing.assert_close(network(x, t, one_hot), network(x, t, y), atol=1e-12, rtol=0)


def test_sizes():
    network = build(conv=False)
    assert network(torch.zeros(1, 3, 24, 12), torch.zeros(1)).shape == (1, 3, 24, 12)      # interpolated positions
    with pytest.raises(ValueError, match="multiples of 4 pixels, not 17 x 16"):
        network(torch.zeros(1, 3, 17, 16), torch.zeros(1))
    with pytest.raises(ValueError, match="must be multiples of 4"):
        build(img_size=18)


def test_number_of_text_tokens():
    network = build(clip_dim=6, num_clip_token=5)
    assert network(*inputs()[:2], torch.zeros(2, 5, 6)).shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="takes 5 context tokens, not 4"):
        network(*inputs()[:2], torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match="or text tokens .*not both"):
        build(clip_dim=6, num_classes=3)


def test_variant_takes_any_number_of_tokens_and_reads_each():
    torch.manual_seed(0)
    network = variants.build("uvit", in_channels=1, out_channels=1, image_size=8, width=8, time=True, context_dim=6)
    x, t, context = torch.randn(1, 1, 8, 8), torch.tensor([9]), torch.randn(1, 4, 6)
    y = network(x, t, context)
    assert network(x, t, context[:, :2]).shape == y.shape
    torch.testing.assert_close(network(x, t, context.flip(1)), y)             # one position for all: a set
    assert not torch.allclose(network(x, t, context.mean(1, keepdim=True).expand(-1, 4, -1)), y)


@pytest.mark.parametrize("skip, extra", [("none", 0), ("add", 0), ("concat", 3 * (2 * 32 * 32 + 32))])
def test_parameters_of_the_skips_by_hand(skip, extra):
    def parameters(skip):
        network = variants.build("uvit", in_channels=1, out_channels=1, image_size=8, width=8, skip=skip)
        return sum(p.numel() for p in network.parameters())

    assert parameters(skip) - parameters("none") == extra


def test_unknown_skip():
    with pytest.raises(ValueError, match="'gate'.*known: concat, add, none"):
        variants.build("uvit", in_channels=1, out_channels=1, image_size=8, skip="gate")
