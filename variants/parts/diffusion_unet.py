"""The U-Net of the diffusion papers, whose encoder emits a skip after every block.

Level 0 has the image's size; every level down halves it. Encoder: an input convolution, then ``num_blocks``
residual blocks per level and a downsampling, each of which emits its output as a skip. Middle: block,
self-attention, block, at the last level. Decoder: ``num_blocks`` + 1 blocks per level, each merging one skip.
DDPM (Ho et al. 2020, arXiv:2006.11239, App. B), improved DDPM, ADM and LDM are rows of arguments of
:class:`variants.presets.published.PublishedDiffusionUNet`.
"""

from __future__ import annotations

import math
from functools import partial

from torch import nn

from variants.parts.attention import SelfAttention, SpatialTransformer
from variants.parts.blocks import ResidualBlock, activation
from variants.parts.encoder_decoder import EncoderDecoder, Step
from variants.parts.normalization import normalization
from variants.parts.resampling import downsample, upsample
from variants.parts.sizes import embedding_width, scaled_channels
from variants.parts.skips import SKIPS, ConcatSkip
from variants.parts.unet import check_attention, choose

DIFFUSION_SKIPS = {**SKIPS, "concat": partial(ConcatSkip, skip_first=False)}


class DiffusionUNet(EncoderDecoder):
    """Build a diffusion U-Net over the contract of ``variants``: (N, in_channels, H, W) -> (N, out_channels, H, W).

    The defaults are DDPM's, but for the norm, which fits itself to narrow layers. Raises ValueError for an
    unknown choice, and in ``forward`` for an image too small for the depth.
    """

    norm_eps, stem_channels = 1e-5, None      # of every norm; of the input convolution, None = those of level 0

    def __init__(self,
        in_channels,                            # Channels of the image (and of anything concatenated to it).
        out_channels,                           # Channels of the output: noise, or noise and its variance.
        channels,                               # Channels of each level.
        *,
        num_blocks        = 2,                  # Residual blocks per level; the decoder has one more.
        norm              = "group",            # group | group32 (as published) | batch | instance | none
        act               = "silu",             # silu | relu | gelu
        dropout           = 0.0,                # Inside the blocks.
        skip              = "concat",           # none | add | concat (the skip behind) | gate
        down              = "strided_conv",     # max_pool | avg_pool | strided_conv | padded_strided_conv | block
        up                = "nearest_conv",     # transposed_conv | nearest_conv | ... | nearest | block
        attention         = "self",             # self | transformer (self- and cross-attention, feed-forward)
        attention_levels  = (),                 # Levels with attention after every block; the middle always has it.
        num_heads         = 1,                  # Heads of every attention.
        head_channels     = None,               # Channels per head, in place of num_heads.
        zero_last         = True,               # Start blocks, self-attention and output at zero (DDPM's code).
        embedding         = None,               # Module (t, context) -> (N, embedding.dim); None = no condition.
        time_conditioning = "add_before_norm",  # add_before_norm | add | scale_shift
        token_dim         = None,               # Channels of the context tokens that transformers read; None = none.
    ):
        self.in_channels, self.out_channels, self.channels = in_channels, out_channels, tuple(channels)
        self.num_blocks, self.norm, self.act, self.dropout = num_blocks, norm, act, dropout
        self.down, self.up, self.make_skip = down, up, choose("skip", skip, DIFFUSION_SKIPS)
        self.bottom, self.attention_levels = len(self.channels) - 1, set(attention_levels)
        check_attention(attention_levels, self.bottom, attention, token_dim)
        self.attention, self.num_heads, self.head_channels = attention, num_heads, head_channels
        self.zero_last, self.time_conditioning, self.token_dim = zero_last, time_conditioning, token_dim
        self.emb_dim = embedding.dim if embedding is not None else None
        encoder, last = self.make_encoder(), self.channels[-1]
        middle = [self.make_block(last, last), self.make_attention(last), self.make_block(last, last)]
        super().__init__(encoder, middle, self.make_decoder(), self.make_head(), embedding, smallest=2 ** self.bottom)
        multiple = math.lcm(head_channels or num_heads, 32 if norm == "group32" else 1)
        self.sizes = {**scaled_channels(multiple, channels=self.channels, stem_channels=self.stem_channels),
                      **embedding_width(embedding)}

    def make_encoder(self) -> list[Step]:
        """Build the input convolution, and every level's blocks and downsampling; each step emits a skip."""
        now = self.stem_channels or self.channels[0]
        steps = [Step(nn.Conv2d(self.in_channels, now, 3, padding=1), emits_skip=True)]
        for level, channels in enumerate(self.channels):
            for _ in range(self.num_blocks):
                steps.append(Step(self.make_block(now, channels), *self.level_attention(level), emits_skip=True))
                now = channels
            if level < self.bottom:
                smaller = self.make_block(now, now, "down") if self.down == "block" else downsample(self.down, now)
                steps.append(Step(smaller, emits_skip=True))
        return steps

    def make_decoder(self) -> list[Step]:
        """Build every level's blocks, each merging a skip, and upsampling, from the last level to the first."""
        emitted = [self.stem_channels or self.channels[0]]
        for level, channels in enumerate(self.channels):
            emitted += [channels] * (self.num_blocks + (level < self.bottom))
        steps, now = [], self.channels[-1]
        for level in reversed(range(self.bottom + 1)):
            for i in range(self.num_blocks + 1):
                skip = self.make_skip(now, emitted.pop())
                now = self.channels[level]
                larger = [self.make_upsampling(now)] if level and i == self.num_blocks else []
                block = self.make_block(skip.out_channels, now)
                steps.append(Step(block, *self.level_attention(level, up=True), *larger, skip=skip))
        return steps

    def make_upsampling(self, channels: int) -> nn.Module:
        """Build what doubles the size."""
        if self.up == "block":
            return self.make_block(channels, channels, "up")
        return upsample(self.up, channels, channels)

    def make_block(self, in_channels: int, out_channels: int, resample: str | None = None) -> nn.Module:
        """Build a residual block, which itself halves or doubles the size where ``resample`` is down or up."""
        return ResidualBlock(in_channels, out_channels, self.emb_dim, self.norm, self.act, self.dropout,
                             self.time_conditioning, self.norm_eps, resample, self.zero_last)

    def level_attention(self, level: int, up: bool = False) -> list[nn.Module]:
        """Build what follows a block of the level: attention, or nothing."""
        return [self.make_attention(self.channels[level], up)] if level in self.attention_levels else []

    def make_attention(self, channels: int, up: bool = False) -> nn.Module:
        """Build attention over a map of so many channels; ``up``: in the decoder."""
        make = choose("attention", self.attention, {"self": self.self_attention, "transformer": self.transformer})
        return make(channels, up)

    def self_attention(self, channels: int, up: bool, **options) -> SelfAttention:
        """Build self-attention. Raises ValueError where ``head_channels`` does not divide ``channels``."""
        if self.head_channels and channels % self.head_channels:
            raise ValueError(f"head_channels={self.head_channels} does not divide {channels} channels")
        return SelfAttention(channels, self.heads_of(channels, up), self.norm, self.norm_eps,
                             zero_last=self.zero_last, **options)

    def transformer(self, channels: int, up: bool, **options) -> SpatialTransformer:
        """Build a spatial transformer, whose heads together have the map's channels."""
        heads = self.heads_of(channels)
        return SpatialTransformer(channels, heads, self.norm, self.token_dim,
                                  **{"head_channels": channels // heads, **options})

    def heads_of(self, channels: int, up: bool = False) -> int:
        """Return the number of heads of an attention."""
        return channels // self.head_channels if self.head_channels else self.num_heads

    def make_head(self) -> nn.Sequential:
        """Build norm, activation and the last convolution."""
        last = self.last_convolution(self.channels[0], 3)
        return nn.Sequential(*self.normed(self.channels[0]), last)

    def normed(self, channels: int) -> list[nn.Module]:
        """Build the norm and activation before the last layers."""
        return [normalization(self.norm, channels, self.norm_eps), activation(self.act)]

    def last_convolution(self, channels: int, kernel: int) -> nn.Conv2d:
        """Build the convolution that makes the output, which with ``zero_last`` starts at zero."""
        layer = nn.Conv2d(channels, self.out_channels, kernel, padding=kernel // 2)
        if self.zero_last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        return layer
