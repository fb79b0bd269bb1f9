"""FCN-32s, -16s and -8s on VGG16, as published in Caffe and ported to PyTorch."""

from __future__ import annotations

from variants.fcn import FCN
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "wkentaro/pytorch-fcn torchfcn/models; Long et al. 2015, arXiv:1411.4038; Shelhamer et al. 2017"

PRESETS = {
    "fcn32s_vgg16":       dict(model="FCN32s",      n_class=21),
    "fcn16s_vgg16":       dict(model="FCN16s",      n_class=21),
    "fcn8s_vgg16":        dict(model="FCN8s",       n_class=21),
    "fcn8s_atonce_vgg16": dict(model="FCN8sAtOnce", n_class=21),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {None: dict(side=500)}
MODELS = {  # class of the repository -> output stride, factors of the scored features
    "FCN32s":      dict(stride=32),
    "FCN16s":      dict(stride=16),
    "FCN8s":       dict(stride=8),
    "FCN8sAtOnce": dict(stride=8, score_scale={16: 0.01, 8: 0.0001}),     # to train all scores at once
}
SCORES = {32: "score_fr", 16: "score_pool4", 8: "score_pool3"}


def build(
    model   = "FCN8s",           # FCN32s | FCN16s | FCN8s | FCN8sAtOnce
    n_class = 21,
) -> FCN:
    """A model of the repository: VGG16 (configuration D) with its fully connected layers as convolutions."""
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r} (known: {', '.join(MODELS)})")
    return FCN(3, n_class, width=64, norm="none", dropout=0.5, num_convs=(2, 2, 3, 3, 3), fc_channels=4096,
               image_padding=99, up="transposed_conv", **MODELS[model])


def weight_map(network: FCN) -> dict[str, Slot]:
    modules = {}
    for i, stage in enumerate(network.stages, start=1):
        layers = ["conv1", "conv2", *(f"more.{k}.0" for k in range(len(stage.more)))]
        modules |= {f"conv{i}_{k}": f"stages.{i - 1}.{layer}" for k, layer in enumerate(layers, start=1)}
    modules |= {"fc6": "fc.0", "fc7": "fc.3"}
    modules |= {SCORES[int(stride)]: f"scores.{stride}" for stride in network.scores}
    last, *others = network.ups
    names = {"32": "upscore2", "16": "upscore_pool4"}
    modules |= {names[stride]: f"ups.{stride}" for stride in others}
    modules["upscore" if last == "32" else f"upscore{last}"] = f"ups.{last}"
    return map_by_prefix(network, modules)
