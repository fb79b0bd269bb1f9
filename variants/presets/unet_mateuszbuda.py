"""mateuszbuda's U-Net for brain MRI: batch norm without convolution bias, sigmoid in the network."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "mateuszbuda/brain-segmentation-pytorch unet.py; Buda et al. 2019, arXiv:1906.03720"

PRESETS = {
    "unet_mateuszbuda": dict(in_channels=3, out_channels=1, init_features=32),
}
LAYERS = ("conv1", "norm1", "conv2", "norm2")


def build(
    in_channels   = 3,
    out_channels  = 1,
    init_features = 32,          # Channels of the first level.
) -> PublishedUNet:
    """``UNet`` of the repository."""
    return PublishedUNet(in_channels, out_channels, [init_features * 2 ** i for i in range(5)], norm="batch",
                         act="relu", block_options={"conv_bias": False}, skip_options={"skip_first": False},
                         head_act="sigmoid")


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    paths, modules = network.module_paths(), {}
    *blocks, bottom = paths["block"]
    for i, block in enumerate(blocks, start=1):
        modules |= {f"encoder{i}.enc{i}{layer}": f"{block}.{layer}" for layer in LAYERS}
    modules |= {f"bottleneck.bottleneck{layer}": f"{bottom}.{layer}" for layer in LAYERS}
    for i, (up, block) in reversed(list(enumerate(zip(paths["up"], paths["decoder"]), start=1))):
        modules[f"upconv{i}"] = f"{up}.0"
        modules |= {f"decoder{i}.dec{i}{layer}": f"{block}.{layer}" for layer in LAYERS}
    return map_by_prefix(network, {**modules, "conv": paths["head"][0]})
