"""Padded U-Net with concatenated skips: the control that every other variant differs from."""

from __future__ import annotations

from variants.parts.unet import UNet, build_unet


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options) -> UNet:
    """Build the control: Ronneberger et al. 2015 (arXiv:1505.04597) with padded convolutions, so size in = size out.

    ``options`` are those of :func:`variants.parts.unet.build_unet` (``channel_mult``, ``channels``, ``context_by``)
    and the arguments of :class:`variants.parts.unet.UNet`.
    """
    return build_unet(UNet, in_channels=in_channels, out_channels=out_channels, image_size=image_size, width=width,
                      time=time, context_dim=context_dim, **options)
