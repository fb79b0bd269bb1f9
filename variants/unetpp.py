"""UNet++: a triangle of blocks, whose nodes take every node before them on their level; heads at each depth."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from variants.parts.blocks import activation
from variants.parts.embedding import ConditionEmbedding
from variants.parts.encoder_decoder import Conditioned, check_size
from variants.parts.resampling import KEEPS_CHANNELS, downsample, fit, upsample
from variants.parts.sizes import embedding_width, scaled_channels
from variants.parts.unet import BLOCKS, CHANNEL_MULT, channel_mult_for, choose

OUTPUTS = ("last", "mean", "all")


class NestedUNet(nn.Module):
    """UNet++ (Zhou et al. 2018, arXiv:1807.10165, Eq. 1) over the contract of ``variants``.

    Node (i, j) is the j-th on level i: node (i, 0) is the encoder's, node (i, j) takes nodes (i, 0..j-1) and
    what comes up from node (i+1, j-1). The output is read from node (0, levels - 1), and with
    ``deep_supervision`` from each of (0, 1..levels-1) by a head of its own.
    """

    def __init__(self,
        in_channels,
        out_channels,
        *,
        width             = 32,               # Channels of level 0.
        channel_mult      = CHANNEL_MULT,     # Channels of level i are width * channel_mult[i]; one entry per level.
        channels          = None,             # Channels of each level, in place of these two.
        block             = "plain",
        norm              = "group",
        act               = "silu",
        dropout           = 0.0,              # Inside the blocks.
        block_options     = None,             # More arguments of every block.
        node_options      = None,             # The same, of the nodes (i, 1..) only.
        down              = "max_pool",
        up                = "transposed_conv",
        up_options        = None,             # More arguments of the upsampling.
        skip_first        = True,             # Nodes of the level in front of what comes up? The paper's code: behind.
        deep_supervision  = False,            # A head at every depth, where False has one.
        output            = "mean",           # mean (the paper's "accurate mode") | last | all (a list), of the heads
        head_act          = "none",           # After the heads, or their mean.
        time              = False,            # Does the network take a time step?
        time_conditioning = "add",
        context_dim       = None,             # Channels of a context token, pooled and added to the time embedding.
    ):
        super().__init__()
        channels = list(channels or [width * mult for mult in channel_mult])
        if output not in OUTPUTS:
            raise ValueError(f"unknown output {output!r} (known: {', '.join(OUTPUTS)})")
        emb_dim = 4 * width if time or context_dim else None
        self.embedding = ConditionEmbedding(emb_dim, width, time, context_dim) if emb_dim else None
        make = partial(choose("block", block, BLOCKS), **{
            "norm": norm, "activation_kind": act, "dropout": dropout, "time_conditioning": time_conditioning,
            **(block_options or {})})
        self.levels, self.smallest = len(channels), 2 ** (len(channels) - 1)
        self.skip_first, self.output = skip_first, output
        self.nodes, self.downs, self.ups = nn.ModuleDict(), nn.ModuleList(), nn.ModuleDict()
        for i, j in self.order():
            if j == 0:
                self.nodes[f"{i}_0"] = make(channels[i - 1] if i else in_channels, channels[i], emb_dim)
                if i + 1 < self.levels:
                    self.downs.append(downsample(down, channels[i]))
                continue
            below = channels[i + 1]
            rises = below if up in KEEPS_CHANNELS else channels[i]
            self.ups[f"{i}_{j}"] = upsample(up, below, rises, **(up_options or {}))
            self.nodes[f"{i}_{j}"] = make(j * channels[i] + rises, channels[i], emb_dim, **(node_options or {}))
        supervised = range(1, self.levels) if deep_supervision and self.levels > 1 else [self.levels - 1]
        self.heads = nn.ModuleDict({f"0_{j}": nn.Conv2d(channels[0], out_channels, 1) for j in supervised})
        self.head_act = activation(head_act)
        self.sizes = {**scaled_channels(channels=channels), **embedding_width(self.embedding)}

    def order(self) -> list[tuple[int, int]]:
        """Nodes (level, place), each after those that it takes: diagonal by diagonal of the triangle."""
        return [(depth - j, j) for depth in range(self.levels) for j in range(depth + 1)]

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor | list[Tensor]:
        check_size(x, self.smallest)
        emb = self.embedding(t, context) if self.embedding is not None else None
        made: dict[str, Tensor] = {}
        for i, j in self.order():
            name = f"{i}_{j}"
            if j == 0:
                h = self.downs[i - 1](made[f"{i - 1}_0"]) if i else x             # (N, C, H / 2^i, W / 2^i)
            else:
                row = [made[f"{i}_{k}"] for k in range(j)]
                rising = fit(self.ups[name](made[f"{i + 1}_{j - 1}"]), row[0].shape[2:])
                h = torch.cat([*row, rising] if self.skip_first else [rising, *row], dim=1)
            node = self.nodes[name]
            made[name] = node(h, emb, context) if isinstance(node, Conditioned) else node(h)
        outputs = [head(made[name]) for name, head in self.heads.items()]         # each (N, out, H, W)
        if self.output == "all" and len(outputs) > 1:
            return [self.head_act(output) for output in outputs]
        return self.head_act(sum(outputs) / len(outputs) if self.output == "mean" else outputs[-1])


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options) -> NestedUNet:
    """A UNet++ with ``plain``'s blocks; ``options`` are the arguments of :class:`NestedUNet`.

    ``channel_mult`` defaults to (1, 2, 4, 8), cut to the levels that an image of ``image_size`` can carry. Its
    control of equal size is ``plain`` with a larger ``width``, as the paper's "wide U-Net" is.
    """
    options.setdefault("channel_mult", channel_mult_for(image_size))
    return NestedUNet(in_channels, out_channels, width=width, time=time, context_dim=context_dim, **options)
