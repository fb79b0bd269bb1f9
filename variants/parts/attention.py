"""Attention over the pixels of a feature map, and from pixels to context tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from variants.parts.normalization import normalization
from variants.parts.skeleton import Conditioned


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)) v per head. q (N, L, C); k, v (N, S, C) -> (N, L, C)."""
    def split(x: Tensor) -> Tensor:                                               # -> (N, heads, L, C / heads)
        return x.unflatten(2, (num_heads, -1)).transpose(1, 2)

    out = F.scaled_dot_product_attention(split(q), split(k), split(v))
    return out.transpose(1, 2).flatten(2)


def check_heads(channels: int, num_heads: int) -> None:
    if channels % num_heads:
        raise ValueError(f"num_heads={num_heads} does not divide {channels} channels")


class SelfAttention(Conditioned):
    """Every pixel attends to every pixel, as a residual (DDPM, Ho et al. 2020; heads as in ADM)."""

    def __init__(self, channels: int, num_heads: int = 4, norm: str = "group"):
        super().__init__()
        check_heads(channels, num_heads)
        self.num_heads = num_heads
        self.norm = normalization(norm, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)                          # (N, H W, C)
        q, k, v = self.qkv(tokens).chunk(3, dim=2)
        tokens = self.out(attend(q, k, v, self.num_heads))                        # (N, H W, C)
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class CrossAttention(nn.Module):
    """Tokens (N, L, channels) attend to context (N, S, context_dim); to themselves where it is None."""

    def __init__(self, channels: int, context_dim: int | None = None, num_heads: int = 4):
        super().__init__()
        check_heads(channels, num_heads)
        self.num_heads = num_heads
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(context_dim or channels, channels, bias=False)
        self.v = nn.Linear(context_dim or channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        return self.out(attend(self.q(x), self.k(context), self.v(context), self.num_heads))


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
        self.norm1, self.self_attention = nn.LayerNorm(channels), CrossAttention(channels, None, num_heads)
        self.norm2, self.cross_attention = nn.LayerNorm(channels), CrossAttention(channels, context_dim, num_heads)
        self.norm3, self.feed_forward = nn.LayerNorm(channels), GatedFeedForward(channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x + self.self_attention(self.norm1(x))                                # (N, L, C)
        x = x + self.cross_attention(self.norm2(x), context)
        return x + self.feed_forward(self.norm3(x))


class SpatialTransformer(Conditioned):
    """Pixels as tokens through transformer blocks, as a residual (LDM, Rombach et al. 2022, App. E.2.1).

    Where it is built without ``context_dim``, cross-attention attends to the image's own tokens, as in
    the published code. Its last layer starts at zero, so at first it changes nothing.
    """

    def __init__(self, channels: int, num_heads: int = 4, norm: str = "group",
                 context_dim: int | None = None, depth: int = 1):
        super().__init__()
        self.norm = normalization(norm, channels, eps=1e-6)
        self.enter = nn.Conv2d(channels, channels, 1)
        self.blocks = nn.ModuleList(TransformerBlock(channels, context_dim, num_heads) for _ in range(depth))
        self.leave = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, emb: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        tokens = self.enter(self.norm(x)).flatten(2).transpose(1, 2)              # (N, H W, C)
        for block in self.blocks:
            tokens = block(tokens, context)
        return x + self.leave(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))
