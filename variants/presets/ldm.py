"""Latent diffusion: ADM's U-Net on a latent grid, with spatial transformers that read tokens; Stable Diffusion v1."""

from __future__ import annotations

from variants.parts.diffusion_unet import DiffusionUNet
from variants.presets import adm

SOURCE = ("CompVis/latent-diffusion and CompVis/stable-diffusion ldm/modules/diffusionmodules/openaimodel.py; "
          "Rombach et al. 2022, arXiv:2112.10752")

PLAIN  = dict(num_res_blocks=2, num_head_channels=32)
TOKENS = dict(num_res_blocks=2, use_spatial_transformer=True, transformer_depth=1)
LDM4   = dict(image_size=64, in_channels=3, out_channels=3, attention_resolutions=(8, 4, 2))
LDM8   = dict(image_size=32, in_channels=4, out_channels=4, attention_resolutions=(4, 2, 1))
TEXT   = dict(model_channels=320, channel_mult=(1, 2, 4, 4), num_heads=8, legacy=False)

PRESETS = {
    # configs/latent-diffusion/*.yaml; the paper's Tables 12 and 13.
    "ldm_celebahq256_vq4":  dict(LDM4, model_channels=224, channel_mult=(1, 2, 3, 4), **PLAIN),
    "ldm_ffhq256_vq4":      dict(LDM4, model_channels=224, channel_mult=(1, 2, 3, 4), **PLAIN),
    "ldm_lsunbeds256_vq4":  dict(LDM4, model_channels=224, channel_mult=(1, 2, 3, 4), **PLAIN),
    "ldm_lsunchurches256_kl8": dict(image_size=32, in_channels=4, out_channels=4, attention_resolutions=(1, 2, 4, 8),
                                    model_channels=192, channel_mult=(1, 2, 2, 4, 4), num_res_blocks=2, num_heads=8,
                                    use_scale_shift_norm=True, resblock_updown=True),
    "ldm_cin256_v2_vq4":    dict(LDM4, model_channels=192, channel_mult=(1, 2, 3, 5), num_heads=1, context_dim=512,
                                 **TOKENS),
    "ldm_cin256_vq8":       dict(LDM8, model_channels=256, channel_mult=(1, 2, 4), num_head_channels=32,
                                 context_dim=512, **TOKENS),
    "ldm_txt2img_1p4B":     dict(LDM8, context_dim=1280, **TEXT, **TOKENS),
    # configs/stable-diffusion/v1-inference.yaml; on 64 x 64 latents for images of 512 x 512.
    "sd_v1_unet":           dict(LDM8, context_dim=768,  **TEXT, **TOKENS),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {"sd_v1_unet": dict(side=64), "ldm_cin256_v2_vq4": dict(tokens=1), "ldm_cin256_vq8": dict(tokens=1)}


def build(*,
    num_heads               = -1,        # Here, either this or num_head_channels must be given.
    num_head_channels       = -1,
    num_heads_upsample      = -1,
    use_spatial_transformer = False,     # Attend by transformer blocks, which read the context.
    transformer_depth       = 1,
    context_dim             = None,      # Channels of a context token.
    n_embed                 = None,      # Predict codebook entries: not supported.
    legacy                  = True,      # Widen heads to use every channel, where num_head_channels does not divide.
    num_classes             = None,
    **arguments,                         # ADM's.
) -> DiffusionUNet:
    """Build ``UNetModel`` of openaimodel.py by its official constructor's arguments."""
    if num_heads == num_head_channels == -1:
        raise ValueError("give num_heads or num_head_channels")
    if use_spatial_transformer != (context_dim is not None):
        raise ValueError("use_spatial_transformer and context_dim go together")
    if n_embed is not None or (num_classes and context_dim):
        raise ValueError("n_embed, and classes beside tokens, are not supported")
    if not legacy and num_head_channels == -1:
        num_heads_upsample = -1                              # as published: heads are counted anew at every width
    return adm.build(num_heads=num_heads, num_head_channels=num_head_channels, num_heads_upsample=num_heads_upsample,
                     num_classes=num_classes, attention="transformer" if use_spatial_transformer else "self",
                     transformer_depth=transformer_depth, context_dim=context_dim,
                     cut_heads=not legacy, stem_channels=arguments["model_channels"], **arguments)


weight_map = adm.weight_map
