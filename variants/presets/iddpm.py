"""Improved DDPM: ADM's U-Net before its ablation."""

from __future__ import annotations

from variants.parts.diffusion_unet import DiffusionUNet
from variants.presets import adm

SOURCE = "openai/improved-diffusion improved_diffusion/unet.py; Nichol & Dhariwal 2021, arXiv:2102.09672"

CHANNEL_MULT = {256: "1,1,2,2,4,4", 64: "1,2,3,4", 32: "1,2,2,2"}


def flags(image_size, num_channels, num_res_blocks, use_scale_shift_norm=True, num_heads=4,
          attention_resolutions="16,8", **arguments) -> dict:
    """The official scripts' flags (script_util.create_model, with its defaults) -> arguments of :func:`build`."""
    if image_size not in CHANNEL_MULT:
        raise ValueError(f"image_size is one of {', '.join(map(str, sorted(CHANNEL_MULT)))}, not {image_size}")
    return adm.flags(image_size, num_channels, num_res_blocks, CHANNEL_MULT[image_size], num_heads=num_heads,
                     attention_resolutions=attention_resolutions, use_scale_shift_norm=use_scale_shift_norm,
                     **arguments)


PRESETS = {
    # README, "Training models" and the checkpoints' list.
    "iddpm_cifar10_50M":          flags(32,  128, 3, learn_sigma=True, dropout=0.3),
    "iddpm_imagenet64_uncond_100M": flags(64, 128, 3, learn_sigma=True),
    "iddpm_imagenet64_cond_270M": flags(64,  192, 3, learn_sigma=True, class_cond=True),
    "iddpm_lsun256":              flags(256, 128, 2, learn_sigma=True, num_heads=1, attention_resolutions="16",
                                        use_scale_shift_norm=False),
}


def build(*, model_channels, **arguments) -> DiffusionUNet:
    """``UNetModel`` by its official constructor's arguments, which are a part of ADM's; heads lie as in ADM."""
    return adm.build(model_channels=model_channels, stem_channels=model_channels, **arguments)


weight_map = adm.weight_map
