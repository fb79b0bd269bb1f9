"""The U-Net beside 4uiiurz1's UNet++: bilinear upsampling without a convolution."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "4uiiurz1/pytorch-nested-unet archs.py"

PRESETS = {
    "unet_nested_repo_base32": dict(num_classes=1),
}
LAYERS = {"conv1": "conv1", "bn1": "norm1", "conv2": "conv2", "bn2": "norm2"}


def build(
    num_classes,
    input_channels = 3,
) -> PublishedUNet:
    """``UNet`` of the repository."""
    return PublishedUNet(input_channels, num_classes, (32, 64, 128, 256, 512), norm="batch", act="relu", up="bilinear",
                         up_options={"align_corners": True})


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    paths = network.module_paths()
    bottom = len(paths["decoder"])
    named = {f"conv{i}_0": block for i, block in enumerate(paths["block"])}
    named |= {f"conv{i}_{bottom - i}": block for i, block in reversed(list(enumerate(paths["decoder"])))}
    modules = {f"{name}.{k}": f"{block}.{layer}" for name, block in named.items() for k, layer in LAYERS.items()}
    return map_by_prefix(network, {**modules, "final": paths["head"][0]})
