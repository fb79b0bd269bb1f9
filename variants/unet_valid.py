"""The original U-Net: unpadded convolutions, so that the output is smaller; skips are cropped to fit."""

from __future__ import annotations

from variants.parts.unet import CHANNEL_MULT, UNet, smallest_side

LOST_A_BLOCK = 4        # pixels that two 3x3 convolutions without padding cut off a side


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, resize=True,
          **options) -> UNet:
    """``plain`` as published (Ronneberger et al. 2015, arXiv:1505.04597, Fig. 1): valid convolutions, crop.

    ``resize`` True interpolates the output back to the image's size, as the contract has it; False returns
    the smaller map, which describes the middle of the image. ``channel_mult`` defaults to (1, 2, 4, 8), cut to
    the levels that an image of ``image_size`` (int or (H, W)) can carry. Too small an image is a ValueError.
    """
    side = image_size if isinstance(image_size, int) else min(image_size)
    cut = LOST_A_BLOCK * options.get("num_blocks", 1)
    levels = max((n for n in range(1, len(CHANNEL_MULT) + 1) if smallest_side(n, cut) <= side), default=1)
    options.setdefault("channel_mult", CHANNEL_MULT[:levels])
    if options.get("skip", "concat") == "concat":
        options.setdefault("skip_options", {"skip_first": False})
    return UNet(in_channels, out_channels, width=width, time=time, context_dim=context_dim, resize=resize,
                block_options={"padding": 0, **options.pop("block_options", {})}, crops_skip=True, **options)
