"""What a decoder level does with the encoder's features of the same size.

A skip is built as ``Skip(channels, skip_channels)``, where ``channels`` come from below and
``skip_channels`` from the side; it says how many ``out_channels`` it hands on, and is called as
``skip(x, side)`` with two maps of one size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from variants.parts.normalization import normalization


class NoSkip(nn.Module):
    """The side is dropped: a plain encoder-decoder."""

    def __init__(self, channels: int, skip_channels: int):
        super().__init__()
        self.out_channels = channels

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        return x


class AddSkip(nn.Module):
    """The side is added, projected by 1x1 where its channels differ (LinkNet, Chaurasia & Culurciello 2017)."""

    def __init__(self, channels: int, skip_channels: int):
        super().__init__()
        self.out_channels = channels
        self.project = nn.Identity() if channels == skip_channels else nn.Conv2d(skip_channels, channels, 1)

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        return x + self.project(side)


class ConcatSkip(nn.Module):
    """The side is concatenated: in front (U-Net, Ronneberger et al. 2015), or behind (DDPM, Ho et al. 2020)."""

    def __init__(self, channels: int, skip_channels: int, side_first: bool = True):
        super().__init__()
        self.out_channels = channels + skip_channels
        self.side_first = side_first

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        return torch.cat([side, x] if self.side_first else [x, side], dim=1)      # (N, skip + C, H, W)


class GateSkip(nn.Module):
    """The side is weighted by an additive attention gate, then concatenated in front.

    alpha = sigmoid(psi(ReLU(W_x side + W_g x))), Attention U-Net (Oktay et al. 2018, arXiv:1804.03999,
    Eq. 1-2), with the gating signal already at the side's size. ``coefficients`` keeps the last alpha
    (N, 1, H, W), detached, for pictures.
    """

    def __init__(self,
        channels,
        skip_channels,
        norm        = "group",
        inner_ratio = 0.5,           # Channels inside per channel of the side.
        psi_norm    = "none",        # Before the sigmoid (batch in LeeJunHyun's network).
        per_channel = False,         # A coefficient for each channel (nikhilroxtomar's network).
        side_first  = True,          # False: the weighted side is concatenated behind.
    ):
        super().__init__()
        inner = max(1, int(skip_channels * inner_ratio))
        out = skip_channels if per_channel else 1
        self.out_channels, self.side_first = channels + skip_channels, side_first
        self.gate_x = nn.Sequential(nn.Conv2d(skip_channels, inner, 1), normalization(norm, inner))
        self.gate_g = nn.Sequential(nn.Conv2d(channels, inner, 1), normalization(norm, inner))
        normed = [] if psi_norm == "none" else [normalization(psi_norm, out)]
        self.psi = nn.Sequential(nn.ReLU(), nn.Conv2d(inner, out, 1), *normed, nn.Sigmoid())
        self.coefficients: Tensor | None = None

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        alpha = self.psi(self.gate_x(side) + self.gate_g(x))                      # (N, 1 or skip, H, W)
        self.coefficients = alpha.detach()
        return torch.cat([side * alpha, x] if self.side_first else [x, side * alpha], dim=1)   # (N, skip + C, H, W)


SKIPS = {"none": NoSkip, "add": AddSkip, "concat": ConcatSkip, "gate": GateSkip}
