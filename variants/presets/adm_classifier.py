"""ADM's classifiers, whose gradient guides sampling: the encoder and middle of its U-Net, then attention pooling."""

from __future__ import annotations

from torch import nn

from variants.parts.attention import AttentionPool
from variants.parts.encoder_decoder import Step
from variants.presets import adm
from variants.presets.published import PublishedDiffusionUNet
from variants.presets.weights import Slot

SOURCE = "openai/guided-diffusion guided_diffusion/unet.py; Dhariwal & Nichol 2021, arXiv:2105.05233, Sec. 4"

POOLS = {"adaptive": "mean", "attention": "attention"}


def flags(
    image_size,
    classifier_width                 = 128,
    classifier_depth                 = 2,
    classifier_attention_resolutions = "32,16,8",
    classifier_use_scale_shift_norm  = True,
    classifier_resblock_updown       = True,
    classifier_pool                  = "attention",
) -> dict:
    """The official scripts' flags (script_util.create_classifier, with its defaults) -> arguments of :func:`build`."""
    arguments = adm.flags(image_size, classifier_width, classifier_depth, num_head_channels=64,
                          attention_resolutions=classifier_attention_resolutions,
                          use_scale_shift_norm=classifier_use_scale_shift_norm,
                          resblock_updown=classifier_resblock_updown)
    del arguments["num_classes"]                       # the classes are what comes out
    return {**arguments, "out_channels": adm.CLASSES, "pool": classifier_pool}


PRESETS = {
    # README, "Classifier guidance".
    "adm_classifier64":  flags(64,  classifier_depth=4),
    "adm_classifier128": flags(128),
    "adm_classifier256": flags(256),
    "adm_classifier512": flags(512),
}


class DiffusionClassifier(PublishedDiffusionUNet):
    """Build encoder, middle and pooling of a diffusion U-Net: (N, in_channels, H, W) -> (N, out_channels).

    ``pool`` mean | attention, which takes last maps of ``pool_size`` pixels on a side.
    """

    def __init__(self, *arguments, pool="mean", pool_size=None, **options):
        self.pool, self.pool_size = pool, pool_size
        super().__init__(*arguments, **options)

    def make_encoder(self) -> list[Step]:
        steps = super().make_encoder()
        for step in steps:
            step.emits_skip = False
        return steps

    def make_decoder(self) -> list[Step]:
        return []

    def make_head(self) -> nn.Sequential:
        channels = self.channels[-1]
        if self.pool == "attention":
            last = [AttentionPool(channels, self.out_channels, self.pool_size, self.heads_of(channels))]
        else:
            last = [nn.AdaptiveAvgPool2d(1), self.last_convolution(channels, 1), nn.Flatten()]
        return nn.Sequential(*self.normed(channels), *last)


def build(*,
    image_size,
    channel_mult = (1, 2, 4, 8),
    pool         = "adaptive",   # adaptive | attention
    **arguments,                 # ADM's.
) -> DiffusionClassifier:
    """Build ``EncoderUNetModel`` by its official constructor's arguments: x (N, C, H, W), t (N,) -> (N, out)."""
    if pool not in POOLS:
        raise ValueError(f"pool {pool!r} is not supported (known: {', '.join(POOLS)})")
    if pool == "attention" and arguments.get("num_head_channels", -1) == -1:
        raise ValueError("pool='attention' needs num_head_channels")
    return adm.build(image_size=image_size, channel_mult=channel_mult, network=DiffusionClassifier,
                     pool=POOLS[pool], pool_size=image_size // 2 ** (len(channel_mult) - 1), **arguments)


RENAMED = ((r"^out\.2\.positions$", "out.2.positional_embedding"), (r"^out\.2\.qkv\.", "out.2.qkv_proj."),
           (r"^out\.2\.out\.", "out.2.c_proj."))


def weight_map(network: DiffusionClassifier) -> dict[str, Slot]:
    """As in ``EncoderUNetModel.state_dict()``."""
    return adm.weight_map(network, RENAMED)
