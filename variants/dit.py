"""DiT: a transformer over patches, conditioned in one of four ways, without the shape of a U."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from variants.parts.attention import CrossAttention
from variants.parts.embedding import ConditionEmbedding, grid_positions
from variants.parts.normalization import LayerNorm
from variants.parts.sizes import token_sizes
from variants.parts.tokens import TokenBlock, fit_patches, grid_of, unpatch

MOST_TOKENS_A_SIDE = 16
CONDITIONING = ("adaln_zero", "adaln", "cross_attention", "in_context")
NORM_EPS = 1e-6


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


class AdaptiveBlock(TokenBlock):
    """Attention and MLP, each modulated before and, where ``gated``, weighed after (Peebles & Xie 2022, Sec. 3.2).

    ``gated`` is adaLN-Zero, Fig. 3 second from the left; without gates it is adaLN.
    """

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float, cond_dim: int | None, gated: bool = True):
        super().__init__(channels, num_heads, mlp_ratio, norm_eps=NORM_EPS, affine=False, qkv_bias=True, gelu="tanh")
        self.modulation = AdaptiveModulation(cond_dim, channels, 6 if gated else 4)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        vectors = self.modulation(cond)                                           # shift, scale(, gate), twice
        half = len(vectors) // 2
        x = x + self.modulated(x, self.norm1, self.attention, *vectors[:half])    # (N, L, C)
        return x + self.modulated(x, self.norm2, self.mlp, *vectors[half:])

    @staticmethod
    def modulated(x, norm, layer, shift, scale, gate=None) -> Tensor:
        y = layer(modulate(norm(x), shift, scale))
        return y if gate is None else gate * y


class CrossAttentionBlock(TokenBlock):
    """Between attention and MLP, attention to the condition's tokens (Peebles & Xie 2022, Fig. 3, third)."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float):
        super().__init__(channels, num_heads, mlp_ratio, norm_eps=NORM_EPS, qkv_bias=True, gelu="tanh")
        self.norm_cross = LayerNorm(channels, eps=NORM_EPS)
        self.cross_attention = CrossAttention(channels, None, num_heads, bias=True)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:                  # (N, L, C), (N, S, C)
        x = x + self.attention(self.norm1(x))
        x = x + self.cross_attention(self.norm_cross(x), cond)
        return x + self.mlp(self.norm2(x))


class DiT(nn.Module):
    """Diffusion Transformer (Peebles & Xie 2022, arXiv:2212.09748), over the contract of ``variants``.

    Adaptive blocks are conditioned on one vector, the sum of time step and pooled context; cross-attention and
    in-context blocks are given the time step and every context token as tokens apart, the former beside the
    image's, the latter among them until the last block. Raises ValueError for an unknown ``conditioning``,
    and, with ``pad=False``, for an image that the patch does not divide.
    """

    def __init__(self,
        in_channels,
        out_channels,
        *,
        patch_size   = 2,            # Pixels on a side of one token.
        hidden_size  = 128,          # Channels of a token.
        depth        = 6,            # Transformer blocks.
        num_heads    = 4,
        mlp_ratio    = 4.0,          # Hidden units of the MLP per channel.
        conditioning = "adaln_zero",  # adaln_zero | adaln | cross_attention | in_context
        learn_sigma  = False,        # Twice the output channels: the noise and its variance.
        input_size   = None,         # Pixels on a side, or (H, W), whose position code is kept as a frozen parameter,
                                     # as published; other sizes compute theirs. None = every size does.
        pad          = True,         # Pad an image whose sides the patch does not divide, and crop the output back?
        time         = False,        # Does the network take a time step?
        context_dim  = None,         # Channels of a context token.
        num_classes  = None,         # In place of context_dim: the context is class labels (N,), read from a table.
        class_drop   = 0.1,          # Share of labels dropped in training; above 0 the table ends in a null class.
    ):
        super().__init__()
        if conditioning not in CONDITIONING:
            raise ValueError(f"unknown conditioning {conditioning!r} (known: {', '.join(CONDITIONING)})")
        if learn_sigma:
            out_channels = 2 * out_channels
        self.patch_size, self.hidden_size, self.out_channels, self.pad = patch_size, hidden_size, out_channels, pad
        self.sizes = token_sizes(hidden_size, mlp_ratio, num_heads)
        self.conditioning = conditioning
        adaptive = conditioning in ("adaln", "adaln_zero")
        conditioned = bool(time or context_dim or num_classes)
        cond_dim = hidden_size if conditioned else None
        rows = num_classes + (class_drop > 0) if num_classes else None
        self.embedding = ConditionEmbedding(hidden_size, 256, time, context_dim, num_classes=rows,
                                            null_class=num_classes, class_drop=class_drop) if conditioned else None
        self.patches = nn.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size)
        self.grid = grid_of(input_size, patch_size, pad) if input_size else None
        self.positions = nn.Parameter(grid_positions(hidden_size, *self.grid)[None], False) if input_size else None

        def block() -> nn.Module:
            if adaptive:
                return AdaptiveBlock(hidden_size, num_heads, mlp_ratio, cond_dim, conditioning == "adaln_zero")
            if conditioning == "cross_attention":
                return CrossAttentionBlock(hidden_size, num_heads, mlp_ratio)
            return TokenBlock(hidden_size, num_heads, mlp_ratio, norm_eps=NORM_EPS, qkv_bias=True, gelu="tanh")

        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.norm = LayerNorm(hidden_size, eps=NORM_EPS, elementwise_affine=not adaptive)
        self.modulation = AdaptiveModulation(cond_dim, hidden_size, 2) if adaptive else None
        self.head = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:]
        x = self.patches(fit_patches(x, self.patch_size, self.pad))               # (N, C, rows, columns)
        grid = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2) + self.positions_of(grid, x)             # (N, L, C)
        length = x.shape[1]
        x = self.run_blocks(x, t, context)[:, :length]
        x = unpatch(self.head(x), grid, self.patch_size)
        return x[:, :, :height, :width]                                           # (N, out, H, W)

    def positions_of(self, grid: tuple[int, int], x: Tensor) -> Tensor:
        if grid == self.grid:
            return self.positions
        return grid_positions(self.hidden_size, *grid, x.device).to(x.dtype)

    def run_blocks(self, x: Tensor, t: Tensor | None, context: Tensor | None) -> Tensor:
        """Blocks and last norm. In-context tokens come after the image's and are still there."""
        if self.modulation is not None:
            cond = self.embedding(t, context) if self.embedding is not None else None      # (N, C)
            for block in self.blocks:
                x = block(x, cond)
            return modulate(self.norm(x), *self.modulation(cond))
        cond = torch.cat(self.embedding.tokens(t, context), dim=1) if self.embedding is not None else None
        if self.conditioning == "in_context":
            x = x if cond is None else torch.cat([x, cond], dim=1)                # (N, L + S, C)
            for block in self.blocks:
                x = block(x)
        else:
            for block in self.blocks:
                x = block(x, cond)
        return self.norm(x)


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options) -> DiT:
    """A DiT of ``hidden_size`` 4 x ``width`` (the deepest width of a four-level U-Net is 8 x).

    ``options`` are the arguments of :class:`DiT`. ``patch_size`` defaults to the smallest power of two,
    from 2, that leaves at most 16 tokens on a side of ``image_size`` (int or (H, W)).
    """
    options.setdefault("patch_size", patch_size_for(image_size))
    options.setdefault("hidden_size", 4 * width)
    return DiT(in_channels, out_channels, time=time, context_dim=context_dim, **options)


def patch_size_for(image_size) -> int:
    """The smallest power of two, from 2, that leaves at most 16 tokens on a side of ``image_size``."""
    side = image_size if isinstance(image_size, int) else max(image_size)
    patch_size = 2
    while side > MOST_TOKENS_A_SIDE * patch_size:
        patch_size *= 2
    return patch_size
