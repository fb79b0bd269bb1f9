"""Blocks that do with less: MobileNetV2's inverted residual, ShuffleNet V2's units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from variants.parts.blocks import Modulation, activation
from variants.parts.encoder_decoder import Conditioned
from variants.parts.normalization import normalization


def depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3, each channel by itself; a norm follows, so it has no bias."""
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


def pointwise(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


class InvertedResidual(Conditioned):
    """1x1 to many channels, depthwise 3x3, 1x1 to few without activation (MobileNetV2, Sandler et al. 2018, Fig. 3b).

    The input is added where size and channels stay.
    """

    preactivated = False

    def __init__(self,
        in_channels,
        out_channels,
        emb_dim           = None,    # Length of the condition vector; None = no condition.
        norm              = "group",
        activation_kind   = "silu",
        dropout           = 0.0,     # Before the last convolution.
        time_conditioning = "add",
        *,
        stride            = 1,
        expansion         = 6,       # Channels inside per channel in; 1 = no first convolution.
    ):
        super().__init__()
        hidden = in_channels * expansion
        self.adds = stride == 1 and in_channels == out_channels
        self.expand = nn.Sequential() if expansion == 1 else nn.Sequential(
            pointwise(in_channels, hidden), normalization(norm, hidden), activation(activation_kind))
        self.depthwise, self.norm = depthwise(hidden, stride), normalization(norm, hidden)
        self.modulation = Modulation(emb_dim, hidden, time_conditioning) if emb_dim else None
        self.act, self.drop = activation(activation_kind), nn.Dropout(dropout)
        self.project = nn.Sequential(pointwise(hidden, out_channels), normalization(norm, out_channels))

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        h = self.depthwise(self.expand(x))                                        # (N, hidden, H / stride, W / stride)
        h = self.norm(h) if self.modulation is None else self.modulation.around(self.norm, h, emb)
        h = self.project(self.drop(self.act(h)))                                  # (N, out, H / stride, W / stride)
        return x + h if self.adds else h


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels (N, C, H, W) dealt out: the first of every group, then the second of every group, ..."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(Conditioned):
    """Half of the channels through 1x1, depthwise 3x3, 1x1; both halves shuffled (Ma et al. 2018, Fig. 3c).

    Where the channels change, both halves are made of all of them, the other by depthwise 3x3 and 1x1 (Fig. 3d).
    """

    def __init__(self, in_channels, out_channels, emb_dim, norm, activation_kind, dropout, time_conditioning):
        super().__init__()
        if out_channels % 2:
            raise ValueError(f"a shuffle unit makes an even number of channels, not {out_channels}")
        half = out_channels // 2
        self.splits = in_channels == out_channels
        enters = half if self.splits else in_channels
        self.other = nn.Sequential() if self.splits else nn.Sequential(
            depthwise(enters), normalization(norm, enters),
            pointwise(enters, half), normalization(norm, half), activation(activation_kind))
        self.first, self.norm = pointwise(enters, half), normalization(norm, half)
        self.modulation = Modulation(emb_dim, half, time_conditioning) if emb_dim else None
        self.act = activation(activation_kind)
        self.rest = nn.Sequential(
            depthwise(half), normalization(norm, half), nn.Dropout(dropout),
            pointwise(half, half), normalization(norm, half), activation(activation_kind))

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        kept, worked = x.chunk(2, dim=1) if self.splits else (x, x)
        h = self.first(worked)                                                    # (N, out / 2, H, W)
        h = self.norm(h) if self.modulation is None else self.modulation.around(self.norm, h, emb)
        return shuffle(torch.cat([self.other(kept), self.rest(self.act(h))], dim=1), 2)   # (N, out, H, W)


class ShuffleBlock(Conditioned):
    """Two shuffle units: the first changes the channels, the second splits them."""

    preactivated = False

    def __init__(self,
        in_channels,
        out_channels,
        emb_dim           = None,    # Length of the condition vector; None = no condition.
        norm              = "group",
        activation_kind   = "silu",
        dropout           = 0.0,
        time_conditioning = "add",
    ):
        super().__init__()
        rest = (norm, activation_kind, dropout, time_conditioning)
        self.units = nn.ModuleList([ShuffleUnit(in_channels, out_channels, emb_dim, *rest),
                                    ShuffleUnit(out_channels, out_channels, emb_dim, *rest)])

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        for unit in self.units:
            x = unit(x, emb, context)
        return x                                                                  # (N, out, H, W)


LIGHT_BLOCKS = {"inverted": InvertedResidual, "shuffle": ShuffleBlock}
