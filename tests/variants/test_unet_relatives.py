"""What is particular to the U-Nets that are a choice of blocks, skips or padding away from the control."""

import pytest
import torch
from torch import nn

import variants
from variants.parts.blocks import ResidualBlock
from variants.parts.light import ShuffleUnit, shuffle

SMALL = dict(in_channels=1, out_channels=2, width=4)


def parameters(name, **arguments):
    with torch.device("meta"):
        return sum(p.numel() for p in variants.build(name, **{**SMALL, "image_size": 64, **arguments}).parameters())


def test_valid_unets_output_is_smaller_unless_resized():
    x = torch.randn(1, 1, 64, 70)
    raw = variants.build("unet_valid", image_size=64, resize=False, **SMALL)
    assert raw(x).shape == (1, 2, 24, 28)                       # 64: 60 30 26 13 9, up 18 14, up 28 24
    assert variants.build("unet_valid", image_size=64, **SMALL)(x).shape == (1, 2, 64, 70)


def test_valid_unet_is_interpolated():
    torch.manual_seed(0)
    raw = variants.build("unet_valid", image_size=64, resize=False, **SMALL)
    resized = variants.build("unet_valid", image_size=64, **SMALL)
    resized.load_state_dict(raw.state_dict())
    x = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(resized(x), nn.functional.interpolate(raw(x), (64, 64), mode="bilinear"))


def test_published_sizes_of_the_valid_unet():
    with torch.device("meta"):
        network = variants.build("unet_valid", in_channels=1, out_channels=2, image_size=572, width=4, resize=False,
                                 channel_mult=(1, 2, 4, 8, 16))
        assert network(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_valid_unet_says_which_sizes_work():
    network = variants.build("unet_valid", image_size=64, **SMALL)
    with pytest.raises(ValueError, match="at least 44 x 44 pixels, not 43 x 64"):
        network(torch.randn(1, 1, 43, 64))
    assert network(torch.randn(1, 1, 44, 44)).shape == (1, 2, 44, 44)
    with pytest.raises(ValueError, match="at least 5 x 5 pixels, not 4 x 4"):
        variants.build("unet_valid", image_size=4, **SMALL)(torch.randn(1, 1, 4, 4))


def test_valid_unets_middle_does_not_see_the_border_as_zeros():
    """Shifting the image shifts the output: no padding tells where the border is."""
    torch.manual_seed(0)
    network = variants.build("unet_valid", image_size=64, resize=False, norm="none", **SMALL).double().eval()
    x = torch.randn(1, 1, 80, 80, dtype=torch.float64)
    step = 4                                                    # a pixel at the deepest level
    one, two = network(x[..., :72, :72]), network(x[..., step:step + 72, step:step + 72])
    torch.testing.assert_close(one[..., step:, step:], two[..., :-step, :-step])


@pytest.mark.parametrize("levels", [(), (0,), (1, 2), (0, 1, 2)])
def test_selected_skips(levels):
    chosen = variants.build("selected_skips", image_size=64, skip_levels=levels, **SMALL)
    kept = [step.skip.out_channels > 4 * 2 ** level for step, level in
            zip([s for s in chosen.decoder if s.skip is not None], (2, 1, 0))]
    assert kept == [level in levels for level in (2, 1, 0)]
    same = {(): "no_skip", (0, 1, 2): "plain"}
    if levels in same:
        assert parameters("selected_skips", skip_levels=levels) == parameters(same[levels])


def test_selected_skips_drop_the_top_one_unless_told():
    assert parameters("selected_skips") == parameters("plain", skip_levels=(1, 2))


class Mixer(nn.Module):
    """A connector of one's own: the mean of both, with a weight."""

    def __init__(self, channels, skip_channels):
        super().__init__()
        assert channels == skip_channels
        self.out_channels, self.weight = channels, nn.Parameter(torch.tensor(0.5))

    def forward(self, x, skip):
        return self.weight * x + (1 - self.weight) * skip


def test_modular_takes_parts_from_outside():
    made = []

    def encoder_block(in_channels, out_channels, emb_dim):
        made.append(("encoder", in_channels, out_channels, emb_dim))
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def decoder_block(in_channels, out_channels, emb_dim):
        made.append(("decoder", in_channels, out_channels, emb_dim))
        return nn.Conv2d(in_channels, out_channels, 1)

    def connector(in_channels, out_channels, emb_dim):
        made.append(("connector", in_channels, out_channels, emb_dim))
        return nn.Conv2d(in_channels, out_channels, 1)

    network = variants.build("modular", image_size=16, channel_mult=(1, 2), encoder_block=encoder_block,
                             connector=connector, decoder_block=decoder_block, skip=Mixer, time=True, **SMALL)
    assert made == [("encoder", 1, 4, 16), ("connector", 4, 8, 16), ("decoder", 4, 4, 16)]
    assert network(torch.randn(2, 1, 17, 9), torch.tensor([1, 2])).shape == (2, 2, 17, 9)
    assert sum(isinstance(module, Mixer) for module in network.modules()) == 1


def test_modular_by_names_can_be_the_control():
    chosen = dict(encoder_block="plain", connector="plain", decoder_block="plain", skip="concat")
    assert parameters("modular", **chosen) == parameters("plain")
    with pytest.raises(ValueError, match="unknown decoder_block 'nonsense'"):
        parameters("modular", decoder_block="nonsense")


def test_unetpp_by_hand():
    """Two levels are a U-Net; three have one node more, from 3 x 4 channels of its level and below."""
    assert parameters("unetpp", channel_mult=(1, 2)) == parameters("plain", channel_mult=(1, 2))
    up = 2 * 2 * 8 * 4 + 4
    node = 9 * (3 * 4) * 4 + 9 * 4 * 4 + 6 * 4                  # (0, 2): from (0, 0), (0, 1) and up from (1, 1)
    inner = up + 9 * 8 * 4 + 9 * 4 * 4 + 6 * 4                  # (0, 1)
    bottom = (9 * 8 * 16 + 9 * 16 * 16 + 6 * 16) + (2 * 2 * 16 * 8 + 8) + (9 * 16 * 8 + 9 * 8 * 8 + 6 * 8)
    encoder = (9 * 1 * 4 + 9 * 4 * 4 + 6 * 4) + (9 * 4 * 8 + 9 * 8 * 8 + 6 * 8)
    assert parameters("unetpp", channel_mult=(1, 2, 4)) == encoder + bottom + inner + up + node + (4 * 2 + 2)


def test_unetpp_deep_supervision():
    arguments = dict(image_size=16, channel_mult=(1, 2, 4), deep_supervision=True, **SMALL)
    x = torch.randn(2, 1, 17, 22)
    outputs = {}
    for kind in ("all", "mean", "last"):
        torch.manual_seed(0)
        outputs[kind] = variants.build("unetpp", output=kind, **arguments)(x)
    assert len(outputs["all"]) == 2 and torch.equal(outputs["all"][-1], outputs["last"])
    torch.testing.assert_close(outputs["mean"], sum(outputs["all"]) / 2)
    with pytest.raises(ValueError, match="unknown output 'first'.*known"):
        variants.build("unetpp", output="first", **arguments)
    with pytest.raises(ValueError, match="at least 4 x 4 pixels, not 3 x 9"):
        variants.build("unetpp", **arguments)(torch.randn(1, 1, 3, 9))


def test_mobile_and_shuffle_are_small():
    for name in ("mobile", "shuffle"):
        assert parameters(name, width=32) < 0.25 * parameters("plain", width=32)


@pytest.mark.parametrize("block", ["separable", "inverted"])
def test_mobiles_3x3_convolutions_are_depthwise(block):
    network = variants.build("mobile", image_size=16, block=block, **SMALL)
    first, *others = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert first.groups == 1 and others and all(conv.groups == conv.in_channels for conv in others)


def test_shuffle_deals_channels_out():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_a_shuffle_unit_passes_half_on():
    unit = ShuffleUnit(6, 6, None, "none", "relu", 0.0, "add")
    x = torch.randn(1, 6, 4, 4)
    assert torch.equal(unit(x)[:, 0::2], x[:, :3])
    with pytest.raises(ValueError, match="even number of channels, not 5"):
        ShuffleUnit(4, 5, None, "none", "relu", 0.0, "add")


@pytest.mark.parametrize("options", [{"skip": "none"}, {"skip": "add"}, {"skip": "gate"}, {"skip_levels": (1,)}])
def test_every_skip_of_the_valid_unet_is_cropped(options):
    network = variants.build("unet_valid", image_size=64, resize=False, **options, **SMALL)
    assert network(torch.randn(1, 1, 64, 64)).shape == (1, 2, 24, 24)


@pytest.mark.parametrize("name", ["plain", "residual", "mobile", "shuffle", "ddpm", "unetpp"])
def test_weights_saved_under_the_modulations_old_name_load(name):
    """Blocks called their ``modulation`` ``told`` once; such a state dict is loaded strictly, and left as it is."""
    network, other = (variants.build(name, image_size=16, time=True, in_channels=1, out_channels=2, width=8).eval()
                      for _ in range(2))
    old = {key.replace(".modulation.", ".told."): value for key, value in network.state_dict().items()}
    keys = list(old)
    assert any(".told." in key for key in keys)
    other.load_state_dict(old, strict=True)
    assert list(old) == keys
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 517])
    assert torch.equal(network(x, t), other(x, t))
    with pytest.raises(RuntimeError, match="Unexpected key.*told"):
        other.load_state_dict({**old, "head.told.weight": torch.zeros(1)}, strict=True)


def test_a_block_alone_loads_its_old_name():
    block, other = ResidualBlock(4, 4, 6), ResidualBlock(4, 4, 6)
    other.load_state_dict({key.replace("modulation.", "told."): v for key, v in block.state_dict().items()})
    assert torch.equal(other.modulation.project[1].weight, block.modulation.project[1].weight)
