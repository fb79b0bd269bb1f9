"""LeeJunHyun's U-Net and Attention U-Net: upsampled to the nearest pixel, gates at the skip's own resolution."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "LeeJunHyun/Image_Segmentation network.py; Oktay et al. 2018, arXiv:1804.03999"

PRESETS = {
    "unet_leejunhyun":    dict(img_ch=3, output_ch=1, attention=False),      # U_Net
    "attunet_leejunhyun": dict(img_ch=3, output_ch=1, attention=True),       # AttU_Net
}
# In the gate, 1x1 convolutions with batch norm on both signals, half the channels inside.
GATE = dict(skip="gate", skip_options={"norm": "batch", "psi_norm": "batch"})
LAYERS = {"conv.0": "conv1", "conv.1": "norm1", "conv.3": "conv2", "conv.4": "norm2"}
GATE_LAYERS = {"W_g.0": "gate_g.0", "W_g.1": "gate_g.1", "W_x.0": "gate_x.0", "W_x.1": "gate_x.1",
               "psi.0": "psi.1", "psi.1": "psi.2"}


def build(
    img_ch    = 3,
    output_ch = 1,
    attention = False,           # AttU_Net, where False is U_Net.
) -> PublishedUNet:
    """``U_Net`` or ``AttU_Net`` of the repository."""
    return PublishedUNet(img_ch, output_ch, (64, 128, 256, 512, 1024), norm="batch", act="relu", up="nearest_conv",
                         up_norm="batch", up_act="relu", **(GATE if attention else {}))


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    paths, modules = network.module_paths(), {}
    for i, block in enumerate(paths["block"], start=1):
        modules |= {f"Conv{i}.{k}": f"{block}.{layer}" for k, layer in LAYERS.items()}
    levels = list(enumerate(zip(paths["up"], paths["skip"], paths["decoder"]), start=2))
    for i, (up, skip, block) in reversed(levels):
        modules |= {f"Up{i}.up.1": f"{up}.0.1", f"Up{i}.up.2": f"{up}.1"}
        modules |= {f"Att{i}.{k}": f"{skip}.{layer}" for k, layer in GATE_LAYERS.items()}
        modules |= {f"Up_conv{i}.{k}": f"{block}.{layer}" for k, layer in LAYERS.items()}
    return map_by_prefix(network, {**modules, "Conv_1x1": paths["head"][0]})
