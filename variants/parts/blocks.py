"""The convolution blocks of a U: plain and residual, both told the time step in one of two ways."""

from __future__ import annotations

from torch import Tensor, nn

from variants.parts.normalization import normalization
from variants.parts.skeleton import Conditioned

ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU, "gelu": nn.GELU}
TIME_CONDITIONING = ("add", "scale_shift")


def activation(kind: str) -> nn.Module:
    """Raises ValueError for a kind not in ``ACTIVATIONS``."""
    if kind not in ACTIVATIONS:
        raise ValueError(f"unknown activation {kind!r} (known: {', '.join(ACTIVATIONS)})")
    return ACTIVATIONS[kind]()


class Modulation(nn.Module):
    """How a block is told its condition, between a norm and its activation.

    ``add``: h + b(emb), an added bias. ``scale_shift``: h * (1 + s(emb)) + b(emb), also called FiLM
    (Perez et al. 2017, arXiv:1709.07871) or AdaGN (ADM, Dhariwal & Nichol 2021, Eq. 6).
    """

    def __init__(self, emb_dim: int, channels: int, kind: str):
        super().__init__()
        if kind not in TIME_CONDITIONING:
            raise ValueError(f"unknown time_conditioning {kind!r} (known: {', '.join(TIME_CONDITIONING)})")
        self.kind = kind
        self.project = nn.Sequential(nn.SiLU(), nn.Linear(emb_dim, channels * (2 if kind == "scale_shift" else 1)))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        told = self.project(emb)[:, :, None, None]                                # (N, C or 2C, 1, 1)
        if self.kind == "add":
            return h + told
        scale, shift = told.chunk(2, dim=1)
        return h * (1 + scale) + shift


class PlainBlock(Conditioned):
    """Two 3x3 convolutions, each followed by norm and activation (U-Net, Ronneberger et al. 2015, padded)."""

    preactivated = False                                                          # what enters is ready to be convolved

    def __init__(self,
        in_channels,
        out_channels,
        emb_dim           = None,    # Length of the condition vector; None = the block is told nothing.
        norm              = "group",
        activation_kind   = "silu",
        dropout           = 0.0,     # Between the two convolutions.
        time_conditioning = "add",
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm1 = normalization(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm2 = normalization(norm, out_channels)
        self.act = activation(activation_kind)
        self.drop = nn.Dropout(dropout)
        self.told = Modulation(emb_dim, out_channels, time_conditioning) if emb_dim else None

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        h = self.norm1(self.conv1(x))                                             # (N, out, H, W)
        if self.told is not None:
            h = self.told(h, emb)
        h = self.drop(self.act(h))
        return self.act(self.norm2(self.conv2(h)))                                # (N, out, H, W)


class ResidualBlock(Conditioned):
    """Norm, activation, 3x3 convolution, twice, plus a shortcut that is projected by 1x1 where channels change.

    The pre-activated unit of ResUNet (Zhang et al. 2017, arXiv:1711.10684, Fig. 1b), which with a time
    step is also DDPM's block (Ho et al. 2020, App. B).
    """

    preactivated = True

    def __init__(self,
        in_channels,
        out_channels,
        emb_dim           = None,    # Length of the condition vector; None = the block is told nothing.
        norm              = "group",
        activation_kind   = "silu",
        dropout           = 0.0,     # Before the second convolution.
        time_conditioning = "add",
    ):
        super().__init__()
        self.norm1 = normalization(norm, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = normalization(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.act = activation(activation_kind)
        self.drop = nn.Dropout(dropout)
        self.told = Modulation(emb_dim, out_channels, time_conditioning) if emb_dim else None
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(self.act(self.norm1(x))))                       # (N, out, H, W)
        if self.told is not None:
            h = self.told(h, emb)
        h = self.conv2(self.drop(self.act(h)))
        return h + self.shortcut(x)                                               # (N, out, H, W)


BLOCKS = {"plain": PlainBlock, "residual": ResidualBlock}
