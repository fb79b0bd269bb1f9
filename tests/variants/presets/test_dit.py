"""DiT against the official code's counts and outputs, and its conditioning blocks against their definitions."""

import golden
import pytest
import torch

import variants
from variants import presets
from variants.parts.embedding import grid_positions

BLOCKS = ("adaln_zero", "adaln", "cross_attention", "in_context")
PRESET_OF = {
    **{f"DiT-{size.upper()}_{patch}": f"dit_{size}_{patch}_256"
       for size in ("s", "b", "l", "xl") for patch in (8, 4, 2)},
    "DiT-XL_2_512": "dit_xl_2_512",
    "DiT-XL_2_block_adaln_ownrebuild": "dit_xl_2_256_adaln",
    "DiT-XL_2_block_cross_ownrebuild": "dit_xl_2_256_cross_attention",
    "DiT-XL_2_block_in-context_ownrebuild": "dit_xl_2_256_in_context",
}
TINY = dict(input_size=8, patch_size=2, in_channels=4, hidden_size=48, depth=2, num_heads=4, num_classes=10)


def build(**arguments):
    torch.manual_seed(0)
    return presets.build_family("dit", **{**TINY, **arguments}).eval()


def filled(**arguments):
    """A tiny DiT at a generic point, since its published start hides everything behind zeros."""
    network = build(**arguments)
    keys = [(key, slot.shape) for key, slot in presets.families.load("dit").weight_map(network).items()
            if key != "pos_embed"]
    kept = {} if network.positions is None else {"pos_embed": network.positions}
    return presets.load(network, golden.weights(keys, torch.float32) | kept)


def inputs(size=8, dtype=torch.float32):
    return golden.image((2, 4, size, size), dtype=dtype), torch.tensor([3, 517]), torch.tensor([1, 10])


def test_every_row_has_its_preset():
    assert PRESET_OF.keys() == {row["name"] for row in golden.rows("dit")}


@pytest.mark.parametrize("row", golden.rows("dit"), ids=lambda row: row["name"])
def test_counts(row):
    with torch.device("meta"):
        network = presets.build(PRESET_OF[row["name"]])
        x, t, y = torch.empty(row["input_shape"][0]), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    golden.assert_counts(row, network, x, t, y)


def test_golden():
    entry = golden.ENTRIES["dit_tiny"]
    network = build()
    official = golden.weights(entry["state_dict"], torch.float32, kept={"pos_embed": network.positions.clone()})
    presets.load(network, official)
    golden.assert_output(entry, network(*inputs()))


def test_official_keys_shapes_and_order():
    slots = presets.families.load("dit").weight_map(build())
    assert {key: list(slot.shape) for key, slot in slots.items()} == {
        key: shape for key, shape, *_ in golden.ENTRIES["dit_tiny"]["state_dict"]}


def test_norms_and_gelu_as_published():
    network = build()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {(norm.eps, norm.elementwise_affine) for norm in norms} == {(1e-6, False)}
    assert {m.approximate for m in network.modules() if isinstance(m, torch.nn.GELU)} == {"tanh"}


def test_position_code_is_frozen_counted_and_of_the_grid():
    network = build()
    assert not network.positions.requires_grad
    assert torch.equal(network.positions[0], grid_positions(48, 4, 4))


def test_another_size_computes_its_position_code():
    kept, computed = filled(), variants.registry.load("dit").DiT(
        4, 4, patch_size=2, hidden_size=48, depth=2, num_heads=4, learn_sigma=True, time=True, num_classes=10).eval()
    computed.load_state_dict({key: value for key, value in kept.state_dict().items() if key != "positions"})
    for size in (8, 12):
        assert torch.equal(kept(*inputs(size)), computed(*inputs(size)))


@pytest.mark.parametrize("size", [(9, 8), (8, 7)])
def test_sizes_that_the_patch_does_not_divide(size):
    with pytest.raises(ValueError, match=rf"multiples of 2 pixels, not {size[0]} x {size[1]}"):
        build()(torch.zeros(1, 4, *size), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="must be multiples of 2"):
        build(input_size=9)


def test_without_learned_variance_and_without_null_class():
    network = build(learn_sigma=False, class_dropout_prob=0.0)
    assert network(*inputs()[:2], torch.tensor([1, 9])).shape == (2, 4, 8, 8)
    assert network.embedding.context.weight.shape == (10, 48)


@pytest.mark.parametrize("block", BLOCKS)
def test_labels_and_one_hot_tokens_agree(block):
    network = filled(conditioning=block).double()
    x, t, y = inputs(dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(y, 11).double()[:, None]
    torch.testing.assert_close(network(x, t, one_hot), network(x, t, y), atol=1e-12, rtol=0)
    assert not torch.allclose(network(x, t, y), network(x, t, y - 1))
    assert not torch.allclose(network(x, t, y), network(x, t + 50, y))


def test_labels_are_dropped_in_training_only():
    network = filled(class_dropout_prob=1.0)
    x, t, _ = inputs()
    dropped = network(x, t, torch.tensor([10, 10]))
    assert torch.equal(network.train()(x, t, torch.tensor([1, 2])), dropped)
    assert not torch.equal(network.eval()(x, t, torch.tensor([1, 2])), dropped)


def test_adaln_is_adaln_zero_with_open_gates():
    plain, gated = filled(conditioning="adaln"), filled()
    weights = plain.state_dict()
    with torch.no_grad():
        for key, own in gated.state_dict(keep_vars=True).items():
            if key.startswith("blocks") and "modulation" in key:
                shift1, scale1, shift2, scale2 = weights[key].chunk(4)
                gate = torch.zeros_like(shift1) if key.endswith("weight") else torch.ones_like(shift1)
                own.copy_(torch.cat([shift1, scale1, gate, shift2, scale2, gate]))
            else:
                own.copy_(weights[key])
    torch.testing.assert_close(gated(*inputs()), plain(*inputs()))


def test_in_context_tokens_are_seen_and_removed():
    network = filled(conditioning="in_context")
    seen = []
    network.blocks[0].register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    assert network(*inputs()).shape == (2, 8, 8, 8) and seen == [16 + 2]


def test_cross_attention_sees_one_token_for_time_and_one_for_the_class():
    network = filled(conditioning="cross_attention")
    seen = []
    network.blocks[1].cross_attention.register_forward_pre_hook(lambda module, args: seen.append(args[1].shape))
    network(*inputs())
    assert seen == [(2, 2, 48)]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("conditions", [{}, {"time": True, "context_dim": 6}])   # one token's q, k learn nothing
def test_every_block_keeps_to_the_contract_of_variants(block, conditions):
    torch.manual_seed(0)
    network = variants.build("dit", in_channels=1, out_channels=2, image_size=(9, 14), width=8, depth=2,
                             conditioning=block, **conditions)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    t = torch.tensor([3, 517]) if "time" in conditions else None
    context = torch.randn(2, 3, 6) if "context_dim" in conditions else None
    y = network(torch.randn(2, 1, 9, 14), t, context)
    assert y.shape == (2, 2, 9, 14)
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_unknown_conditioning():
    with pytest.raises(ValueError, match="'film'.*known: adaln_zero, adaln, cross_attention, in_context"):
        build(conditioning="film")
