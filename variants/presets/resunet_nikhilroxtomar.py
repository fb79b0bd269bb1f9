"""nikhilroxtomar's ResUNet: strided pre-activated blocks, every shortcut a 1x1 convolution, bilinear upsampling."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "nikhilroxtomar/Semantic-Segmentation-Architecture PyTorch/resunet.py; Zhang et al. 2017, arXiv:1711.10684"

PRESETS = {
    "resunet_nikhilroxtomar": dict(),
}
LAYERS = {"b1.bn": "norm1", "c1": "conv1", "b2.bn": "norm2", "c2": "conv2", "s": "shortcut"}
FIRST_LAYERS = {"c11": "conv1", "br1.bn": "norm2", "c12": "conv2", "c13": "shortcut"}


def build(
    in_channels  = 3,            # Fixed in the repository, as is the next.
    out_channels = 1,
) -> PublishedUNet:
    """``build_resunet`` of the repository; the sigmoid is in the network."""
    return PublishedUNet(in_channels, out_channels, (64, 128, 256, 512), block="residual", norm="batch", act="relu",
                         down="block", up="bilinear", up_options={"align_corners": True},
                         block_options={"project": True}, first_options={"preactivate": False},
                         skip_options={"skip_first": False}, head_norm=False, head_act="sigmoid")


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    paths = network.module_paths()
    first, *rest = paths["block"]
    named = {f"r{i}": block for i, block in enumerate(rest, start=2)}
    named |= {f"d{i}.r": block for i, block in enumerate(reversed(paths["decoder"]), start=1)}
    modules = {k: f"{first}.{layer}" for k, layer in FIRST_LAYERS.items()}
    modules |= {f"{name}.{k}": f"{block}.{layer}" for name, block in named.items() for k, layer in LAYERS.items()}
    return map_by_prefix(network, {**modules, "output": paths["head"][0]})
