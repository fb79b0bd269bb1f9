"""The most used U-Net in PyTorch: padded, batch norm, upsampled by transposed convolution or bilinearly."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "milesial/Pytorch-UNet unet/unet_model.py, unet/unet_parts.py"

PRESETS = {
    "unet_milesial_3to1_transposed": dict(n_channels=3, n_classes=1, bilinear=False),
    "unet_milesial_3to1_bilinear":   dict(n_channels=3, n_classes=1, bilinear=True),
    "unet_milesial_3to2_transposed": dict(n_channels=3, n_classes=2, bilinear=False),
    "unet_milesial_3to2_bilinear":   dict(n_channels=3, n_classes=2, bilinear=True),
}
CHANNELS = (64, 128, 256, 512, 1024)
# Without a convolution in the upsampling, the bottleneck and the decoder's blocks narrow the maps instead.
BILINEAR = dict(up="bilinear", up_options={"align_corners": True}, channels=(64, 128, 256, 512, 512),
                decoder_channels=(64, 64, 128, 256), decoder_options={"mid_ratio": 0.5})
LAYERS = {"double_conv.0": "conv1", "double_conv.1": "norm1", "double_conv.3": "conv2", "double_conv.4": "norm2"}


def build(
    n_channels = 3,              # Channels of the image.
    n_classes  = 2,
    bilinear   = False,
) -> PublishedUNet:
    """``UNet`` of the repository; an odd map from below is padded to the skip's size."""
    return PublishedUNet(n_channels, n_classes, norm="batch", act="relu", block_options={"conv_bias": False},
                         **(BILINEAR if bilinear else {"channels": CHANNELS}))


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    paths, modules = network.module_paths(), {}
    for i, block in enumerate(paths["block"]):
        name = f"down{i}.maxpool_conv.1" if i else "inc"
        modules |= {f"{name}.{k}": f"{block}.{layer}" for k, layer in LAYERS.items()}
    for i, (up, block) in enumerate(zip(reversed(paths["up"]), reversed(paths["decoder"])), start=1):
        modules[f"up{i}.up"] = f"{up}.0"
        modules |= {f"up{i}.conv.{k}": f"{block}.{layer}" for k, layer in LAYERS.items()}
    return map_by_prefix(network, {**modules, "outc.conv": paths["head"][0]})
