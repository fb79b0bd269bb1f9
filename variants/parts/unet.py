"""The U-Net whose levels emit one skip each: encoder, bottleneck, decoder, all by argument.

Level 0 has the image's size; every level down halves it. The last level is the bottleneck. A level is
``num_blocks`` blocks, each followed by attention where the level is in ``attention_levels``. The decoder
mirrors the encoder: double the size, merge the skip, run the blocks.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from variants.parts.attention import SelfAttention, SpatialTransformer
from variants.parts.blocks import BLOCKS as ORDINARY_BLOCKS
from variants.parts.blocks import activation
from variants.parts.embedding import condition_embedding
from variants.parts.encoder_decoder import EncoderDecoder, Step
from variants.parts.light import LIGHT_BLOCKS
from variants.parts.normalization import normalization
from variants.parts.resampling import KEEPS_CHANNELS, downsample, upsample
from variants.parts.sizes import embedding_width, scaled_channels
from variants.parts.skips import SKIPS, NoSkip

CHANNEL_MULT = (1, 2, 4, 8)
BLOCKS = {**ORDINARY_BLOCKS, **LIGHT_BLOCKS}


def channel_mult_for(image_size, channel_mult=CHANNEL_MULT, smallest=2) -> tuple[int, ...]:
    """Return ``channel_mult`` cut to as many levels as keep the deepest map at ``smallest`` pixels or more.

    ``image_size`` an int or (H, W). 64 keeps all four levels, 8 keeps three (8, 4, 2 pixels).
    """
    side = image_size if isinstance(image_size, int) else min(image_size)
    levels = 1
    while levels < len(channel_mult) and side >> levels >= smallest:
        levels += 1
    return tuple(channel_mult[:levels])


def choose(kind: str, name, known: dict):
    """Return ``known[name]``, or ``name`` itself where it is a callable. Raises ValueError for an unknown name."""
    if callable(name):
        return name
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r} (known: {', '.join(known)})")
    return known[name]


def factory(kind: str, name, known: dict, options: dict):
    """Return what builds the part called ``name`` with ``options``; a callable from outside builds as it is."""
    return partial(choose(kind, name, known), **options) if isinstance(name, str) else choose(kind, name, known)


def check_attention(levels, bottom: int, attention, token_dim: int | None) -> None:
    """Raise ValueError for levels that there are not, and for tokens that no attention reads."""
    if not set(levels) <= set(range(bottom + 1)):
        raise ValueError(f"attention_levels {tuple(levels)} must be among the levels 0..{bottom}")
    if token_dim and attention != "transformer":
        raise ValueError("context_by='attention' needs attention='transformer'")


class UNet(EncoderDecoder):
    """Build a U-Net over the contract of ``variants``: (N, in_channels, H, W) -> (N, out_channels, H, W).

    Each part is built by a method below, which a subclass overrides: PublishedUNet for details of published networks.
    Raises ValueError for an unknown choice, and in ``forward`` for an image too small for the depth.

    >>> UNet(in_channels=3, out_channels=2, channels=(32, 64, 128), skip="gate")      # doctest: +SKIP
    """

    def __init__(self,
        in_channels,                            # Channels of the image (and of anything concatenated to it).
        out_channels,                           # Channels of the output: classes, noise, colours.
        channels,                               # Channels of each level; the last one is the bottleneck.
        *,
        num_blocks        = 1,                  # Blocks per level; a block holds two convolutions.
        block             = "plain",            # plain | residual | inverted | shuffle | callable (in, out, emb_dim)
        norm              = "group",            # group | batch | instance | none
        act               = "silu",             # silu | relu | gelu
        dropout           = 0.0,                # Inside the blocks.
        skip              = "concat",           # none | add | concat | gate | callable (channels, skip_channels)
        skip_levels       = None,               # Levels whose skip is kept; None = all above the bottleneck.
        down              = "max_pool",         # max_pool | avg_pool | strided_conv | ... | block (the next one halves)
        up                = "transposed_conv",  # transposed_conv | nearest_conv | bilinear_conv | pixel_shuffle | ...
        attention         = "self",             # self | transformer (self- and cross-attention, feed-forward)
        attention_levels  = (),                 # Levels with attention, in encoder and decoder.
        num_heads         = 4,                  # Heads of every attention.
        embedding         = None,               # Module (t, context) -> (N, embedding.dim); None = no condition.
        time_conditioning = "add",              # add | scale_shift | add_before_norm | ada_zero (residual blocks)
        token_dim         = None,               # Channels of the context tokens that transformers read; None = none.
    ):
        self.in_channels, self.out_channels, self.channels = in_channels, out_channels, tuple(channels)
        self.num_blocks, self.norm, self.act, self.down, self.up = num_blocks, norm, act, down, up
        self.bottom, self.attention_levels = len(self.channels) - 1, set(attention_levels)
        above = set(range(self.bottom))
        self.skip_levels = above if skip_levels is None else set(skip_levels)
        if not self.skip_levels <= above:
            raise ValueError(f"skip_levels {sorted(self.skip_levels)} must be among the levels 0..{self.bottom - 1} "
                             "above the bottleneck")
        check_attention(attention_levels, self.bottom, attention, token_dim)
        if token_dim and not attention_levels:
            raise ValueError("context_by='attention' needs attention='transformer' on at least one level")
        self.emb_dim = embedding.dim if embedding is not None else None
        self.preactivated = getattr(choose("block", block, BLOCKS), "preactivated", False)
        self.block, self.block_options = block, {
            "norm": norm, "activation_kind": act, "dropout": dropout, "time_conditioning": time_conditioning}
        self.make_skip = choose("skip", skip, SKIPS)
        self.make_attention = factory("attention", attention, {
            "self": SelfAttention, "transformer": partial(SpatialTransformer, context_dim=token_dim)},
            {"num_heads": num_heads, "norm": norm})
        encoder = [step for level in range(self.bottom) for step in self.encoder_level(level)]
        middle = self.encoder_blocks(self.bottom)
        decoder = [step for level in reversed(range(self.bottom)) for step in self.decoder_level(level)]
        super().__init__(encoder, middle, decoder, self.make_head(), embedding, smallest=2 ** self.bottom)
        self.sizes = {**scaled_channels(num_heads if attention_levels else 1, channels=self.channels),
                      **embedding_width(embedding)}

    def encoder_level(self, level: int) -> list[Step]:
        """Build the step that emits the level's skip, and the one that halves the size, unless the next block does."""
        steps = [Step(*self.encoder_blocks(level), emits_skip=True)]
        return steps if self.down == "block" else [*steps, Step(downsample(self.down, self.channels[level]))]

    def decoder_level(self, level: int) -> list[Step]:
        """Build the step that doubles the size, and the one that merges the skip."""
        rising = self.rising_channels(level)
        skip = (self.make_skip if level in self.skip_levels else NoSkip)(rising, self.channels[level])
        larger = self.make_upsampling(self.decoder_channels(level + 1), rising)
        blocks = self.make_blocks("decoder", level, skip.out_channels, self.decoder_channels(level))
        return [Step(*larger), Step(*blocks, skip=skip)]

    def encoder_blocks(self, level: int) -> list[nn.Module]:
        """Build the stem, where there is one, and the blocks of a level of the encoder or of the bottleneck."""
        stem = self.make_stem() if level == 0 else []
        enters = self.channels[level - 1] if level else self.channels[0] if stem else self.in_channels
        first = {"stride": 2} if level and self.down == "block" else {}
        part = "bottleneck" if level == self.bottom else "encoder"
        return [*stem, *self.make_blocks(part, level, enters, self.channels[level], **first)]

    def make_stem(self) -> list[nn.Module]:
        """Build a 3x3 convolution before pre-activated blocks, which would normalise the raw image."""
        return [nn.Conv2d(self.in_channels, self.channels[0], 3, padding=1)] if self.preactivated else []

    def make_blocks(self, part: str, level: int, in_channels: int, out_channels: int, **first) -> list[nn.Module]:
        """Build the level's blocks, each with its attention; ``first`` are further options of the first block."""
        made = []
        for i in range(self.num_blocks):
            made.append(self.make_block(part, out_channels if i else in_channels, out_channels, **({} if i else first)))
            if level in self.attention_levels:
                made.append(self.make_attention(out_channels))
        return made

    def make_block(self, part: str, in_channels: int, out_channels: int, **options) -> nn.Module:
        """Build one block of the ``part``: encoder, bottleneck or decoder."""
        make = factory("block", self.block, BLOCKS, self.block_options)
        return make(in_channels, out_channels, self.emb_dim, **options)

    def rising_channels(self, level: int) -> int:
        """Return how many channels come up to a decoder level."""
        return self.decoder_channels(level + 1) if self.up in KEEPS_CHANNELS else self.channels[level]

    def decoder_channels(self, level: int) -> int:
        """Return how many channels a decoder level makes; the last level is the bottleneck."""
        return self.channels[level]

    def make_upsampling(self, in_channels: int, out_channels: int) -> list[nn.Module]:
        """Build what doubles the size."""
        return [upsample(self.up, in_channels, out_channels)]

    def make_head(self) -> nn.Sequential:
        """Build the last convolution, after norm and activation where the blocks end without."""
        channels = self.decoder_channels(0)
        before = [normalization(self.norm, channels), activation(self.act)] if self.preactivated else []
        return nn.Sequential(*before, nn.Conv2d(channels, self.out_channels, 1))


def build_unet(network, *, in_channels, out_channels, image_size, width=32, channel_mult=None, channels=None,
               time=False, context_dim=None, context_by="add", **options) -> UNet:
    """Build ``network`` (a class like :class:`UNet`) from the arguments of a variant's ``build``.

    Level i has ``channels[i]`` channels, by default ``width`` * ``channel_mult[i]``; ``channel_mult`` defaults to
    (1, 2, 4, 8), cut to the levels that an image of ``image_size`` (int or (H, W)) can carry. ``options`` are the
    other arguments of ``network``. Raises ValueError for an unknown ``context_by``.
    """
    embedding, token_dim = condition_embedding(width, time, context_dim, context_by)
    channels = channels or [width * mult for mult in channel_mult or channel_mult_for(image_size)]
    return network(in_channels, out_channels, channels, embedding=embedding, token_dim=token_dim, **options)
