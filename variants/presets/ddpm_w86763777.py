"""DDPM as most PyTorch training code has it: symmetric strides, GroupNorm eps 1e-5, a frozen table of sinusoids."""

from __future__ import annotations

from torch import nn

from variants.parts.attention import SelfAttention
from variants.parts.blocks import ResidualBlock
from variants.parts.diffusion_unet import DiffusionUNet
from variants.parts.embedding import ConditionEmbedding
from variants.presets.ddpm import convolved
from variants.presets.published import PublishedDiffusionUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = "w86763777/pytorch-ddpm model.py, after Ho et al. 2020, arXiv:2006.11239"

PRESETS = {
    # config/CIFAR10.txt.
    "ddpm_cifar10_w86763777": dict(T=1000, ch=128, ch_mult=(1, 2, 2, 2), attn=(1,), num_res_blocks=2, dropout=0.1),
}
# Where the arguments do not say it: pixels on a side, tokens of context.
INPUTS = {None: dict(side=32)}


def build(*,
    T,                       # Steps of the table; t is a whole number below it.
    ch,
    ch_mult,
    attn,                    # Levels that are attended.
    num_res_blocks,
    dropout,
    **options,               # Further arguments of PublishedDiffusionUNet.
) -> DiffusionUNet:
    """Build ``UNet`` by its official constructor's arguments; always from 3 channels to 3."""
    embedding = ConditionEmbedding(4 * ch, ch, order="interleaved", table_steps=T)
    return PublishedDiffusionUNet(3, 3, [int(ch * mult) for mult in ch_mult], **{
        "stem_channels": ch, "num_blocks": num_res_blocks, "attention_levels": tuple(attn), "embedding": embedding,
        "down": "padded_strided_conv", "up": "nearest_conv", "norm": "group32", "norm_eps": 1e-5,
        "time_conditioning": "add_before_norm", "dropout": dropout, **options})


RESIDUAL = {"block1.0": "norm1", "block1.2": "conv1", "temb_proj.1": "modulation.project.1", "block2.0": "norm2",
            "block2.3": "conv2", "shortcut": "shortcut"}


def weight_map(network: DiffusionUNet) -> dict[str, Slot]:
    """As in ``UNet.state_dict()``, whose blocks hold their attention, and whose resamplings stand between blocks."""
    modules = {f"time_embedding.timembedding.{theirs}": f"embedding.{ours}"
               for theirs, ours in {"0": "table", "1": "mlp.0", "3": "mlp.2"}.items()}
    modules |= {"head": "encoder.0.parts.0", "tail.0": "head.0", "tail.2": "head.2"}
    slots = {}
    for official, own, steps in (("downblocks", "encoder", list(network.encoder)[1:]),
                                 ("middleblocks", "middle", [network.middle]),
                                 ("upblocks", "decoder", network.decoder)):
        place = -1
        for i, step in enumerate(steps, start=1 if own == "encoder" else 0):
            for j, part in enumerate(step.parts):
                ours = f"{own}.parts.{j}" if own == "middle" else f"{own}.{i}.parts.{j}"
                place += not isinstance(part, SelfAttention)
                theirs = f"{official}.{place}"
                if isinstance(part, ResidualBlock):
                    modules |= {f"{theirs}.{layer}": f"{ours}.{our_layer}" for layer, our_layer in RESIDUAL.items()}
                elif isinstance(part, SelfAttention):
                    modules[f"{theirs}.attn.group_norm"] = f"{ours}.norm"
                    slots |= convolved(network, ours, f"{theirs}.attn", ("proj_q", "proj_k", "proj_v", "proj"))
                else:
                    modules[f"{theirs}.main"] = ours if isinstance(part, nn.Conv2d) else f"{ours}.1"
    return map_by_prefix(network, modules) | slots
