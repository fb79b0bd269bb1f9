"""Padded U-Net with concatenated skips: the control that every other variant differs from."""

from __future__ import annotations

from variants.parts.unet import UNet, channel_mult_for


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options) -> UNet:
    """The control: Ronneberger et al. 2015 (arXiv:1505.04597) with padded convolutions, so size in = size out.

    ``options`` are the arguments of :class:`variants.parts.unet.UNet`. ``channel_mult`` defaults to
    (1, 2, 4, 8), cut to the levels that an image of ``image_size`` (int or (H, W)) can carry.
    """
    options.setdefault("channel_mult", channel_mult_for(image_size))
    return UNet(in_channels, out_channels, width=width, time=time, context_dim=context_dim, **options)
