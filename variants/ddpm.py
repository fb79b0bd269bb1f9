"""Diffusion U-Net: time-conditioned residual blocks, skips after every block, self-attention at low resolution."""

from __future__ import annotations

from variants.parts.diffusion_unet import DiffusionUNet
from variants.parts.unet import channel_mult_for

CHANNEL_MULT = (1, 2, 2, 2)
LARGEST_ATTENDED = 16   # pixels on a side, as published for every image size


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options):
    """The network of DDPM (Ho et al. 2020, arXiv:2006.11239, App. B), with GroupNorm fitted to narrow layers.

    ``options`` are the arguments of :class:`variants.parts.diffusion_unet.DiffusionUNet`. ``channel_mult``
    defaults to (1, 2, 2, 2), cut to the levels that ``image_size`` (int or (H, W)) can carry,
    ``attention_levels`` to the one whose maps are 16 pixels on the longer side, or the nearest below; the
    middle has attention in any case.
    """
    channel_mult = options.setdefault("channel_mult", channel_mult_for(image_size, CHANNEL_MULT))
    side = image_size if isinstance(image_size, int) else max(image_size)
    small = tuple(i for i in range(len(channel_mult)) if side >> i <= LARGEST_ATTENDED)
    options.setdefault("attention_levels", small[:1])
    return DiffusionUNet(in_channels, out_channels, width=width, time=time, context_dim=context_dim, **options)
