"""rishikksh20's ResUNet: strided pre-activated blocks, every shortcut a 3x3 convolution with batch norm."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "rishikksh20/ResUnet core/res_unet.py; Zhang et al. 2017, arXiv:1711.10684"

PRESETS = {
    "resunet_rishikksh20": dict(channel=3, filters=(64, 128, 256, 512)),
}
BLOCK = {"project": True, "shortcut_kernel": 3, "shortcut_norm": "batch"}
FIRST = {"preactivate": False, "shortcut_norm": "none"}
LAYERS = {"conv_block.0": "norm1", "conv_block.2": "conv1", "conv_block.3": "norm2", "conv_block.5": "conv2",
          "conv_skip": "shortcut"}
FIRST_LAYERS = {"input_layer.0": "conv1", "input_layer.1": "norm2", "input_layer.3": "conv2",
                "input_skip.0": "shortcut"}


def build(
    channel,                     # Channels of the image.
    filters = (64, 128, 256, 512),   # Four, as there.
) -> PublishedUNet:
    """``ResUnet`` of the repository; one class, and the sigmoid is in the network."""
    filters = filters[:4]
    return PublishedUNet(channel, 1, filters, block="residual", norm="batch", act="relu", down="block",
                         up_channels=filters[1:], block_options=BLOCK, first_options=FIRST,
                         skip_options={"skip_first": False}, head_norm=False, head_act="sigmoid")


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    paths = network.module_paths()
    first, *strided, bridge = paths["block"]
    modules = {k: f"{first}.{layer}" for k, layer in FIRST_LAYERS.items()}
    named = {f"residual_conv_{i}": block for i, block in enumerate(strided, start=1)} | {"bridge": bridge}
    for i, (up, block) in enumerate(zip(reversed(paths["up"]), reversed(paths["decoder"])), start=1):
        modules[f"upsample_{i}.upsample"] = f"{up}.0"
        named[f"up_residual_conv{i}"] = block
    modules |= {f"{name}.{k}": f"{block}.{layer}" for name, block in named.items() for k, layer in LAYERS.items()}
    return map_by_prefix(network, {**modules, "output_layer.0": paths["head"][0]})
