"""nikhilroxtomar's U-Net and Attention U-Net; the latter is a level shallower and weighs each channel by itself."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "nikhilroxtomar/Semantic-Segmentation-Architecture PyTorch/unet.py, PyTorch/attention-unet.py"

PRESETS = {
    "unet_nikhilroxtomar":          dict(attention=False),       # build_unet
    "attentionunet_nikhilroxtomar": dict(attention=True),        # attention_unet
}
PLAIN = dict(channels=(64, 128, 256, 512, 1024), skip_options={"skip_first": False})
GATED = dict(channels=(64, 128, 256, 512), up="bilinear", up_options={"align_corners": True}, skip="gate",
             skip_options={"norm": "batch", "inner_ratio": 1.0, "per_channel": True, "skip_first": False})
LAYERS = {"conv1": "conv1", "bn1": "norm1", "conv2": "conv2", "bn2": "norm2"}
GATED_LAYERS = {"conv.0": "conv1", "conv.1": "norm1", "conv.3": "conv2", "conv.4": "norm2"}
GATE_LAYERS = {"Wg.0": "gate_g.0", "Wg.1": "gate_g.1", "Ws.0": "gate_x.0", "Ws.1": "gate_x.1", "output.0": "psi.1"}


def build(
    attention    = False,        # attention_unet, where False is build_unet.
    in_channels  = 3,            # Fixed in the repository, as is the next.
    out_channels = 1,
) -> PublishedUNet:
    """``build_unet`` or ``attention_unet`` of the repository."""
    return PublishedUNet(in_channels, out_channels, norm="batch", act="relu", **(GATED if attention else PLAIN))


def weight_map(network: PublishedUNet) -> dict[str, Slot]:
    paths = network.module_paths()
    gated = f"{paths['skip'][0]}.psi.1.weight" in network.state_dict()
    layers, bottom, decoder, head = ((GATED_LAYERS, "b1", "c1", "output") if gated else
                                     (LAYERS, "b", "conv", "outputs"))
    named = {f"e{i}.conv": block for i, block in enumerate(paths["block"][:-1], start=1)}
    named[bottom] = paths["block"][-1]
    modules = {}
    levels = zip(*(reversed(paths[part]) for part in ("up", "skip", "decoder")))
    for i, (up, skip, block) in enumerate(levels, start=1):
        modules[f"d{i}.up"] = f"{up}.0"
        modules |= {f"d{i}.ag.{k}": f"{skip}.{layer}" for k, layer in GATE_LAYERS.items()}
        named[f"d{i}.{decoder}"] = block
    modules |= {f"{name}.{k}": f"{block}.{layer}" for name, block in named.items() for k, layer in layers.items()}
    return map_by_prefix(network, {**modules, head: paths["head"][0]})
