"""U-ViT: a transformer over patches, time and context tokens, with long skips between its halves, or without."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from variants.dit import patch_size_for
from variants.parts.embedding import ClassTable, sinusoidal
from variants.parts.encoder_decoder import EncoderDecoder, Step
from variants.parts.normalization import LayerNorm
from variants.parts.sizes import token_sizes
from variants.parts.skips import AddSkip, NoSkip
from variants.parts.tokens import TokenBlock, fit_patches, grid_of, unpatch
from variants.parts.unet import choose


class LongSkip(nn.Module):
    """Linear(Concat(h_m, h_s)): the best of five ways to join a long skip (Bao et al. 2022, Sec. 3.1)."""

    def __init__(self, channels: int, skip_channels: int):
        super().__init__()
        self.project = nn.Linear(channels + skip_channels, channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.project(torch.cat([x, skip], dim=2))                          # (N, L, C)


SKIPS = {"concat": LongSkip, "add": AddSkip, "none": NoSkip}


class UViT(nn.Module):
    """U-ViT (Bao et al. 2022, arXiv:2209.12152), over the contract of ``variants``.

    Time step, class and context are tokens before the image's, each with a learned position. The blocks are
    the steps of a U of one size: the first half emits the skips that the second half merges. The positions of a grid
    other than that of ``image_size`` are interpolated from it. Raises ValueError for an unknown ``skip``,
    with ``pad=False`` for an image that the patch does not divide, and for another number of context tokens
    than ``context_tokens``.
    """

    def __init__(self,
        in_channels,
        out_channels,
        *,
        image_size,                  # Pixels on a side, or (H, W), whose grid of patches has learned positions.
        patch_size     = 2,          # Pixels on a side of one token.
        hidden_size    = 128,        # Channels of a token.
        depth          = 6,          # Blocks besides the middle one; half of them before it, half after.
        num_heads      = 4,
        mlp_ratio      = 4.0,        # Hidden units of the MLP per channel.
        qkv_bias       = False,
        norm_eps       = 1e-5,
        skip           = "concat",   # concat (and project) | add | none
        conv           = True,       # A 3x3 convolution over the output image, against seams between patches?
        mlp_time_embed = False,      # Two layers between the time step's sinusoids and its token?
        pad            = True,       # Pad an image whose sides the patch does not divide, and crop the output back?
        time           = False,      # Does the network take a time step?
        context_dim    = None,       # Channels of a context token.
        context_tokens = None,       # How many, each with its position; None = any number, with one position for all.
        num_classes    = None,       # In place of context_dim: the context is class labels (N,), read from a table.
    ):
        super().__init__()
        self.patch_size, self.hidden_size, self.pad = patch_size, hidden_size, pad
        self.sizes = token_sizes(hidden_size, mlp_ratio, num_heads)
        self.grid = grid_of(image_size, patch_size, pad)
        self.time, self.context_tokens = time, context_tokens
        self.patches = nn.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size)
        self.time_mlp = nn.Sequential(nn.Linear(hidden_size, 4 * hidden_size), nn.SiLU(),
                                      nn.Linear(4 * hidden_size, hidden_size)) if time and mlp_time_embed else None
        self.classes = ClassTable(num_classes, hidden_size) if num_classes else None
        self.context = nn.Linear(context_dim, hidden_size) if context_dim else None
        self.extras = bool(num_classes) + bool(time) + (context_tokens or 1 if context_dim else 0)
        self.positions = nn.Parameter(torch.zeros(1, self.extras + self.grid[0] * self.grid[1], hidden_size))

        def block() -> TokenBlock:
            return TokenBlock(hidden_size, num_heads, mlp_ratio, norm_eps=norm_eps, qkv_bias=qkv_bias)

        join = choose("skip", skip, SKIPS)
        self.trunk = EncoderDecoder(
            encoder=[Step(block(), emits_skip=True) for _ in range(depth // 2)],
            middle=[block()],
            decoder=[Step(block(), skip=join(hidden_size, hidden_size)) for _ in range(depth // 2)],
            head=nn.Sequential(LayerNorm(hidden_size, eps=norm_eps),
                               nn.Linear(hidden_size, patch_size * patch_size * out_channels)))
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1) if conv else nn.Identity()
        self.apply(start)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:]
        x = self.patches(fit_patches(x, self.patch_size, self.pad))               # (N, C, rows, columns)
        grid = tuple(x.shape[2:])
        extras = self.extra_tokens(t, context, x.dtype)
        positions = self.positions_of(grid, sum(token.shape[1] for token in extras))
        x = torch.cat([*extras, x.flatten(2).transpose(1, 2)], dim=1) + positions  # (N, S + L, C)
        x = self.trunk(x)[:, -grid[0] * grid[1]:]                                 # (N, L, p p out)
        return self.conv(unpatch(x, grid, self.patch_size))[:, :, :height, :width]

    def extra_tokens(self, t: Tensor | None, context: Tensor | None, dtype: torch.dtype) -> list[Tensor]:
        """Class, time, context: whichever there are, each (N, S, C), in the published order."""
        if self.time and t is None:
            raise ValueError("this network was built with time=True: call it with t")
        if context is None and (self.context is not None or self.classes is not None):
            raise ValueError("this network was built with a context (context_dim or num_classes): call it with one")
        tokens = [] if self.classes is None else [self.classes(context)]
        if self.time:
            features = sinusoidal(t, self.hidden_size).to(dtype)[:, None]         # (N, 1, C)
            tokens.append(features if self.time_mlp is None else self.time_mlp(features))
        if self.context is not None:
            if self.context_tokens not in (None, context.shape[1]):
                raise ValueError(f"this network takes {self.context_tokens} context tokens, not {context.shape[1]}")
            tokens.append(self.context(context))
        return tokens

    def positions_of(self, grid: tuple[int, int], extras: int) -> Tensor:
        """Of ``extras`` tokens and a grid of patches -> (1, extras + rows columns, C)."""
        own, patches = self.positions.split([self.extras, self.grid[0] * self.grid[1]], dim=1)
        if extras != self.extras:                  # context tokens come last, and there the last position is theirs
            own = torch.cat([own[:, :-1], own[:, -1:].expand(-1, extras - self.extras + 1, -1)], dim=1)
        if grid != self.grid:
            patches = patches.transpose(1, 2).unflatten(2, self.grid)             # (1, C, rows, columns)
            patches = F.interpolate(patches, grid, mode="bicubic").flatten(2).transpose(1, 2)
        return torch.cat([own, patches], dim=1)


def start(layer: nn.Module) -> None:
    """Linear weights start from a normal of 0.02 and biases at zero, as in the published code."""
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def build(*, in_channels, out_channels, image_size, width=32, time=False, context_dim=None, **options) -> UViT:
    """A U-ViT of ``hidden_size`` 4 x ``width``; ``options`` are the arguments of :class:`UViT`.

    ``patch_size`` defaults to the smallest power of two, from 2, that leaves at most 16 tokens on a side of
    ``image_size`` (int or (H, W)), as for ``dit``.
    """
    options.setdefault("patch_size", patch_size_for(image_size))
    options.setdefault("hidden_size", 4 * width)
    return UViT(in_channels, out_channels, image_size=image_size, time=time, context_dim=context_dim, **options)
