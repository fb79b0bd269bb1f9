"""4uiiurz1's UNet++: batch norm, bilinear upsampling without a convolution."""

from __future__ import annotations

from variants.presets.weights import Slot, map_by_prefix
from variants.unetpp import NestedUNet

SOURCE = "4uiiurz1/pytorch-nested-unet archs.py; Zhou et al. 2018, arXiv:1807.10165"

PRESETS = {
    "unetpp_nested_ds0": dict(num_classes=1, input_channels=3, deep_supervision=False),
    "unetpp_nested_ds1": dict(num_classes=1, input_channels=3, deep_supervision=True),
}
LAYERS = {"conv1": "conv1", "bn1": "norm1", "conv2": "conv2", "bn2": "norm2"}


def build(
    num_classes,
    input_channels   = 3,
    deep_supervision = False,    # Four outputs, a list, where False gives one.
) -> NestedUNet:
    """``NestedUNet`` of the repository."""
    return NestedUNet(input_channels, num_classes, width=32, channel_mult=(1, 2, 4, 8, 16), norm="batch", act="relu",
                      up="bilinear", up_options={"align_corners": True}, deep_supervision=deep_supervision,
                      output="all")


def weight_map(network: NestedUNet) -> dict[str, Slot]:
    modules = {f"conv{name}.{k}": f"nodes.{name}.{layer}" for name in network.nodes for k, layer in LAYERS.items()}
    one = len(network.heads) == 1
    modules |= {"final" if one else f"final{name[2:]}": f"heads.{name}" for name in network.heads}
    return map_by_prefix(network, modules)
