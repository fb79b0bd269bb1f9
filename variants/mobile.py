"""U-Net of depthwise-separable convolutions: a fraction of the weights and multiplications."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.parts.unet import build_unet


def build(*, block="separable", **arguments):
    """Build ``plain`` with each 3x3 convolution depthwise, then 1x1 (MobileNets, Howard et al. 2017, arXiv:1704.04861).

    ``block="inverted"`` takes MobileNetV2's inverted residuals instead (Sandler et al. 2018, arXiv:1801.04381).
    As there, the first convolution is an ordinary one. Upsampling is bilinear, with a 1x1 convolution.
    """
    if block == "separable":
        block, arguments["block_options"] = "plain", {"separable": True, **arguments.get("block_options", {})}
    arguments.setdefault("up", "bilinear_conv")
    if arguments["up"] == "bilinear_conv":
        arguments.setdefault("up_options", {"kernel_size": 1})
    return build_unet(PublishedUNet, block=block, stem=True, **arguments)
