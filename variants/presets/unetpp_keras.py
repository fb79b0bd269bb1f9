"""UNet++ as its authors released it, with the two U-Nets it is compared with: plain, and wide with as many weights."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.presets.weights import Slot, map_by_prefix
from variants.unetpp import NestedUNet

SOURCE = "MrGiovanni/UNetPlusPlus keras/helper_functions.py; Zhou et al. 2018, arXiv:1807.10165, Table 3"

FILTERS, WIDE = (32, 64, 128, 256, 512), (35, 70, 140, 280, 560)
PRESETS = {
    "unet_keras_official_unetpp_baseline": dict(nested=False, nb_filter=FILTERS),    # U_Net,    7,759,521 parameters
    "wide_unet_keras_official":            dict(nested=False, nb_filter=WIDE),       # wU_Net,   9,282,246
    "unetpp_keras_official_singleout":     dict(nested=True,  nb_filter=FILTERS, deep_supervision=False),  # 9,041,601
    "unetpp_keras_official":               dict(nested=True,  nb_filter=FILTERS, deep_supervision=True),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {None: dict(side=96)}


def build(
    nested           = True,     # UNetPlusPlus, where False is U_Net and wU_Net.
    nb_filter        = FILTERS,  # Channels of each level.
    color_type       = 1,        # Channels of the image.
    num_class        = 1,
    deep_supervision = False,    # Of UNetPlusPlus: four outputs, a list, where False gives one.
    dropout_rate     = 0.5,      # After each convolution.
) -> PublishedUNet | NestedUNet:
    """``UNetPlusPlus``, ``U_Net`` or ``wU_Net`` of the Keras code; the sigmoid is in the network."""
    arguments = dict(channels=nb_filter, norm="none", act="relu", dropout=dropout_rate,
                     block_options={"last_dropout": dropout_rate}, head_act="sigmoid")
    if nested:
        return NestedUNet(color_type, num_class, skip_first=False, deep_supervision=deep_supervision, output="all",
                          **arguments)
    return PublishedUNet(color_type, num_class, skip_options={"skip_first": False}, **arguments)


def weight_map(network: PublishedUNet | NestedUNet) -> dict[str, Slot]:
    """The Keras code's layer names, each with ``weight`` and ``bias``; weights as PyTorch lays them out.

    Level and place count from one there: ``conv12_1`` is the first convolution of node (0, 1).
    """
    if isinstance(network, NestedUNet):
        nodes = {name: f"nodes.{name}" for name in network.nodes}
        ups = {name: f"ups.{name}" for name in network.ups}
        heads = {f"output_{name[2:]}": f"heads.{name}" for name in network.heads}
    else:
        paths = network.module_paths()
        bottom = len(paths["up"])
        nodes = {f"{i}_0": block for i, block in enumerate(paths["block"])}
        nodes |= {f"{i}_{bottom - i}": block for i, block in enumerate(paths["decoder"])}
        ups = {f"{i}_{bottom - i}": f"{up}.0" for i, up in enumerate(paths["up"])}
        heads = {"output": paths["head"][0]}

    def stage(name: str) -> str:
        level, place = map(int, name.split("_"))
        return f"{level + 1}{place + 1}"

    modules = {f"conv{stage(name)}_{k}": f"{own}.conv{k}" for name, own in nodes.items() for k in (1, 2)}
    modules |= {f"up{stage(name)}": own for name, own in ups.items()}
    return map_by_prefix(network, {**modules, **heads})
