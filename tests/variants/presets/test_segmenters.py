"""U-Nets, ResUNets, UNet++, FCN and MobileNetV2's U-Net against the official codes' counts and outputs."""

import re

import golden
import pytest
import torch
from torch import nn

from variants import presets
from variants.parts.light import InvertedResidual
from variants.parts.skips import GateSkip

FAMILIES = ("unet", "unetpp", "resunet", "fcn", "mobile", "attunet", "attentionunet")
LEFT_OUT = {  # rows of these families that are no preset -> why
    "attunet3d_ozan_ct_multi_att_dsv":  "three-dimensional",
    "attunet3d_ozan_ct_single_att_dsv": "three-dimensional",
    "unet3d_ozan_ct_dsv":               "three-dimensional",
}
ROWS = [row for row in golden.rows(*FAMILIES) if row["name"] not in LEFT_OUT]
GOLDEN = {  # entry -> preset, changes of its arguments, input
    "unet_valid_depth3_wf3": ("unet_original_paper_valid",     dict(depth=3, wf=3), (2, 1, 92, 92)),
    "milesial_bilinear0_32": ("unet_milesial_3to2_transposed", dict(),              (1, 3, 32, 32)),
    "leejunhyun_AttU_Net":   ("attunet_leejunhyun",            dict(),              (1, 3, 32, 32)),
    "resunet_rishikksh20":   ("resunet_rishikksh20",           dict(),              (1, 3, 32, 32)),
}


def preset_of(row):
    """A row's name is its preset's, with the size of the input behind."""
    return re.sub(r"_(96|224|256|500|520|572)$", "", row["name"])


def meta(name, **changes):
    with torch.device("meta"):
        return presets.build(name, **changes)


def test_every_row_is_a_preset_or_says_why_not():
    assert {preset_of(row) for row in ROWS} <= set(presets.names())
    assert LEFT_OUT.keys() <= {row["name"] for row in golden.rows(*FAMILIES)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_counts(row):
    network, x = meta(preset_of(row)), torch.empty(row["input_shape"], device="meta")
    golden.assert_counts(row, network, x)
    with torch.no_grad():
        y = network(x)
    expected = row["output_shape"]
    if isinstance(expected, dict):                   # torchvision's dict; its auxiliary output is passed over
        expected = expected["out"]
    assert ([list(each.shape) for each in y] if isinstance(y, list) else list(y.shape)) == expected


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    preset, changes, shape = GOLDEN[name]
    entry, network = golden.ENTRIES[name], presets.build(preset, **changes).double().eval()
    presets.load(network, golden.weights(entry["state_dict"]))
    with torch.no_grad():
        golden.assert_output(entry, network(golden.image(shape)))


@pytest.mark.parametrize("name", GOLDEN)
def test_official_keys_are_all_there_is(name):
    preset, changes, _ = GOLDEN[name]
    network = meta(preset, **changes)
    slots = presets.families.load(network.preset_family).weight_map(network)
    assert {key: list(slot.shape) for key, slot in slots.items()} == {
        key: shape for key, shape, *_ in golden.ENTRIES[name]["state_dict"]}


def test_batch_norms_state_is_loaded():
    network = presets.build("unet_mateuszbuda", init_features=2)
    slots = presets.families.load("unet_mateuszbuda").weight_map(network)
    weights = {key: torch.full(slot.shape, 7) if key.endswith("tracked") else torch.rand(slot.shape)
               for key, slot in slots.items()}
    norm = presets.load(network, weights).encoder[0].parts[0].norm1
    assert norm.num_batches_tracked == 7
    assert torch.equal(norm.running_var, weights["encoder1.enc1norm1.running_var"])


def first(network, kind):
    return next(module for module in network.modules() if isinstance(module, kind))


@pytest.mark.parametrize("name, skip_first", [
    ("unet_original_paper_valid", False), ("unet_original_caffe_release_phseg_v5", False), ("unet_mateuszbuda", False),
    ("unet_nikhilroxtomar", False), ("unet_zju", False), ("resunet_rishikksh20", False),
    ("resunet_nikhilroxtomar", False), ("unet_keras_official_unetpp_baseline", False), ("unet_leejunhyun", True),
    ("unet_milesial_3to1_bilinear", True), ("unet2d_ozan_fs4_deconv", True), ("unet_nested_repo_base32", True)])
def test_order_of_concatenation(name, skip_first):
    skip = meta(name).decoder[1].skip
    joined = skip(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    assert joined[0, 0].any() == skip_first


def test_order_of_concatenation_in_nested_networks():
    assert meta("unetpp_nested_ds0").skip_first
    assert not meta("unetpp_keras_official").skip_first and not meta("unetpp_zju").skip_first


@pytest.mark.parametrize("name", ["unet_milesial_3to1_bilinear", "unet_nested_repo_base32", "unetpp_nested_ds0",
                                  "resunet_nikhilroxtomar", "attentionunet_nikhilroxtomar"])
def test_older_networks_align_corners(name):
    ups = [module for module in meta(name).modules() if isinstance(module, nn.Upsample)]
    assert ups and all(up.mode == "bilinear" and up.align_corners for up in ups)


def test_batch_norms_eps():
    for name in presets.names():
        if presets.family_of(name).startswith(("unet_", "unetpp_", "resunet_", "mobile")):
            assert {module.eps for module in meta(name).modules() if isinstance(module, nn.BatchNorm2d)} <= {1e-5}


def test_gates():
    lee, nikhil = first(meta("attunet_leejunhyun"), GateSkip), first(meta("attentionunet_nikhilroxtomar"), GateSkip)
    assert isinstance(lee.psi[2], nn.BatchNorm2d) and lee.psi[1].out_channels == 1
    assert lee.gate_x[0].out_channels * 2 == lee.gate_x[0].in_channels
    assert nikhil.psi[1].out_channels == nikhil.gate_x[0].in_channels == nikhil.gate_x[0].out_channels


def test_norm_follows_the_activation_in_jvanvugts_block():
    block = presets.build("unet_padded_batchnorm_postact_bias", depth=1, wf=2).middle.parts[0].eval()
    with torch.no_grad():
        block.norm2.bias.fill_(-5.0)
        assert (block(torch.randn(1, 1, 8, 8)) < 0).all()


@pytest.mark.parametrize("depth, smallest", [(1, 5), (2, 18), (3, 44), (4, 92), (5, 188)])
def test_valid_convolutions_need_room(depth, smallest):
    network = meta("unet_original_paper_valid", depth=depth, wf=2)
    for side in (smallest, smallest + 1, smallest + 30):
        assert min(network(torch.empty(1, 1, side, side, device="meta")).shape) >= 1
    with pytest.raises(ValueError, match=f"at least {smallest} x {smallest} pixels, not {smallest - 1} x"):
        network(torch.empty(1, 1, smallest - 1, smallest + 9, device="meta"))


def test_caffes_dropout_is_carried_by_the_skip():
    network = meta("unet_original_caffe_release_phseg_v5")
    drops = [[part.p for part in step.parts if isinstance(part, nn.Dropout)]
             for step in network.encoder if step.emits_skip]
    assert drops == [[], [], [], [0.5]] and network.middle.parts[-1].p == 0.5


@pytest.mark.parametrize("family", ["unet_ozan", "unet_zju", "unetpp_zju"])
def test_what_the_official_code_cannot_run_is_refused(family):
    with pytest.raises(ValueError, match="does not run in the official code"):
        presets.build_family(family, is_deconv=False)


def test_fcn_enlarges_as_interpolation_at_first():
    """A constant score stays itself, away from the border."""
    up = presets.families.load("fcn").build("FCN32s", n_class=2).ups["32"]
    y = up(torch.ones(1, 2, 4, 4))
    torch.testing.assert_close(y[:, :, 32:-32, 32:-32], torch.ones(1, 2, 96, 96))
    assert up.weight[0, 1].abs().sum() == 0


def test_fcns_crops_are_the_published_ones(monkeypatch):
    """5 at stride 16, 9 at stride 8; 19, 27 and 31 in the image, here derived from where pixel centres are."""
    import variants.fcn as module

    seen, window = [], module.window
    monkeypatch.setattr(module, "window", lambda x, start, size: (seen.append(start), window(x, start, size))[1])
    for model in ("FCN32s", "FCN16s", "FCN8s"):
        with torch.device("meta"):
            presets.build_family("fcn", model=model)(torch.empty(1, 3, 40, 50))
    assert seen == [19, 5, 27, 5, 9, 31]


def test_mobilenets_middle_and_decoder():
    network = meta("mobilenetv2_unet_akirasosa")
    blocks = [module for module in network.modules() if isinstance(module, InvertedResidual)]
    assert len(blocks) == 17 + 4 and sum(block.adds for block in blocks) == 10
