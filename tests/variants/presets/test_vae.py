"""First-stage autoencoders against the official code's counts and outputs."""

import golden
import pytest
import torch

from variants import presets

HALVES = {f"sd_vae_{half}_only_{repo}_{side}": f"vae_sd_v1_{half}" for half in ("encoder", "decoder")
          for repo in ("latent-diffusion", "stable-diffusion") for side in (256, 512)}
PRESET_OF = {
    **{f"ldm_firststage_kl-f{f}_256": f"vae_kl_f{f}" for f in (4, 8, 16, 32)},
    "ldm_firststage_vq-f4_256": "vae_vq_f4",
    "ldm_firststage_vq-f4-noattn_256": "vae_vq_f4_no_attn",
    "ldm_firststage_vq-f8_256": "vae_vq_f8",
    "ldm_firststage_vq-f8-n256_256": "vae_vq_f8_n256",
    "ldm_firststage_vq-f16_256": "vae_vq_f16",
    **{f"sd_vae_autoencoderkl_f8_{repo}_{side}": "vae_sd_v1"
       for repo in ("latent-diffusion", "stable-diffusion") for side in (256, 512)},
    **HALVES,
}
TINY = dict(double_z=True, z_channels=4, resolution=32, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2, 2],
            num_res_blocks=1, attn_resolutions=[], dropout=0.0)


def build(embed_dim=4, n_embed=None, part="both", **ddconfig):
    torch.manual_seed(0)
    return presets.build_family("vae", ddconfig={**TINY, **ddconfig}, embed_dim=embed_dim, n_embed=n_embed,
                                part=part).eval()


def slots(network):
    return presets.families.load("vae").weight_map(network)


def test_every_row_has_its_preset():
    assert PRESET_OF.keys() == {row["name"] for row in golden.rows("vae")}


@pytest.mark.parametrize("row", golden.rows("vae"), ids=lambda row: row["name"])
def test_counts(row):
    with torch.device("meta"):
        network, x = presets.build(PRESET_OF[row["name"]]), torch.empty(row["input_shape"])
    golden.assert_counts(row, network, x)
    assert list(network(x).shape) == row["output_shape"]


def test_golden():
    entry = golden.ENTRIES["sd_autoencoderkl_tiny"]
    network = presets.load(build().double(), golden.weights(entry["state_dict"]))
    with torch.no_grad():
        posterior = network.encode(golden.image((1, 3, 32, 32)))
        golden.assert_output(entry, [posterior.parameters, network.decode(posterior.mean)])
        assert torch.equal(network(golden.image((1, 3, 32, 32))), network.decode(posterior.mode()))


def test_official_keys_and_shapes():
    assert {key: list(slot.shape) for key, slot in slots(build()).items()} == {
        key: shape for key, shape, *_ in golden.ENTRIES["sd_autoencoderkl_tiny"]["state_dict"]}


def test_norm_eps_as_published():
    norms = [m for m in build().modules() if isinstance(m, torch.nn.GroupNorm)]
    assert {(norm.eps, norm.num_groups) for norm in norms} == {(1e-6, 32)}


@pytest.mark.parametrize("changes, shapes", [
    (dict(ch_mult=[2, 2, 4]), {"encoder.conv_in.weight": (32, 3, 3, 3),
                               "encoder.down.0.block.0.nin_shortcut.weight": (64, 32, 1, 1)}),
    (dict(embed_dim=6), {"quant_conv.weight": (12, 8, 1, 1), "post_quant_conv.weight": (4, 6, 1, 1)}),
    (dict(attn_resolutions=[16]), {"encoder.down.1.attn.0.q.weight": (64, 64, 1, 1),
                                   "decoder.up.1.attn.1.proj_out.weight": (64, 64, 1, 1)}),
    (dict(resamp_with_conv=False), {"encoder.down.0.downsample.conv.weight": None,
                                    "decoder.up.1.upsample.conv.weight": None}),
    (dict(attn_type="none", attn_resolutions=[16]), {"encoder.mid.attn_1.q.weight": None,
                                                     "decoder.up.1.attn.0.q.weight": None}),
    (dict(n_embed=16, double_z=False), {"quantize.embedding.weight": (16, 4),
                                        "encoder.conv_out.weight": (4, 64, 3, 3)}),
])
def test_official_keys_of_other_configurations(changes, shapes):
    network = build(**changes)
    have = slots(network)
    assert {key: have[key].shape if key in have else None for key in shapes} == shapes
    assert network(torch.zeros(1, 3, 16, 24)).shape == (1, 3, 16, 24)


def test_quantized_latents_are_codes():
    network = build(n_embed=16, double_z=False)
    latent = network.encode(golden.image((1, 3, 32, 32), dtype=torch.float32))
    codes = network.autoencoder.quantize.embedding.weight
    nearest = codes[torch.cdist(latent.permute(0, 2, 3, 1).flatten(0, 2), codes).argmin(1)]
    quantized = nearest.unflatten(0, (1, 8, 8)).permute(0, 3, 1, 2)
    torch.testing.assert_close(network.decode(latent), network.autoencoder.decode(quantized, True).sample)


def test_tanh_and_dropout_are_honoured():
    plain, bounded = build(), build(tanh_out=True)
    z = golden.image((1, 4, 8, 8), dtype=torch.float32)
    torch.testing.assert_close(bounded.decode(z), torch.tanh(plain.decode(z)))
    assert {m.p for m in build(dropout=0.3).modules() if isinstance(m, torch.nn.Dropout)} >= {0.3}


def test_parts():
    x = golden.image((1, 3, 32, 32), dtype=torch.float32)
    whole = build()
    moments = build(part="encoder")(x)
    assert torch.equal(moments, whole.encode(x).parameters)
    assert torch.equal(build(part="decoder")(moments[:, :4]), whole(x))


def test_loss_and_the_rest_of_a_system_are_passed_over():
    network, other = build(), build(dropout=0.1)
    official = {key: torch.rand(slot.shape) for key, slot in slots(network).items()}
    presets.load(network, {**official, "loss.logvar": torch.zeros(())})
    system = {f"first_stage_model.{key}": value for key, value in official.items()}
    presets.load(other, {**system, "model.diffusion_model.out.2.bias": torch.zeros(4), "betas": torch.zeros(1000)})
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("changes, error, match", [
    (dict(attn_type="linear"), ValueError, "no linear attention"),
    (dict(give_pre_end=True), ValueError, "give_pre_end"),
    (dict(double_z=False), ValueError, "double_z=True and no n_embed"),
    (dict(part="middle"), ValueError, "'middle'.*known: both, encoder, decoder"),
    (dict(channels=3), TypeError, "channels"),
])
def test_what_cannot_be_built(changes, error, match):
    with pytest.raises(error, match=match):
        build(**changes)


def test_sizes():
    with pytest.raises(ValueError, match="multiples of 4 pixels, not 30 x 32"):
        build()(torch.zeros(1, 3, 30, 32))
