"""DDPM: the TensorFlow original's PyTorch port, whose converted weights give its FID; DDIM's networks are the same."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from variants.parts.attention import SelfAttention
from variants.parts.blocks import ResidualBlock
from variants.parts.diffusion_unet import DiffusionUNet
from variants.parts.embedding import ConditionEmbedding
from variants.presets.published import PublishedDiffusionUNet
from variants.presets.weights import Slot, map_by_prefix

SOURCE = ("pesser/pytorch_diffusion model.py and ermongroup/ddim models/diffusion.py, after hojonathanho/diffusion; "
          "Ho et al. 2020, arXiv:2006.11239; Song et al. 2020, arXiv:2010.02502")

COMMON = dict(in_channels=3, out_ch=3, num_res_blocks=2, attn_resolutions=(16,))

PRESETS = {
    # pesser/pytorch_diffusion diffusion.py; DDPM App. B. The large LSUN model is the authors' later release.
    "ddpm_cifar10_pesser":  dict(COMMON, resolution=32,  ch=128, ch_mult=(1, 2, 2, 2),       dropout=0.1),
    "ddpm_lsun256_pesser":  dict(COMMON, resolution=256, ch=128, ch_mult=(1, 1, 2, 2, 4, 4), dropout=0.0),
    "ddpm_lsun_bedroom_large_256_pesser":
                            dict(COMMON, resolution=256, ch=192, ch_mult=(1, 1, 2, 2, 4, 4), dropout=0.0),
    # ermongroup/ddim configs/*.yml.
    "ddim_cifar10_ermon":   dict(COMMON, resolution=32,  ch=128, ch_mult=(1, 2, 2, 2),       dropout=0.1),
    "ddim_celeba64_ermon":  dict(COMMON, resolution=64,  ch=128, ch_mult=(1, 2, 2, 2, 4),    dropout=0.1),
    "ddim_lsun256_ermon":   dict(COMMON, resolution=256, ch=128, ch_mult=(1, 1, 2, 2, 4, 4), dropout=0.0),
}


def build(*,
    ch,                                  # Channels of the input convolution, and per unit of ch_mult.
    out_ch,
    ch_mult          = (1, 2, 4, 8),
    num_res_blocks,
    attn_resolutions,                    # Sizes in pixels of the maps that are attended.
    dropout          = 0.0,
    resamp_with_conv = True,
    in_channels,
    resolution,                          # Of the image, in pixels; says which level has which size.
    **options,                           # Further arguments of PublishedDiffusionUNet.
) -> DiffusionUNet:
    """Build ``Model`` by its official constructor's arguments: eps 1e-6, sines first, strides padded at far sides."""
    embedding = ConditionEmbedding(4 * ch, ch, order="sin_cos", frequency_shift=1)
    return PublishedDiffusionUNet(in_channels, out_ch, [int(ch * mult) for mult in ch_mult], **{
        "stem_channels": ch, "num_blocks": num_res_blocks, "embedding": embedding,
        "attention_levels": tuple(i for i in range(len(ch_mult)) if resolution // 2 ** i in attn_resolutions),
        "down": "strided_conv" if resamp_with_conv else "avg_pool",
        "up": "nearest_conv" if resamp_with_conv else "nearest",
        "norm": "group32", "norm_eps": 1e-6, "time_conditioning": "add_before_norm", "dropout": dropout, **options})


RESIDUAL = {"norm1": "norm1", "conv1": "conv1", "temb_proj": "modulation.project.1", "norm2": "norm2", "conv2": "conv2",
            "nin_shortcut": "shortcut"}


def convolved(network: nn.Module, attention: str, official: str, names: tuple[str, ...]) -> dict[str, Slot]:
    """Slots of our ``attention`` whose query, key, value and output are four 1x1 convolutions with these names."""
    *thirds, last = names
    slots = {}
    for kind, axes in (("weight", (1, 1)), ("bias", ())):
        shape = network.get_parameter(f"{attention}.out.{kind}").shape            # and that of a third of qkv
        for i, name in enumerate(thirds):
            rows = slice(i * shape[0], (i + 1) * shape[0])
            slots[f"{official}.{name}.{kind}"] = Slot(f"{attention}.qkv.{kind}", (*shape, *axes), rows)
        slots[f"{official}.{last}.{kind}"] = Slot(f"{attention}.out.{kind}", (*shape, *axes))
    return slots


def module_paths(network: DiffusionUNet) -> Iterator[tuple[str, str, nn.Module]]:
    """(official name, our name, part) of every block, attention and resampling."""
    levels = sum(not isinstance(step.parts[0], ResidualBlock) for step in network.encoder)   # one is the input's
    for side, own, steps, level, towards in (("down", "encoder", list(network.encoder)[1:], 0, 1),
                                             ("up", "decoder", network.decoder, levels - 1, -1)):
        block = 0
        for i, step in enumerate(steps, start=1 if side == "down" else 0):
            for j, part in enumerate(step.parts):
                kind = (f"block.{block}" if isinstance(part, ResidualBlock) else
                        f"attn.{block}" if isinstance(part, SelfAttention) else f"{side}sample")
                yield f"{side}.{level}.{kind}", f"{own}.{i}.parts.{j}", part
            level, block = (level + towards, 0) if kind.endswith("sample") else (level, block + 1)
    for j, (kind, part) in enumerate(zip(("block_1", "attn_1", "block_2"), network.middle.parts)):
        yield f"mid.{kind}", f"middle.parts.{j}", part


def weight_map(network: DiffusionUNet) -> dict[str, Slot]:
    """As in ``Model.state_dict()``."""
    modules = {"temb.dense.0": "embedding.mlp.0", "temb.dense.1": "embedding.mlp.2", "conv_in": "encoder.0.parts.0",
               "norm_out": "head.0", "conv_out": "head.2"}
    slots = {}
    for official, own, part in module_paths(network):
        if isinstance(part, ResidualBlock):
            modules |= {f"{official}.{theirs}": f"{own}.{ours}" for theirs, ours in RESIDUAL.items()}
        elif isinstance(part, SelfAttention):
            modules[f"{official}.norm"] = f"{own}.norm"
            slots |= convolved(network, own, official, ("q", "k", "v", "proj_out"))
        else:
            modules[f"{official}.conv"] = f"{own}.1"
    return map_by_prefix(network, modules) | slots
