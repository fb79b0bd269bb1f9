"""First-stage autoencoders of latent diffusion: KL- and VQ-regularised, through diffusers' implementation.

The one family that is not built from this project's parts: it is what a latent-diffusion suite encodes and
decodes with, not a network under test. diffusers is imported when one is built.
"""

from __future__ import annotations

import re

from torch import Tensor, nn, tanh

from variants.presets.weights import Slot, renamed

SOURCE = ("CompVis/latent-diffusion and CompVis/stable-diffusion ldm/models/autoencoder.py, "
          "ldm/modules/diffusionmodules/model.py; Rombach et al. 2022, arXiv:2112.10752")

COMMON = dict(resolution=256, in_channels=3, out_ch=3, ch=128, num_res_blocks=2, dropout=0.0)


def kl(z_channels, ch_mult, attn_resolutions=()):
    return dict(ddconfig=dict(**COMMON, double_z=True, z_channels=z_channels, ch_mult=ch_mult,
                              attn_resolutions=attn_resolutions), embed_dim=z_channels)


def vq(z_channels, ch_mult, attn_resolutions=(), *, n_embed, **others):
    return dict(ddconfig=dict(**COMMON, double_z=False, z_channels=z_channels, ch_mult=ch_mult,
                              attn_resolutions=attn_resolutions, **others), embed_dim=z_channels, n_embed=n_embed)


PRESETS = {                     # latent-diffusion models/first_stage_models/*/config.yaml; Rombach et al. 2022, Table 8
    "vae_kl_f4":         kl(3,  (1, 2, 4)),
    "vae_kl_f8":         kl(4,  (1, 2, 4, 4)),
    "vae_kl_f16":        kl(16, (1, 1, 2, 2, 4),    (16,)),
    "vae_kl_f32":        kl(64, (1, 1, 2, 2, 4, 4), (16, 8)),
    "vae_vq_f4":         vq(3,  (1, 2, 4),                 n_embed=8192),
    "vae_vq_f4_no_attn": vq(3,  (1, 2, 4),                 n_embed=8192, attn_type="none"),
    "vae_vq_f8":         vq(4,  (1, 2, 2, 4),       (32,), n_embed=16384),
    "vae_vq_f8_n256":    vq(4,  (1, 2, 2, 4),       (32,), n_embed=256),
    "vae_vq_f16":        vq(8,  (1, 1, 2, 2, 4),    (16,), n_embed=16384),
    # Stable Diffusion's first stage, configs/stable-diffusion/v1-inference.yaml; and its two halves alone.
    "vae_sd_v1":         kl(4,  (1, 2, 4, 4)),
    "vae_sd_v1_encoder": dict(**kl(4, (1, 2, 4, 4)), part="encoder"),
    "vae_sd_v1_decoder": dict(**kl(4, (1, 2, 4, 4)), part="decoder"),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {"vae_sd_v1_decoder": dict(side=64)}

# Parts of an official checkpoint that train the autoencoder: perceptual and adversarial loss, averaged weights.
LEFT_OUT = ("loss.", "model_ema.")
PARTS = ("both", "encoder", "decoder")


class Autoencoder(nn.Module):
    """``encode`` and ``decode`` as in the official code, over ``autoencoder``, diffusers' AutoencoderKL or VQModel.

    Over the contract of ``variants`` it returns the reconstruction from the posterior's mode or the nearest
    codes; where it is built for one ``part``, what that part makes: moments (N, 2 embed_dim, H / f, W / f),
    or the image of a latent (N, embed_dim, H / f, W / f). It takes neither time nor context.
    """

    def __init__(self, autoencoder: nn.Module, part: str, factor: int, tanh_out: bool):
        super().__init__()
        if part not in PARTS:
            raise ValueError(f"unknown part {part!r} (known: {', '.join(PARTS)})")
        self.autoencoder, self.part, self.factor, self.tanh_out = autoencoder, part, factor, tanh_out
        self.quantizes = hasattr(autoencoder, "quantize")

    def encode(self, x: Tensor):
        """KL: the posterior, with ``parameters`` (the moments), ``mode()`` and ``sample()``. VQ: the latent, not
        yet quantized (N, embed_dim, H / f, W / f)."""
        encoded = self.autoencoder.encode(x)
        return encoded.latents if self.quantizes else encoded.latent_dist

    def decode(self, z: Tensor) -> Tensor:
        """Image of a latent; VQ: of the codes nearest to it."""
        image = self.autoencoder.decode(z).sample
        return tanh(image) if self.tanh_out else image

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        if self.part == "decoder":
            return self.decode(x)
        if any(side % self.factor for side in x.shape[2:]):
            raise ValueError(f"this autoencoder takes images whose sides are multiples of {self.factor} pixels, "
                             f"not {x.shape[2]} x {x.shape[3]}")
        encoded = self.encode(x)
        if self.part == "encoder":
            return encoded if self.quantizes else encoded.parameters
        return self.decode(encoded if self.quantizes else encoded.mode())


def build(*,
    ddconfig,                # Arguments of the official Encoder and Decoder, see :func:`autoencoder`.
    embed_dim,               # Channels of the latent.
    n_embed    = None,       # Codes of the code book: VQModelInterface; None: AutoencoderKL.
    part       = "both",     # both | encoder | decoder: what a call runs. The weights are always of both.
) -> Autoencoder:
    """The official constructors' arguments, less those for training.

    Raises ValueError for what diffusers' networks do not offer (linear attention, an unfinished output), and
    TypeError for an unknown entry of ``ddconfig``.
    """
    network = autoencoder(embed_dim, n_embed, **ddconfig)
    return Autoencoder(network, part, 2 ** (len(network.encoder.down_blocks) - 1), ddconfig.get("tanh_out", False))


def autoencoder(embed_dim, n_embed, *,
    ch,                              # Channels of the first convolution; level i has ch * ch_mult[i].
    out_ch,
    in_channels,
    resolution,                      # Of training, in pixels: what attn_resolutions count from.
    z_channels,                      # Channels between encoder and quant_conv, and post_quant_conv and decoder.
    num_res_blocks,
    attn_resolutions,                # Pixels on a side of the levels with attention, besides the middle.
    ch_mult          = (1, 2, 4, 8),
    dropout          = 0.0,
    resamp_with_conv = True,
    double_z         = True,         # Mean and log-variance from the encoder; False for a VQ model.
    attn_type        = "vanilla",    # vanilla | none
    use_linear_attn  = False,
    give_pre_end     = False,
    tanh_out         = False,        # Applied in :meth:`Autoencoder.decode`.
) -> nn.Module:
    """diffusers' AutoencoderKL or VQModel with the layers of the official Encoder and Decoder."""
    from diffusers import AutoencoderKL, VQModel
    from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D

    if use_linear_attn or attn_type not in ("vanilla", "none"):
        raise ValueError("attention is 'vanilla' or 'none': diffusers' autoencoders have no linear attention")
    if give_pre_end:
        raise ValueError("give_pre_end=True leaves out the output layers: diffusers' decoder always has them")
    if double_z == bool(n_embed):
        raise ValueError("a KL autoencoder has double_z=True and no n_embed, a VQ model double_z=False and n_embed")
    levels, attention = len(ch_mult), attn_type == "vanilla"
    down = [resolution]
    while len(down) < levels:
        down.append(down[-1] // 2)
    up = [down[-1] * 2 ** i for i in range(levels)]

    def kinds(plain: str, sides: list[int]) -> tuple[str, ...]:
        return tuple(("Attn" if attention and side in attn_resolutions else "") + plain for side in sides)

    shared = dict(in_channels=in_channels, out_channels=out_ch, block_out_channels=tuple(ch * m for m in ch_mult),
                  down_block_types=kinds("DownEncoderBlock2D", down), up_block_types=kinds("UpDecoderBlock2D", up),
                  layers_per_block=num_res_blocks, latent_channels=z_channels, sample_size=resolution,
                  norm_num_groups=32, mid_block_add_attention=attention)
    network = (VQModel(**shared, num_vq_embeddings=n_embed, vq_embed_dim=embed_dim) if n_embed
               else AutoencoderKL(**shared))
    encoder, decoder = network.encoder, network.decoder
    # What the official constructor lets vary and diffusers' does not.
    if not n_embed and embed_dim != z_channels:
        network.quant_conv = nn.Conv2d(2 * z_channels, 2 * embed_dim, 1)
        network.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)
    if ch_mult[0] != 1:                                    # the first convolution gives ch channels, not level 0's
        encoder.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        encoder.down_blocks[0].resnets[0] = ResnetBlock2D(
            in_channels=ch, out_channels=ch * ch_mult[0], temb_channels=None, eps=1e-6, groups=32)
    if not resamp_with_conv:
        for i, block in enumerate(encoder.down_blocks[:-1]):
            block.downsamplers[0] = Downsample2D(ch * ch_mult[i], use_conv=False)
        for i, block in enumerate(decoder.up_blocks[:-1]):
            block.upsamplers[0] = Upsample2D(ch * ch_mult[levels - 1 - i], use_conv=False)
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            module.dropout.p = dropout
    return network


ATTENTION_WEIGHT = r"\.attn[._]\d+\.(q|k|v|proj_out)\.weight$"
RENAMED = (
    (r"^autoencoder\.",                    ""),
    (r"\.down_blocks\.(\d+)\.",           r".down.\1."),
    (r"\.resnets\.(\d+)\.",               r".block.\1."),
    (r"\.mid_block\.block\.0\.",          ".mid.block_1."),
    (r"\.mid_block\.block\.1\.",          ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.",     ".mid.attn_1."),
    (r"\.attentions\.(\d+)\.",            r".attn.\1."),
    (r"\.downsamplers\.0\.conv\.",        ".downsample.conv."),
    (r"\.upsamplers\.0\.conv\.",          ".upsample.conv."),
    (r"\.conv_shortcut\.",                ".nin_shortcut."),
    (r"\.conv_norm_out\.",                ".norm_out."),
    (r"\.group_norm\.",                   ".norm."),
    (r"\.to_([qkv])\.",                   r".\1."),
    (r"\.to_out\.0\.",                   ".proj_out."),
)


def weight_map(network: Autoencoder) -> dict[str, Slot]:
    """As in ``AutoencoderKL.state_dict()``, less its loss: decoder levels count from the finest, and attention's
    linear layers are 1 x 1 convolutions."""
    last = len(network.autoencoder.decoder.up_blocks) - 1
    levels = (r"\.up_blocks\.(\d+)\.", lambda match: f".up.{last - int(match[1])}.")
    slots = renamed(network, (*RENAMED, levels))
    return {key: Slot(slot.own, (*slot.shape, 1, 1)) if re.search(ATTENTION_WEIGHT, key) else slot
            for key, slot in slots.items()}
