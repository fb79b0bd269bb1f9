"""The UNet++ that UNet 3+ compares itself with: 4x4 up-convolutions, the mean of four heads, sigmoid."""

from __future__ import annotations

from variants.presets.unet_ozan import CHANNELS, LAYERS, check_deconv
from variants.presets.weights import Slot, map_by_prefix
from variants.unetpp import NestedUNet

SOURCE = "ZJUGiveLab/UNet-Version models/UNet_2Plus.py; Huang et al. 2020, arXiv:2004.08790, Table 1"

PRESETS = {
    "unetpp_zju": dict(in_channels=3, n_classes=1),
}


def build(
    in_channels   = 3,
    n_classes     = 1,
    feature_scale = 4,           # Without effect, as in the repository.
    is_deconv     = True,
    is_batchnorm  = True,        # In the encoder; the other nodes have none.
    is_ds         = True,        # The mean of the heads, where False is the last of them; all are computed.
) -> NestedUNet:
    """``UNet_2Plus`` of the repository."""
    check_deconv(is_deconv)
    return NestedUNet(in_channels, n_classes, channels=CHANNELS, norm="batch" if is_batchnorm else "none", act="relu",
                      node_options={"norm": "none"}, up_options={"kernel_size": 4}, skip_first=False,
                      deep_supervision=True, output="mean" if is_ds else "last", head_act="sigmoid")


def weight_map(network: NestedUNet) -> dict[str, Slot]:
    modules = {}
    for name in network.nodes:
        level, place = name.split("_")
        official = f"conv{level}0" if place == "0" else f"up_concat{level}{place}.conv"
        modules |= {f"{official}.{k}": f"nodes.{name}.{layer}" for k, layer in LAYERS.items()}
        modules[f"up_concat{level}{place}.up"] = f"ups.{name}"
    modules |= {f"final_{name[2:]}": f"heads.{name}" for name in network.heads}
    return map_by_prefix(network, modules)
