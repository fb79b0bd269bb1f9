"""The U-Net that UNet 3+ compares itself with: the skip behind, a 3x3 head, sigmoid in the network."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets import unet_ozan
from variants.presets.weights import Slot

SOURCE = "ZJUGiveLab/UNet-Version models/UNet.py; Huang et al. 2020, arXiv:2004.08790, Table 1"

PRESETS = {
    "unet_zju": dict(in_channels=3),
}


def build(
    in_channels   = 3,
    n_classes     = 1,           # Without effect, as in the repository: one channel comes out.
    feature_scale = 4,           # Without effect, as in the repository.
    is_deconv     = True,
    is_batchnorm  = True,        # In the encoder; the decoder has none.
) -> PublishedUNet:
    """``UNet`` of the repository."""
    unet_ozan.check_deconv(is_deconv)
    return PublishedUNet(in_channels, 1, unet_ozan.CHANNELS, norm="batch" if is_batchnorm else "none", act="relu",
                         decoder_options={"norm": "none"}, up_options={"kernel_size": 4},
                         skip_options={"skip_first": False}, head_kernel=3, head_act="sigmoid")


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    return unet_ozan.weight_map(network, head="outconv1")
