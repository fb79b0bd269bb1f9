"""U-Net of ShuffleNet V2's units: half of the channels worked on at a time, then shuffled."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.parts.unet import build_unet


def build(**arguments):
    """Build ``plain`` with ``block="shuffle"`` (Ma et al. 2018, arXiv:1807.11164) after an ordinary convolution.

    Upsampling is bilinear, with a 1x1 convolution.
    """
    arguments.setdefault("up", "bilinear_conv")
    if arguments["up"] == "bilinear_conv":
        arguments.setdefault("up_options", {"kernel_size": 1})
    return build_unet(PublishedUNet, block="shuffle", stem=True, **arguments)
