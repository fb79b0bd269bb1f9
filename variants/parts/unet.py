"""The U-Net whose levels hand one skip across: encoder, bottleneck, decoder, all by argument.

Level 0 has the image's size; every level down halves it. The last level is the bottleneck. A level is
``num_blocks`` blocks, each followed by attention where the level is in ``attention_levels``. The decoder
mirrors the encoder: double the size, take the skip, run the blocks.
"""

from __future__ import annotations

from torch import nn

from variants.parts.attention import SelfAttention, SpatialTransformer
from variants.parts.blocks import BLOCKS, activation
from variants.parts.embedding import ConditionEmbedding
from variants.parts.normalization import normalization
from variants.parts.resampling import downsample, upsample
from variants.parts.skeleton import Skeleton, Step
from variants.parts.skips import SKIPS

CHANNEL_MULT = (1, 2, 4, 8)


def channel_mult_for(image_size, channel_mult=CHANNEL_MULT, smallest=2) -> tuple[int, ...]:
    """``channel_mult`` cut to as many levels as keep the deepest map at ``smallest`` pixels or more.

    ``image_size`` an int or (H, W). 64 keeps all four levels, 8 keeps three (8, 4, 2 pixels).
    """
    side = image_size if isinstance(image_size, int) else min(image_size)
    levels = 1
    while levels < len(channel_mult) and side >> levels >= smallest:
        levels += 1
    return tuple(channel_mult[:levels])


def choose(kind: str, name: str, known: dict):
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r} (known: {', '.join(known)})")
    return known[name]


class UNet(Skeleton):
    """A U-Net over the contract of ``variants``: (N, in_channels, H, W) -> (N, out_channels, H, W).

    Raises ValueError for an unknown choice, and in ``forward`` for an image too small for the depth.
    """

    def __init__(self,
        in_channels,                          # Channels of the image (and of anything concatenated to it).
        out_channels,                         # Channels of the output: classes, noise, colours.
        *,
        width             = 32,               # Channels of level 0.
        channel_mult      = CHANNEL_MULT,     # Channels of level i are width * channel_mult[i]; one entry per level.
        num_blocks        = 1,                # Blocks per level; a block holds two convolutions.
        block             = "plain",          # plain | residual
        norm              = "group",          # group | batch | instance | none
        act               = "silu",           # silu | relu | gelu
        dropout           = 0.0,              # Inside the blocks.
        skip              = "concat",         # none | add | concat | gate
        skip_levels       = None,             # Levels whose skip is kept; None = all above the bottleneck.
        down              = "max_pool",       # max_pool | avg_pool | strided_conv
        up                = "transposed_conv",  # transposed_conv | nearest_conv | bilinear_conv | pixel_shuffle
        attention         = "self",           # self | transformer (self- and cross-attention, feed-forward)
        attention_levels  = (),               # Levels with attention, in encoder and decoder.
        num_heads         = 4,                # Heads of every attention.
        time              = False,            # Is the network told a time step?
        time_conditioning = "add",            # add | scale_shift
        context_dim       = None,             # Channels of a context token; None = the network takes no context.
        context_by        = "add",            # add (pooled, to the time embedding) | attention (each token)
    ):
        channels = [width * mult for mult in channel_mult]
        bottom = len(channels) - 1
        kept = set(range(bottom)) if skip_levels is None else set(skip_levels)
        if not kept <= set(range(bottom)):
            raise ValueError(f"skip_levels {sorted(kept)} must be among the levels 0..{bottom - 1} above the "
                             "bottleneck")
        if not set(attention_levels) <= set(range(bottom + 1)):
            raise ValueError(f"attention_levels {tuple(attention_levels)} must be among the levels 0..{bottom}")
        if context_by not in ("add", "attention"):
            raise ValueError(f"unknown context_by {context_by!r} (known: add, attention)")
        if context_dim and context_by == "attention" and not (attention == "transformer" and attention_levels):
            raise ValueError("context_by='attention' needs attention='transformer' on at least one level")
        pooled_dim = context_dim if context_by == "add" else None
        emb_dim = 4 * width if time or pooled_dim else None
        embedding = ConditionEmbedding(emb_dim, width, time, pooled_dim) if emb_dim else None

        make_block = choose("block", block, BLOCKS)
        make_skip = choose("skip", skip, SKIPS)
        token_dim = context_dim if context_by == "attention" else None
        make_attention = choose("attention", attention, {
            "self": lambda c: SelfAttention(c, num_heads, norm),
            "transformer": lambda c: SpatialTransformer(c, num_heads, norm, token_dim)})

        def blocks(level: int, enters: int) -> list[nn.Module]:
            """The level's blocks, from ``enters`` channels to the level's own, each with its attention."""
            made = []
            for i in range(num_blocks):
                made.append(make_block(enters if i == 0 else channels[level], channels[level], emb_dim, norm, act,
                                       dropout, time_conditioning))
                if level in attention_levels:
                    made.append(make_attention(channels[level]))
            return made

        # A pre-activated block would normalise the raw image; it gets features instead.
        stem = [nn.Conv2d(in_channels, channels[0], 3, padding=1)] if make_block.preactivated else []
        encoder, decoder = [], []
        for i in range(bottom):
            enters = channels[i - 1] if i else channels[0] if stem else in_channels
            encoder += [Step(*(stem if i == 0 else []), *blocks(i, enters), leaves=True),
                        Step(downsample(down, channels[i]))]
        enters = channels[bottom - 1] if bottom else channels[0] if stem else in_channels
        middle = [*(stem if bottom == 0 else []), *blocks(bottom, enters)]
        for i in reversed(range(bottom)):
            joined = (make_skip if i in kept else SKIPS["none"])(channels[i], channels[i])
            decoder += [Step(upsample(up, channels[i + 1], channels[i])),
                        Step(*blocks(i, joined.out_channels), skip=joined)]
        last = [normalization(norm, channels[0]), activation(act)] if make_block.preactivated else []
        head = nn.Sequential(*last, nn.Conv2d(channels[0], out_channels, 1))
        super().__init__(encoder, middle, decoder, head, embedding, smallest=2 ** bottom)
