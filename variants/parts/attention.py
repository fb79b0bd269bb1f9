"""Attention over the pixels of a feature map, and from pixels to context tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from variants.parts.attention_kernel import scaled_dot_product
from variants.parts.encoder_decoder import Conditioned
from variants.parts.normalization import LayerNorm, normalization

QKV_ORDERS = ("split_first", "heads_first")


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)) v per head. q (N, L, C); k, v (N, S, C) -> (N, L, C)."""
    q, k, v = (x.unflatten(2, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # (N, heads, L or S, C / heads)
    out = scaled_dot_product(q, k, v)
    return out.transpose(1, 2).flatten(2)


def attend_to_one(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """``attend`` where S = 1: a softmax over one score is 1, and every query gets the one value.

    Scores are computed, and their gradients of zero, as in LDM's code: queries and keys have weights that an
    optimiser must find. What einsum multiplies there is a sum over one token, and counts as no MAC.
    """
    q, k = (x.unflatten(2, (num_heads, -1)).transpose(1, 2) for x in (q, k))      # (N, heads, L or 1, C / heads)
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5                           # (N, heads, L, 1)
    return (v + 0 * scores.mean(dim=(1, 2))[:, None]).expand(-1, q.shape[2], -1)  # (N, L, C)


def check_heads(channels: int, num_heads: int) -> None:
    if channels % num_heads:
        raise ValueError(f"num_heads={num_heads} does not divide {channels} channels")


class SelfAttention(Conditioned):
    """Every pixel attends to every pixel, as a residual (DDPM, Ho et al. 2020; heads as in ADM).

    ``qkv_order`` says how the 3 C projected channels lie: ``split_first``, all queries, all keys, all values,
    each by head; ``heads_first``, head by head its query, key and value (ADM's published models, whose code
    calls it legacy).
    """

    def __init__(self, channels: int, num_heads: int = 4, norm: str = "group", norm_eps: float = 1e-5,
                 qkv_order: str = "split_first", zero_last: bool = False):
        super().__init__()
        check_heads(channels, num_heads)
        if qkv_order not in QKV_ORDERS:
            raise ValueError(f"unknown qkv_order {qkv_order!r} (known: {', '.join(QKV_ORDERS)})")
        self.num_heads, self.qkv_order = num_heads, qkv_order
        self.norm = normalization(norm, channels, norm_eps)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        if zero_last:                                                             # starts as the identity
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)                          # (N, H W, C)
        qkv = self.qkv(tokens)                                                    # (N, H W, 3 C)
        if self.qkv_order == "heads_first":
            q, k, v = (part.flatten(2) for part in qkv.unflatten(2, (self.num_heads, 3, -1)).unbind(3))
        else:
            q, k, v = qkv.chunk(3, dim=2)
        tokens = self.out(attend(q, k, v, self.num_heads))                        # (N, H W, C)
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class AttentionPool(nn.Module):
    """One vector for a map: its mean, as one more token before the pixels', attends to all (CLIP, Radford et al. 2021).

    (N, channels, size, size) -> (N, out_channels). Every token is computed, as in ADM's classifiers, and the
    first is kept.
    """

    def __init__(self, channels: int, out_channels: int, size: int, num_heads: int):
        super().__init__()
        check_heads(channels, num_heads)
        self.num_heads = num_heads
        self.positions = nn.Parameter(torch.randn(channels, size ** 2 + 1) / channels ** 0.5)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2)                                                     # (N, C, H W)
        tokens = torch.cat([pixels.mean(dim=2, keepdim=True), pixels], dim=2) + self.positions
        q, k, v = self.qkv(tokens.transpose(1, 2)).chunk(3, dim=2)                # (N, H W + 1, C)
        return self.out(attend(q, k, v, self.num_heads))[:, 0]                    # (N, out)


class CrossAttention(nn.Module):
    """Tokens (N, L, channels) attend to context (N, S, context_dim); to themselves where it is None."""

    def __init__(self, channels: int, context_dim: int | None = None, num_heads: int = 4, bias: bool = False):
        super().__init__()
        check_heads(channels, num_heads)
        self.num_heads = num_heads
        self.q = nn.Linear(channels, channels, bias=bias)
        self.k = nn.Linear(context_dim or channels, channels, bias=bias)
        self.v = nn.Linear(context_dim or channels, channels, bias=bias)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        weigh = attend_to_one if context.shape[1] == 1 else attend
        return self.out(weigh(self.q(x), self.k(context), self.v(context), self.num_heads))


class GatedFeedForward(nn.Module):
    """GEGLU: one half of the hidden units gates the other (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, channels: int, ratio: int = 4):
        super().__init__()
        self.enter = nn.Linear(channels, 2 * ratio * channels)
        self.leave = nn.Linear(ratio * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.enter(x).chunk(2, dim=-1)
        return self.leave(value * F.gelu(gate))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward; each normalised before and added (LDM, Rombach et al. 2022)."""

    def __init__(self, channels: int, context_dim: int | None, num_heads: int):
        super().__init__()
        self.norm1, self.self_attention = LayerNorm(channels), CrossAttention(channels, None, num_heads)
        self.norm2, self.cross_attention = LayerNorm(channels), CrossAttention(channels, context_dim, num_heads)
        self.norm3, self.feed_forward = LayerNorm(channels), GatedFeedForward(channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x + self.self_attention(self.norm1(x))                                # (N, L, C)
        x = x + self.cross_attention(self.norm2(x), context)
        return x + self.feed_forward(self.norm3(x))


class SpatialTransformer(Conditioned):
    """Pixels as tokens through transformer blocks, as a residual (LDM, Rombach et al. 2022, App. E.2.1).

    Where it is built without ``context_dim``, cross-attention attends to the image's own tokens, as in
    the published code. Its last layer starts at zero, so at first it changes nothing. A token has
    ``num_heads`` x ``head_channels`` channels, the map's own where that is None.
    """

    def __init__(self, channels: int, num_heads: int = 4, norm: str = "group",
                 context_dim: int | None = None, depth: int = 1, head_channels: int | None = None):
        super().__init__()
        inner = num_heads * head_channels if head_channels else channels
        self.takes_context = context_dim is not None
        self.norm = normalization(norm, channels, eps=1e-6)
        self.enter = nn.Conv2d(channels, inner, 1)
        self.blocks = nn.ModuleList(TransformerBlock(inner, context_dim, num_heads) for _ in range(depth))
        self.leave = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        tokens = self.enter(self.norm(x)).flatten(2).transpose(1, 2)              # (N, H W, C)
        for block in self.blocks:
            tokens = block(tokens, context if self.takes_context else None)
        return x + self.leave(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))
