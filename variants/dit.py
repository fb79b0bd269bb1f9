"""DiT: a transformer over patches with adaLN-Zero conditioning, and no U at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from variants.parts.attention import attend, check_heads
from variants.parts.embedding import ConditionEmbedding, grid_positions

MOST_TOKENS_A_SIDE = 16


class AdaptiveModulation(nn.Module):
    """``count`` vectors of scale, shift or gate, regressed from the condition, zero at the start (adaLN-Zero).

    Where there is nothing to condition on (``cond_dim`` None), the vectors are plain parameters.
    """

    def __init__(self, cond_dim: int | None, channels: int, count: int):
        super().__init__()
        self.count = count
        if cond_dim is None:
            self.vectors = nn.Parameter(torch.zeros(1, count * channels))
        else:
            self.project = nn.Linear(cond_dim, count * channels)
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def forward(self, cond: Tensor | None) -> tuple[Tensor, ...]:
        vectors = self.vectors if cond is None else self.project(F.silu(cond))
        return vectors[:, None].chunk(self.count, dim=2)                          # count x (N, 1, C)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


class DiTBlock(nn.Module):
    """Attention and MLP, each modulated before and gated after (Peebles & Xie 2022, Fig. 3)."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float, cond_dim: int | None):
        super().__init__()
        check_heads(channels, num_heads)
        hidden = int(channels * mlp_ratio)
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU("tanh"), nn.Linear(hidden, channels))
        self.modulation = AdaptiveModulation(cond_dim, channels, 6)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(cond)
        q, k, v = self.qkv(modulate(self.norm1(x), shift1, scale1)).chunk(3, dim=2)
        x = x + gate1 * self.out(attend(q, k, v, self.num_heads))                 # (N, L, C)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))


class DiT(nn.Module):
    """Diffusion Transformer (Peebles & Xie 2022, arXiv:2212.09748), over the contract of ``variants``.

    An image whose sides the patch does not divide is padded with zeros at the bottom and right, and the
    output is cropped back.
    """

    def __init__(self,
        in_channels,
        out_channels,
        *,
        patch_size  = 2,            # Pixels on a side of one token.
        hidden_size = 128,          # Channels of a token.
        depth       = 6,            # Transformer blocks.
        num_heads   = 4,
        mlp_ratio   = 4.0,          # Hidden units of the MLP per channel.
        time        = False,        # Is the network told a time step?
        context_dim = None,         # Channels of a context token, pooled and added to the time embedding.
    ):
        super().__init__()
        self.patch_size, self.hidden_size, self.out_channels = patch_size, hidden_size, out_channels
        conditioned = bool(time or context_dim)
        cond_dim = hidden_size if conditioned else None
        self.embedding = ConditionEmbedding(hidden_size, 256, time, context_dim) if conditioned else None
        self.patches = nn.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size)
        self.blocks = nn.ModuleList(DiTBlock(hidden_size, num_heads, mlp_ratio, cond_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.modulation = AdaptiveModulation(cond_dim, hidden_size, 2)
        self.head = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size))
        x = self.patches(x)                                                       # (N, C, rows, columns)
        rows, columns = x.shape[2:]
        positions = grid_positions(self.hidden_size, rows, columns, x.device).to(x.dtype)
        x = x.flatten(2).transpose(1, 2) + positions                              # (N, L, C)
        cond = self.embedding(t, context) if self.embedding is not None else None
        for block in self.blocks:
            x = block(x, cond)
        shift, scale = self.modulation(cond)
        x = self.head(modulate(self.norm(x), shift, scale))                       # (N, L, p p out)
        x = x.unflatten(2, (self.patch_size, self.patch_size, self.out_channels))
        x = x.unflatten(1, (rows, columns)).permute(0, 5, 1, 3, 2, 4)             # (N, out, rows, p, columns, p)
        return x.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]               # (N, out, H, W)


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options) -> DiT:
    """A DiT of ``hidden_size`` 4 x ``width`` (the deepest width of a four-level U-Net is 8 x).

    ``options`` are the arguments of :class:`DiT`. ``patch_size`` defaults to the smallest power of two,
    from 2, that leaves at most 16 tokens on a side of ``image_size`` (int or (H, W)).
    """
    side = image_size if isinstance(image_size, int) else max(image_size)
    patch_size = 2
    while side > MOST_TOKENS_A_SIDE * patch_size:
        patch_size *= 2
    options.setdefault("patch_size", patch_size)
    options.setdefault("hidden_size", 4 * width)
    return DiT(in_channels, out_channels, time=time, context_dim=context_dim, **options)
