"""Embeddings: of the time step, of the context as one vector, of positions in a grid."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SINUSOID_ORDERS = ("cos_sin", "sin_cos", "interleaved")


def sinusoidal(t: Tensor, dim: int, max_period: float = 10_000.0, order: str = "cos_sin",
               frequency_shift: int = 0) -> Tensor:
    """Cosines and sines of ``t`` (N,) at geometric frequencies -> (N, dim), float32.

    Vaswani et al. 2017 (arXiv:1706.03762, Sec. 3.5). ``order``: ``cos_sin`` as in ADM and DiT, ``sin_cos`` as
    in DDPM, ``interleaved`` sine, cosine, sine, ... as in the paper. Frequency k is
    max_period^(-k / (dim / 2 - frequency_shift)); DDPM's shift of 1 makes the last one 1 / max_period.
    An odd ``dim`` gets a last column of zeros.
    """
    if order not in SINUSOID_ORDERS:
        raise ValueError(f"unknown order {order!r} of sinusoids (known: {', '.join(SINUSOID_ORDERS)})")
    half = dim // 2
    steps = torch.arange(half, device=t.device)
    if frequency_shift:            # rounded as published: t = 1000 turns the last bit of a frequency into 1e-4 radian
        frequencies = torch.exp(steps * -(math.log(max_period) / (half - frequency_shift)))       # (half,)
    else:
        frequencies = torch.exp(-math.log(max_period) * steps / half)                            # (half,)
    angles = t.float()[:, None] * frequencies[None]                                              # (N, half)
    if order == "interleaved":
        return F.pad(torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1), (0, dim % 2))
    halves = [angles.cos(), angles.sin()] if order == "cos_sin" else [angles.sin(), angles.cos()]
    return F.pad(torch.cat(halves, dim=1), (0, dim % 2))


class ClassTable(nn.Embedding):
    """One row per class: labels (N,) look theirs up, one-hot tokens (N, L, num_classes) select theirs -> (N, 1, dim).

    ``null_class``, where given, is the row that stands for "no class". In training a label is replaced by it
    with probability ``drop``, for classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598).
    """

    def __init__(self, num_classes: int, dim: int, null_class: int | None = None, drop: float = 0.0):
        super().__init__(num_classes, dim)
        self.null_class, self.drop = null_class, drop

    def forward(self, context: Tensor) -> Tensor:
        if context.is_floating_point():
            return context.mean(dim=1, keepdim=True) @ self.weight                # (N, 1, dim)
        if self.training and self.drop:
            dropped = torch.rand(context.shape, device=context.device) < self.drop
            context = torch.where(dropped, self.null_class, context)
        return super().forward(context)[:, None]


class ConditionEmbedding(nn.Module):
    """Time step and, where asked for, the pooled context -> one vector (N, dim) that blocks are conditioned on.

    Time goes through sinusoids and a two-layer MLP (DDPM, Ho et al. 2020, App. B); the mean over context
    tokens through one linear layer, added to it (as ADM adds its class embedding; a one-hot token makes
    that layer the embedding table, and an all-zero token stands for "no condition"). With ``num_classes``
    the context is class labels (N,), or one-hot tokens, and the table has no bias.
    """

    def __init__(self,
        dim,                        # Length of the output vector.
        time_features,              # Number of sinusoidal features of the time step.
        time        = True,         # Embed a time step?
        context_dim = None,         # Channels of a context token; None = no context in this vector.
        num_classes = None,         # Rows of a table of classes, in place of context_dim.
        null_class  = None,         # Row for "no class".
        class_drop  = 0.0,          # Share of labels that training replaces by the null class.
        order       = "cos_sin",    # Of the sinusoids: cos_sin | sin_cos | interleaved
        frequency_shift = 0,        # Of the sinusoids: see ``sinusoidal``.
        table_steps = None,         # Look steps up in a frozen table of so many; None = compute, for any t.
    ):
        super().__init__()
        if num_classes and context_dim:
            raise ValueError("a context is either class labels (num_classes) or tokens (context_dim), not both")
        self.dim, self.time_features = dim, time_features
        self.sinusoids = partial(sinusoidal, dim=time_features, order=order, frequency_shift=frequency_shift)
        self.table = nn.Embedding.from_pretrained(self.sinusoids(torch.arange(table_steps))) if table_steps else None
        self.mlp = nn.Sequential(nn.Linear(time_features, dim), nn.SiLU(), nn.Linear(dim, dim)) if time else None
        self.context = nn.Linear(context_dim, dim) if context_dim else None
        if num_classes:
            self.context = ClassTable(num_classes, dim, null_class, class_drop)

    def tokens(self, t: Tensor | None, context: Tensor | None) -> list[Tensor]:
        """The time step (N, 1, dim) and the context's tokens (N, L, dim), whichever there are, apart."""
        if self.mlp is not None and t is None:
            raise ValueError("this network was built with time=True: call it with t")
        embedded = []
        if self.mlp is not None:
            features = self.sinusoids(t) if self.table is None else self.table(t)
            embedded.append(self.mlp(features.to(self.mlp[0].weight.dtype))[:, None])
        if self.context is not None:
            if context is None:
                raise ValueError("this network was built with a context (context_dim or num_classes): call it with one")
            embedded.append(self.context(context))
        return embedded

    def forward(self, t: Tensor | None, context: Tensor | None) -> Tensor:
        if context is not None and context.is_floating_point():
            context = context.mean(dim=1, keepdim=True)                           # (N, L, context_dim) -> (N, 1, ...)
        return sum(self.tokens(t, context))[:, 0]                                 # (N, dim)


def condition_embedding(width, time, context_dim, context_by,
                        **options) -> tuple[ConditionEmbedding | None, int | None]:
    """Return what embeds time step and pooled context, and the channels of the tokens that attention reads.

    The former is None without time step, pooled context and classes; the latter is None unless ``context_by`` is
    "attention", which leaves the context out of the vector. ``width`` is the number of sinusoids, a fourth of the
    vector's length. ``options`` are further arguments of :class:`ConditionEmbedding`. Raises ValueError for an
    unknown ``context_by``.
    """
    if context_by not in ("add", "attention"):
        raise ValueError(f"unknown context_by {context_by!r} (known: add, attention)")
    pooled_dim, token_dim = (context_dim, None) if context_by == "add" else (None, context_dim)
    if not (time or pooled_dim or options.get("num_classes")):
        return None, token_dim
    return ConditionEmbedding(4 * width, width, time, pooled_dim, **options), token_dim


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
