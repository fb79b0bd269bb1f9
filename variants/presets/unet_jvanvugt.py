"""The U-Net of the paper in PyTorch: valid convolutions and cropped skips, or padded, with batch norm or without."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "jvanvugt/pytorch-unet unet.py; Ronneberger et al. 2015, arXiv:1505.04597"

PRESETS = {
    # Fig. 1: 572 -> 388 pixels, five levels from 64 channels.
    "unet_original_paper_valid":           dict(in_channels=1, padding=False, batch_norm=False),
    "unet_original_paper_valid_3ch2":      dict(in_channels=3, padding=False, batch_norm=False),
    "unet_padded_nonorm":                  dict(in_channels=1, padding=True,  batch_norm=False),
    "unet_padded_batchnorm_postact_bias":  dict(in_channels=1, padding=True,  batch_norm=True),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {"unet_original_paper_valid": dict(side=572), "unet_original_paper_valid_3ch2": dict(side=572)}
UP = {  # up_mode -> arguments of the U-Net
    "upconv":   dict(up="transposed_conv"),
    "upsample": dict(up="bilinear_conv", up_options={"kernel_size": 1}),
}


def build(
    in_channels = 1,
    n_classes   = 2,
    depth       = 5,             # Levels, the bottleneck included.
    wf          = 6,             # Level i has 2^(wf + i) channels.
    padding     = False,         # False: the output is smaller than the image.
    batch_norm  = False,         # After each activation.
    up_mode     = "upconv",      # upconv | upsample
) -> PublishedUNet:
    """``UNet`` of the repository. A padded one crops too: an odd map's last row is not in the output."""
    if up_mode not in UP:
        raise ValueError(f"unknown up_mode {up_mode!r} (known: {', '.join(UP)})")
    return PublishedUNet(in_channels, n_classes, [2 ** (wf + i) for i in range(depth)],
                         norm="batch" if batch_norm else "none", act="relu",
                         block_options={"padding": int(padding), "order": "act_norm"},
                         skip_options={"skip_first": False}, crops_skip=True, **UP[up_mode])


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    paths = network.module_paths()
    normed = f"{paths['block'][0]}.norm1.weight" in network.state_dict()
    layers = {0: "conv1", 2: "norm1", 3: "conv2", 5: "norm2"} if normed else {0: "conv1", 2: "conv2"}
    modules = {f"down_path.{i}.block.{k}": f"{block}.{layer}" for i, block in enumerate(paths["block"])
               for k, layer in layers.items()}
    for i, (up, block) in enumerate(zip(reversed(paths["up"]), reversed(paths["decoder"]))):
        modules[f"up_path.{i}.up"] = f"{up}.0"
        modules |= {f"up_path.{i}.conv_block.block.{k}": f"{block}.{layer}" for k, layer in layers.items()}
    return map_by_prefix(network, {**modules, "last": paths["head"][0]})
