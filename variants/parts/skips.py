"""Skip connections: how a decoder level joins its features with the encoder's of the same size.

One is built as ``Skip(channels, skip_channels)``, where ``channels`` come from below and ``skip_channels`` from the
encoder; ``out_channels`` says how many it returns. It is called as ``module(x, skip)`` with two maps of one size,
(N, channels, H, W) and (N, skip_channels, H, W), and returns (N, out_channels, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from variants.parts.normalization import normalization


class NoSkip(nn.Module):
    """Drop the skip: a plain encoder-decoder."""

    def __init__(self, channels: int, skip_channels: int):
        super().__init__()
        self.out_channels = channels

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return x


class AddSkip(nn.Module):
    """Add the skip, projected by 1x1 where its channels differ (LinkNet, Chaurasia & Culurciello 2017)."""

    def __init__(self, channels: int, skip_channels: int):
        super().__init__()
        self.out_channels = channels
        self.project = nn.Identity() if channels == skip_channels else nn.Conv2d(skip_channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return x + self.project(skip)


class ConcatSkip(nn.Module):
    """Concatenate the skip: in front (U-Net, Ronneberger et al. 2015), or behind (DDPM, Ho et al. 2020)."""

    def __init__(self, channels: int, skip_channels: int, skip_first: bool = True):
        super().__init__()
        self.out_channels = channels + skip_channels
        self.skip_first = skip_first

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.cat([skip, x] if self.skip_first else [x, skip], dim=1)      # (N, skip + C, H, W)


class GateSkip(nn.Module):
    """Weight the skip by an additive attention gate, then concatenate it in front.

    alpha = sigmoid(psi(ReLU(W_x skip + W_g x))), Attention U-Net (Oktay et al. 2018, arXiv:1804.03999,
    Eq. 1-2), with the gating signal already at the skip's size. ``coefficients`` keeps the last alpha
    (N, 1, H, W), detached, for pictures.
    """

    def __init__(self,
        channels,
        skip_channels,
        norm        = "group",
        inner_ratio = 0.5,           # Channels inside per channel of the skip.
        psi_norm    = "none",        # Before the sigmoid (batch in LeeJunHyun's network).
        per_channel = False,         # A coefficient for each channel (nikhilroxtomar's network).
        skip_first  = True,          # False: the weighted skip is concatenated behind.
    ):
        super().__init__()
        inner = max(1, int(skip_channels * inner_ratio))
        out = skip_channels if per_channel else 1
        self.out_channels, self.skip_first = channels + skip_channels, skip_first
        self.gate_x = nn.Sequential(nn.Conv2d(skip_channels, inner, 1), normalization(norm, inner))
        self.gate_g = nn.Sequential(nn.Conv2d(channels, inner, 1), normalization(norm, inner))
        normed = [] if psi_norm == "none" else [normalization(psi_norm, out)]
        self.psi = nn.Sequential(nn.ReLU(), nn.Conv2d(inner, out, 1), *normed, nn.Sigmoid())
        self.coefficients: Tensor | None = None

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        alpha = self.psi(self.gate_x(skip) + self.gate_g(x))                      # (N, 1 or skip, H, W)
        self.coefficients = alpha.detach()
        return torch.cat([skip * alpha, x] if self.skip_first else [x, skip * alpha], dim=1)   # (N, skip + C, H, W)


SKIPS = {"none": NoSkip, "add": AddSkip, "concat": ConcatSkip, "gate": GateSkip}
