"""FCN and DeepLabv3 on dilated ResNets, LR-ASPP on MobileNetV3: torchvision's own networks, under the contract."""

from __future__ import annotations

from torch import Tensor, nn

from variants.presets.weights import Slot, renamed

SOURCE = ("pytorch/vision torchvision/models/segmentation; Long et al. 2015, arXiv:1411.4038, "
          "Chen et al. 2017, arXiv:1706.05587, Howard et al. 2019, arXiv:1905.02244")

PRESETS = {
    "tv_fcn_resnet50":              dict(network="fcn_resnet50",               aux_loss=False),
    "tv_fcn_resnet50_aux":          dict(network="fcn_resnet50",               aux_loss=True),
    "tv_fcn_resnet101":             dict(network="fcn_resnet101",              aux_loss=False),
    "tv_fcn_resnet101_aux":         dict(network="fcn_resnet101",              aux_loss=True),
    "tv_deeplabv3_resnet50":        dict(network="deeplabv3_resnet50",         aux_loss=False),
    "tv_deeplabv3_resnet50_aux":    dict(network="deeplabv3_resnet50",         aux_loss=True),
    "tv_lraspp_mobilenet_v3_large": dict(network="lraspp_mobilenet_v3_large"),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {None: dict(side=520)}


class TorchvisionSegmenter(nn.Module):
    """A network of torchvision, called as ``variants`` calls one: (N, 3, H, W) -> (N, num_classes, H, W).

    The auxiliary head, where there is one, is computed as torchvision does, and its output passed over.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        return self.network(x)["out"]


def build(
    network     = "fcn_resnet50",        # A builder's name in torchvision.models.segmentation.
    num_classes = 21,                    # Pascal VOC's 20 and background.
    **arguments,                         # The builder's: aux_loss, ...
) -> TorchvisionSegmenter:
    """``torchvision.models.segmentation.<network>``, without any weights."""
    from torchvision.models import segmentation  # not a part of torch: only who asks for these needs it
    make = getattr(segmentation, network)
    return TorchvisionSegmenter(make(weights=None, weights_backbone=None, num_classes=num_classes, **arguments))


def weight_map(network: TorchvisionSegmenter) -> dict[str, Slot]:
    return renamed(network, [(r"^network\.", "")])
