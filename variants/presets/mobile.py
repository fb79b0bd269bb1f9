"""akirasosa's MobileNetV2 U-Net for portraits; its mask has half the image's size."""

from __future__ import annotations

from variants.parts.mobilenet import LEVELS, MIDDLE, STAGES, MobileNetV2UNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "akirasosa/mobile-semantic-segmentation src/mobile_seg/modules/net.py, on timm's mobilenetv2_100"

PRESETS = {
    "mobilenetv2_unet_akirasosa": dict(),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {None: dict(side=224)}
FIRST = {"conv_dw": "depthwise", "bn1": "norm", "conv_pw": "project.0", "bn2": "project.1"}     # without expansion
LAYERS = {"conv_pw": "expand.0", "bn1": "expand.1", "conv_dw": "depthwise", "bn2": "norm", "conv_pwl": "project.0",
          "bn3": "project.1"}
UP_LAYERS = {"0.0": "expand.0", "0.1": "expand.1", "1.0": "depthwise", "1.1": "norm",
             "2": "project.0", "3": "project.1"}


def build(
    in_chans = 3,                # Channels of the image.
) -> MobileNetV2UNet:
    """``MobileNetV2_unet`` of the repository; the sigmoid is in the network."""
    return MobileNetV2UNet(in_chans)


def weight_map(network: MobileNetV2UNet) -> dict[str, Slot]:
    modules = {"backbone.conv_stem": "encoder.0.parts.0", "backbone.bn1": "encoder.0.parts.1"}
    places = [(f"encoder.{k}", level, 3 if k == 0 else 0) for k, level in enumerate(LEVELS)] + [("middle", MIDDLE, 0)]
    for place, stages, part in places:
        for i in stages:
            for k in range(STAGES[i][2]):
                modules |= {f"backbone.blocks.{i}.{k}.{official}": f"{place}.parts.{part}.{own}"
                            for official, own in (LAYERS if STAGES[i][0] > 1 else FIRST).items()}
                part += 1
    modules["backbone.conv_head"] = f"middle.parts.{part}"
    for i in range(len(LEVELS)):
        modules[f"up_sample_blocks.{i}.dconv"] = f"decoder.{2 * i}.parts.0"
        modules |= {f"up_sample_blocks.{i}.invres.conv.{official}": f"decoder.{2 * i + 1}.parts.0.{own}"
                    for official, own in UP_LAYERS.items()}
    return map_by_prefix(network, modules | {"conv_last.0": "head.0", "conv_last.1": "head.1"})
