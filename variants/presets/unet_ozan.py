"""The 2-D U-Net of the Attention U-Net's authors: batch norm on the way down only, 4x4 up-convolutions."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "ozan-oktay/Attention-Gated-Networks models/networks/unet_2D.py; Oktay et al. 2018, arXiv:1804.03999"

PRESETS = {
    "unet2d_ozan_fs1_deconv": dict(feature_scale=1, n_classes=4, in_channels=1),
    "unet2d_ozan_fs4_deconv": dict(feature_scale=4, n_classes=4, in_channels=1),
}
CHANNELS = (64, 128, 256, 512, 1024)
LAYERS = {"conv1.0": "conv1", "conv1.1": "norm1", "conv2.0": "conv2", "conv2.1": "norm2"}


def check_deconv(is_deconv: bool) -> None:
    if not is_deconv:
        raise ValueError("is_deconv=False does not run in the official code either: its channels do not add up")


def build(
    feature_scale = 4,           # The channels 64 to 1024 are divided by it.
    n_classes     = 21,
    is_deconv     = True,
    in_channels   = 3,
    is_batchnorm  = True,        # In the encoder; the decoder has none.
) -> PublishedUNet:
    """``unet_2D`` of the repository."""
    check_deconv(is_deconv)
    return PublishedUNet(in_channels, n_classes, [int(c / feature_scale) for c in CHANNELS], act="relu",
                         norm="batch" if is_batchnorm else "none", decoder_options={"norm": "none"},
                         up_options={"kernel_size": 4})


def weight_map(network: PublishedUNet, head: str = "final") -> dict[str, Slot]:
    paths, modules = network.module_paths(), {}
    for i, block in enumerate(paths["block"], start=1):
        name = "center" if i == len(paths["block"]) else f"conv{i}"
        modules |= {f"{name}.{k}": f"{block}.{layer}" for k, layer in LAYERS.items()}
    for i, (up, block) in reversed(list(enumerate(zip(paths["up"], paths["decoder"]), start=1))):
        modules |= {f"up_concat{i}.conv.{k}": f"{block}.{layer}" for k, layer in LAYERS.items()}
        modules[f"up_concat{i}.up"] = f"{up}.0"
    return map_by_prefix(network, {**modules, head: paths["head"][0]})
