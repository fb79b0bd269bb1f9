"""Embeddings: of the time step, of the context as one vector, of positions in a grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoidal(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines and sines of ``t`` (N,) at geometric frequencies -> (N, dim), float32.

    Vaswani et al. 2017 (arXiv:1706.03762, Sec. 3.5), with the cosines first as in ADM and DiT.
    An odd ``dim`` gets a last column of zeros.
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device) / half)   # (half,)
    angles = t.float()[:, None] * frequencies[None]                                              # (N, half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


class ConditionEmbedding(nn.Module):
    """Time step and, where asked for, the pooled context -> one vector (N, dim) that blocks are told.

    Time goes through sinusoids and a two-layer MLP (DDPM, Ho et al. 2020, App. B); the mean over context
    tokens through one linear layer, added to it (as ADM adds its class embedding; a one-hot token makes
    that layer the embedding table, and an all-zero token stands for "no condition").
    """

    def __init__(self,
        dim,                        # Length of the output vector.
        time_features,              # Number of sinusoidal features of the time step.
        time        = True,         # Embed a time step?
        context_dim = None,         # Channels of a context token; None = no context in this vector.
    ):
        super().__init__()
        self.dim, self.time_features = dim, time_features
        self.mlp = nn.Sequential(nn.Linear(time_features, dim), nn.SiLU(), nn.Linear(dim, dim)) if time else None
        self.context = nn.Linear(context_dim, dim) if context_dim else None

    def forward(self, t: Tensor | None, context: Tensor | None) -> Tensor:
        if self.mlp is not None and t is None:
            raise ValueError("this network was built with time=True: call it with t")
        embedded = []
        if self.mlp is not None:
            embedded.append(self.mlp(sinusoidal(t, self.time_features)))          # (N, dim)
        if self.context is not None:
            if context is None:
                raise ValueError("this network was built with context_dim: call it with context")
            embedded.append(self.context(context.mean(dim=1)))                    # (N, L, context_dim) -> (N, dim)
        return sum(embedded)


def grid_positions(dim: int, height: int, width: int, device=None) -> Tensor:
    """Fixed 2-D sine-cosine position code of a grid -> (height * width, dim), row by row.

    Half of the channels encode the column, half the row (MAE, He et al. 2021, as used by DiT).
    Raises ValueError unless ``dim`` divides by 4.
    """
    if dim % 4:
        raise ValueError(f"a 2-D sine-cosine position code needs a channel count divisible by 4, not {dim}")
    frequencies = 1.0 / 10_000 ** (torch.arange(dim // 4, dtype=torch.float64, device=device) / (dim // 4))

    def encode(positions: Tensor) -> Tensor:                                      # (L,) -> (L, dim / 2)
        angles = positions[:, None] * frequencies[None]
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    rows, columns = torch.meshgrid(torch.arange(height, dtype=torch.float64, device=device),
                                   torch.arange(width, dtype=torch.float64, device=device), indexing="ij")
    return torch.cat([encode(columns.flatten()), encode(rows.flatten())], dim=1).float()
