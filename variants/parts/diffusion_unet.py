"""The U-Net of the diffusion papers, whose encoder leaves a side after every block.

Level 0 has the image's size; every level down halves it. Encoder: an input convolution, then ``num_blocks``
residual blocks per level and a downsampling, each of which leaves its output at the side. Middle: block,
self-attention, block, at the last level. Decoder: ``num_blocks`` + 1 blocks per level, each taking one side.
DDPM (Ho et al. 2020, arXiv:2006.11239, App. B), improved DDPM, ADM and LDM are rows of its arguments.
"""

from __future__ import annotations

import math
from functools import partial

from torch import nn

from variants.parts.attention import AttentionPool, SelfAttention, SpatialTransformer
from variants.parts.blocks import ResidualBlock, activation
from variants.parts.embedding import ConditionEmbedding
from variants.parts.encoder_decoder import EncoderDecoder, Step
from variants.parts.normalization import normalization
from variants.parts.resampling import downsample, upsample
from variants.parts.sizes import embedding_width, scaled_channels
from variants.parts.skips import SKIPS, ConcatSkip
from variants.parts.unet import choose

DIFFUSION_SKIPS = {**SKIPS, "concat": partial(ConcatSkip, skip_first=False)}


class DiffusionUNet(EncoderDecoder):
    """A diffusion U-Net over the contract of ``variants``: (N, in_channels, H, W) -> (N, out_channels, H, W).

    The defaults are DDPM's, but for the norm, which fits itself to narrow layers. Raises ValueError for an
    unknown choice, and in ``forward`` for an image too small for the depth.
    """

    def __init__(self,
        in_channels,                          # Channels of the image (and of anything concatenated to it).
        out_channels,                         # Channels of the output: noise, or noise and its variance.
        *,
        width             = 32,               # Channels per unit of channel_mult, and sinusoids of the time step.
        channel_mult      = (1, 2, 2, 2),     # Channels of level i are width * channel_mult[i], rounded down.
        stem_channels     = None,             # Channels of the input convolution; None = those of level 0.
        num_blocks        = 2,                # Residual blocks per level; the decoder has one more.
        norm              = "group",          # group | group32 (as published) | batch | instance | none
        norm_eps          = 1e-5,
        act               = "silu",           # silu | relu | gelu
        dropout           = 0.0,              # Inside the blocks.
        skip              = "concat",         # none | add | concat (the side behind) | gate
        down              = "strided_conv",   # max_pool | avg_pool | strided_conv | padded_strided_conv | block
        up                = "nearest_conv",   # transposed_conv | nearest_conv | ... | nearest | block
        attention         = "self",           # self | transformer (self- and cross-attention, feed-forward)
        attention_levels  = (),               # Levels with attention after every block; the middle always has it.
        num_heads         = 1,                # Heads of every attention.
        num_heads_up      = None,             # Heads of self-attention in the decoder; None = num_heads.
        head_channels     = None,             # Channels per head, in place of num_heads.
        cut_heads         = False,            # A transformer that these do not divide: drop the rest? Else widen heads.
        qkv_order         = "split_first",    # split_first | heads_first
        transformer_depth = 1,                # Transformer blocks per attention.
        zero_last         = True,             # Start blocks, self-attention and output at zero (DDPM's code).
        time              = False,            # Does the network take a time step?
        time_conditioning = "add_before_norm",  # add_before_norm | add | scale_shift
        sinusoid_order    = "sin_cos",        # sin_cos | cos_sin | interleaved
        frequency_shift   = 1,                # 1 = the last frequency is 1 / 10 000; 0 = it is a step short of that.
        table_steps       = None,             # Look sinusoids up in a frozen table of so many steps; None = compute.
        context_dim       = None,             # Channels of a context token; None = the network takes no tokens.
        context_by        = "add",            # add (pooled, to the time embedding) | attention (each token)
        num_classes       = None,             # Classes that the context may name; None = no class table.
        pool              = None,             # Do not decode but classify, (N, out_channels), by mean | attention.
        pool_size         = None,             # Side of the last level's maps, for pool="attention".
        channels          = None,             # Channels of each level, in place of width * channel_mult.
    ):
        channels = list(channels or [int(width * mult) for mult in channel_mult])
        own_stem, stem_channels = stem_channels, stem_channels or channels[0]
        bottom = len(channels) - 1
        if not set(attention_levels) <= set(range(bottom + 1)):
            raise ValueError(f"attention_levels {tuple(attention_levels)} must be among the levels 0..{bottom}")
        if context_by not in ("add", "attention"):
            raise ValueError(f"unknown context_by {context_by!r} (known: add, attention)")
        if context_dim and context_by == "attention" and attention != "transformer":
            raise ValueError("context_by='attention' needs attention='transformer'")
        pooled_dim, token_dim = (context_dim, None) if context_by == "add" else (None, context_dim)
        emb_dim = 4 * width if time or pooled_dim or num_classes else None
        embedding = ConditionEmbedding(emb_dim, width, time, pooled_dim, num_classes, order=sinusoid_order,
                                       frequency_shift=frequency_shift, table_steps=table_steps) if emb_dim else None
        if pool not in (None, "mean", "attention"):
            raise ValueError(f"unknown pool {pool!r} (known: mean, attention)")
        make_skip = choose("skip", skip, DIFFUSION_SKIPS)

        def block(c_in: int, c_out: int, resample: str | None = None) -> nn.Module:
            return ResidualBlock(c_in, c_out, emb_dim, norm, act, dropout, time_conditioning, norm_eps, resample,
                                 zero_last)

        def self_attention(c: int, heads: int) -> nn.Module:
            if head_channels:
                if c % head_channels:
                    raise ValueError(f"head_channels={head_channels} does not divide {c} channels")
                heads = c // head_channels
            return SelfAttention(c, heads, norm, norm_eps, qkv_order, zero_last)

        def transformer(c: int, _heads_up: int) -> nn.Module:
            heads = c // head_channels if head_channels else num_heads
            return SpatialTransformer(c, heads, norm, token_dim, transformer_depth,
                                      head_channels if head_channels and cut_heads else c // heads)

        attend = choose("attention", attention, {"self": self_attention, "transformer": transformer})

        def attended(level: int, heads: int) -> list[nn.Module]:
            return [attend(channels[level], heads)] if level in attention_levels else []

        leaves = pool is None
        encoder = [Step(nn.Conv2d(in_channels, stem_channels, 3, padding=1), emits_skip=leaves)]
        sides, now = [stem_channels], stem_channels
        for i in range(bottom + 1):
            for _ in range(num_blocks):
                encoder.append(Step(block(now, channels[i]), *attended(i, num_heads), emits_skip=leaves))
                now = channels[i]
                sides.append(now)
            if i < bottom:
                smaller = block(now, now, "down") if down == "block" else downsample(down, now)
                encoder.append(Step(smaller, emits_skip=leaves))
                sides.append(now)
        middle = [block(now, now), attend(now, num_heads), block(now, now)]
        decoder = []
        for i in reversed(range(bottom + 1)) if pool is None else ():
            for j in range(num_blocks + 1):
                joined = make_skip(now, sides.pop())
                now = channels[i]
                larger = []
                if i and j == num_blocks:
                    larger = [block(now, now, "up") if up == "block" else upsample(up, now, now)]
                decoder.append(Step(block(joined.out_channels, now), *attended(i, num_heads_up or num_heads), *larger,
                                    skip=joined))
        if pool == "attention":
            last = [AttentionPool(now, out_channels, pool_size, now // head_channels if head_channels else num_heads)]
        else:
            out = nn.Conv2d(now, out_channels, 1) if pool else nn.Conv2d(now, out_channels, 3, padding=1)
            if zero_last:
                nn.init.zeros_(out.weight)
                nn.init.zeros_(out.bias)
            last = [nn.AdaptiveAvgPool2d(1), out, nn.Flatten()] if pool else [out]
        head = nn.Sequential(normalization(norm, now, norm_eps), activation(act), *last)
        super().__init__(encoder, middle, decoder, head, embedding, smallest=2 ** bottom)
        multiple = math.lcm(head_channels or math.lcm(num_heads, num_heads_up or 1), 32 if norm == "group32" else 1)
        self.sizes = {**scaled_channels(multiple, channels=channels, stem_channels=own_stem),
                      **embedding_width(width, emb_dim)}
