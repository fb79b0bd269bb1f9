"""The original U-Net: unpadded convolutions, so that the output is smaller; skips are cropped to fit."""

from __future__ import annotations

from torch import Tensor

from variants.parts.published_unet import PublishedUNet, smallest_side
from variants.parts.resampling import enlarge
from variants.parts.unet import CHANNEL_MULT, build_unet

LOST_A_BLOCK = 4        # pixels that two 3x3 convolutions without padding cut off a side


class ValidUNet(PublishedUNet):
    """Build a U-Net without padding; ``resize`` interpolates its output to the image's size (N, out, H, W)."""

    def __init__(self, *arguments, resize=True, block_options=None, **options):
        super().__init__(*arguments, block_options={"padding": 0, **(block_options or {})}, crops_skip=True, **options)
        self.resize = resize

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        y = super().forward(x, t, context)
        return enlarge(y, x.shape[2:]) if self.resize else y


def build(*, image_size, **options) -> ValidUNet:
    """Build ``plain`` as published (Ronneberger et al. 2015, arXiv:1505.04597, Fig. 1): valid convolutions, crop.

    ``resize`` True, the default, interpolates the output back to the image's size, as the contract has it; False
    returns the smaller map, which describes the middle of the image. ``channel_mult`` defaults to (1, 2, 4, 8), cut
    to the levels that an image of ``image_size`` (int or (H, W)) can carry. Raises ValueError for too small an image.
    """
    side = image_size if isinstance(image_size, int) else min(image_size)
    cut = LOST_A_BLOCK * options.get("num_blocks", 1)
    levels = max((n for n in range(1, len(CHANNEL_MULT) + 1) if smallest_side(n, cut) <= side), default=1)
    options.setdefault("channel_mult", CHANNEL_MULT[:levels])
    if options.get("skip", "concat") == "concat":
        options.setdefault("skip_options", {"skip_first": False})
    return build_unet(ValidUNet, image_size=image_size, **options)
