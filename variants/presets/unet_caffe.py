"""The U-Net that its authors released for Caffe; it differs from the paper's Fig. 1 at the last upsampling."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "u-net-release-2015-10-02, phseg_v5.prototxt (lmb.informatik.uni-freiburg.de); arXiv:1505.04597"

PRESETS = {
    "unet_original_caffe_release_phseg_v5": dict(in_channels=1, n_classes=2),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {None: dict(side=572)}


def build(
    in_channels = 1,
    n_classes   = 2,
) -> PublishedUNet:
    """The release's network: ReLU after each up-convolution, the last of which keeps its 128 channels.

    Dropout of 0.5 ends levels 3 and 4, in place, so that level 3's skip carries it.
    """
    return PublishedUNet(in_channels, n_classes, (64, 128, 256, 512, 1024), up_channels=(128, 128, 256, 512),
                         norm="none", act="relu", up_act="relu", block_options={"padding": 0},
                         level_dropout=(0, 0, 0, 0.5, 0.5), skip_options={"skip_first": False}, crops_skip=True)


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    """The prototxt's layer names, each with ``weight`` and ``bias``; weights as PyTorch lays them out."""
    paths = network.module_paths()
    bottom = len(paths["up"])
    modules = {f"conv_d{i}{step}": f"{block}.{layer}" for i, block in enumerate(paths["block"])
               for step, layer in (("a-b", "conv1"), ("b-c", "conv2"))}
    for i, (up, block) in reversed(list(enumerate(zip(paths["up"], paths["decoder"])))):
        below = f"d{i + 1}c" if i + 1 == bottom else f"u{i + 1}d"
        modules |= {f"upconv_{below}_u{i}a": f"{up}.0", f"conv_u{i}b-c": f"{block}.conv1",
                    f"conv_u{i}c-d": f"{block}.conv2"}
    return map_by_prefix(network, {**modules, "conv_u0d-score": paths["head"][0]})
