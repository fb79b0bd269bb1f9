"""The U-Net whose levels hand one skip across: encoder, bottleneck, decoder, all by argument.

Level 0 has the image's size; every level down halves it. The last level is the bottleneck. A level is
``num_blocks`` blocks, each followed by attention where the level is in ``attention_levels``. The decoder
mirrors the encoder: double the size, take the skip, run the blocks.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from variants.parts.attention import SelfAttention, SpatialTransformer
from variants.parts.blocks import BLOCKS as ORDINARY_BLOCKS
from variants.parts.blocks import activation
from variants.parts.embedding import ConditionEmbedding
from variants.parts.encoder_decoder import EncoderDecoder, Step
from variants.parts.exits import EarlyExits, class_confidence
from variants.parts.light import LIGHT_BLOCKS
from variants.parts.normalization import normalization
from variants.parts.resampling import KEEPS_CHANNELS, downsample, upsample
from variants.parts.sizes import embedding_width, scaled_channels
from variants.parts.skips import SKIPS

CHANNEL_MULT = (1, 2, 4, 8)
BLOCKS = {**ORDINARY_BLOCKS, **LIGHT_BLOCKS}


def channel_mult_for(image_size, channel_mult=CHANNEL_MULT, smallest=2) -> tuple[int, ...]:
    """``channel_mult`` cut to as many levels as keep the deepest map at ``smallest`` pixels or more.

    ``image_size`` an int or (H, W). 64 keeps all four levels, 8 keeps three (8, 4, 2 pixels).
    """
    side = image_size if isinstance(image_size, int) else min(image_size)
    levels = 1
    while levels < len(channel_mult) and side >> levels >= smallest:
        levels += 1
    return tuple(channel_mult[:levels])


def choose(kind: str, name, known: dict):
    """What ``known`` has under ``name``, or ``name`` itself where it is a callable. Raises ValueError for no such."""
    if callable(name):
        return name
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r} (known: {', '.join(known)})")
    return known[name]


def factory(kind: str, name, known: dict, options: dict):
    """What builds the part called ``name`` with ``options``; a callable from outside builds as it is."""
    return partial(choose(kind, name, known), **options) if isinstance(name, str) else choose(kind, name, known)


def present(*layers: nn.Module) -> list[nn.Module]:
    """Those that do something."""
    return [layer for layer in layers if not isinstance(layer, nn.Identity)]


def smallest_side(levels: int, lost: int) -> int:
    """Side in pixels of the smallest image that leaves a map at every level and at the end.

    ``lost`` pixels of a side are what the convolutions of one level cut off: 0 where they are padded.
    """
    def left_of(side: int) -> int:
        for _ in range(levels - 1):
            side = (side - lost) // 2
        side -= lost
        for _ in range(levels - 1):
            side = 2 * side - lost if side > 0 else side
        return side

    side = 2 ** (levels - 1)
    while left_of(side) < 1:
        side += 1
    return side


class UNet(EncoderDecoder):
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
        block             = "plain",          # plain | residual | inverted | shuffle, or a callable (in, out, emb_dim).
        norm              = "group",          # group | batch | instance | none
        act               = "silu",           # silu | relu | gelu
        dropout           = 0.0,              # Inside the blocks.
        skip              = "concat",         # none | add | concat | gate, or a callable (below, side).
        skip_levels       = None,             # Levels whose skip is kept; None = all above the bottleneck.
        down              = "max_pool",       # max_pool | avg_pool | strided_conv | ... | block (the next one halves)
        up                = "transposed_conv",  # transposed_conv | nearest_conv | bilinear_conv | pixel_shuffle | ...
        attention         = "self",           # self | transformer (self- and cross-attention, feed-forward)
        attention_levels  = (),               # Levels with attention, in encoder and decoder.
        num_heads         = 4,                # Heads of every attention.
        time              = False,            # Does the network take a time step?
        time_conditioning = "add",            # add | scale_shift | add_before_norm | ada_zero (residual blocks)
        context_dim       = None,             # Channels of a context token; None = the network takes no context.
        context_by        = "add",            # add (pooled, to the time embedding) | attention (each token)
        channels          = None,             # Channels of each level, in place of width * channel_mult.
        decoder_channels  = None,             # Channels that each decoder level makes; None = the level's own.
        up_channels       = None,             # Channels that come up to each decoder level; None = the same.
        decoder_block     = None,             # As block, for the decoder; None = the same.
        bottleneck        = None,             # As block, for the last level; None = the same.
        block_options     = None,             # More arguments of every named block: padding, conv_bias, order, ...
        decoder_options   = None,             # The same, of the decoder's blocks only.
        stem              = None,             # A 3x3 convolution before the blocks? None = if pre-activated.
        first_options     = None,             # As block_options, of the first block; it then takes the image as it is.
        level_dropout     = None,             # A probability for each level, at its end and before its skip.
        skip_options      = None,             # More arguments of the named skip: skip_first, psi_norm, ...
        crops_skip        = False,            # Crop a side to what comes up, as valid convolutions need? Else pad that.
        up_options        = None,             # More arguments of the upsampling: kernel_size, align_corners.
        up_norm           = "none",           # After the upsampling.
        up_act            = "none",           # After that.
        head_norm         = None,             # Norm and activation before the last convolution? None = as need be.
        head_kernel       = 1,                # Of the last convolution.
        head_act          = "none",           # After it: none | sigmoid
        resize            = False,            # Interpolate an output of another size to the image's?
        exits             = (),               # Decoder levels, 1 or deeper, by whose heads an image may leave early.
        exit_threshold    = None,             # Confidence from which it does; None = all go to the end (see exits.py).
        confidence        = class_confidence,  # Of an exit's output; the default is for logits of classes.
    ):
        channels = list(channels or [width * mult for mult in channel_mult])
        bottom = len(channels) - 1
        kept = set(range(bottom)) if skip_levels is None else set(skip_levels)
        if not kept <= set(range(bottom)):
            raise ValueError(f"skip_levels {sorted(kept)} must be among the levels 0..{bottom - 1} above the "
                             "bottleneck")
        if not set(attention_levels) <= set(range(bottom + 1)):
            raise ValueError(f"attention_levels {tuple(attention_levels)} must be among the levels 0..{bottom}")
        if not set(exits) <= set(range(1, bottom)):
            raise ValueError(f"exits {tuple(exits)} must be among the decoder's levels 1..{bottom - 1}")
        if context_by not in ("add", "attention"):
            raise ValueError(f"unknown context_by {context_by!r} (known: add, attention)")
        if context_dim and context_by == "attention" and not (attention == "transformer" and attention_levels):
            raise ValueError("context_by='attention' needs attention='transformer' on at least one level")
        pooled_dim = context_dim if context_by == "add" else None
        emb_dim = 4 * width if time or pooled_dim else None
        embedding = ConditionEmbedding(emb_dim, width, time, pooled_dim) if emb_dim else None

        options = {"norm": norm, "activation_kind": act, "dropout": dropout, "time_conditioning": time_conditioning,
                   **(block_options or {})}
        make_block = factory("block", block, BLOCKS, options)
        make_decoder_block = factory("decoder_block", decoder_block or block, BLOCKS,
                                     {**options, **(decoder_options or {})})
        make_bottleneck = factory("bottleneck", bottleneck or block, BLOCKS, options)
        preactivated = getattr(choose("block", block, BLOCKS), "preactivated", False)
        make_skip = factory("skip", skip, SKIPS, skip_options or {})
        token_dim = context_dim if context_by == "attention" else None
        make_attention = choose("attention", attention, {
            "self": lambda c: SelfAttention(c, num_heads, norm),
            "transformer": lambda c: SpatialTransformer(c, num_heads, norm, token_dim)})

        def blocks(level: int, enters: int, leaves: int, make=make_block, **first) -> list[nn.Module]:
            """The level's blocks, from ``enters`` to ``leaves`` channels, each with its attention."""
            made = []
            for i in range(num_blocks):
                made.append(make(enters if i == 0 else leaves, leaves, emb_dim, **(first if i == 0 else {})))
                if level in attention_levels:
                    made.append(make_attention(leaves))
            return made

        # A pre-activated block would normalise the raw image; it gets features instead.
        stem = preactivated and first_options is None if stem is None else stem
        stem = [nn.Conv2d(in_channels, channels[0], 3, padding=1)] if stem else []
        stride = {"stride": 2} if down == "block" else {}

        def level(i: int) -> list[nn.Module]:
            """What the encoder has at level ``i``, the bottleneck included."""
            first = stride if i else first_options or {}
            make = make_bottleneck if i == bottom else make_block
            made = blocks(i, channels[i - 1] if i else channels[0] if stem else in_channels, channels[i], make, **first)
            drop = [nn.Dropout(level_dropout[i])] if level_dropout and level_dropout[i] else []
            return [*(stem if i == 0 else []), *made, *drop]

        encoder, decoder = [], []
        for i in range(bottom):
            encoder.append(Step(*level(i), emits_skip=True))
            if not stride:
                encoder.append(Step(downsample(down, channels[i])))
        middle = level(bottom)
        below = channels[bottom]
        for i in reversed(range(bottom)):
            rises = below if up in KEEPS_CHANNELS else up_channels[i] if up_channels else channels[i]
            leaves = decoder_channels[i] if decoder_channels else channels[i]
            joined = (make_skip if i in kept else SKIPS["none"])(rises, channels[i])
            after = present(normalization(up_norm, rises), activation(up_act))
            decoder += [Step(upsample(up, below, rises, **(up_options or {})), *after),
                        Step(*blocks(i, joined.out_channels, leaves, make_decoder_block), skip=joined,
                             crops_skip=crops_skip)]
            below = leaves
        head_norm = preactivated if head_norm is None else head_norm
        last = [normalization(norm, below), activation(act)] if head_norm else []
        head = nn.Sequential(*last, nn.Conv2d(below, out_channels, head_kernel, padding=head_kernel // 2),
                             *present(activation(head_act)))
        heads = {2 * (bottom - i) - 1: nn.Conv2d((decoder_channels or channels)[i], out_channels, 1) for i in exits}
        lost = 2 * num_blocks * options.get("num_convs", 2) * (1 - options.get("padding", 1))
        super().__init__(encoder, middle, decoder, head, embedding, smallest_side(bottom + 1, lost), resize,
                         EarlyExits(heads, exit_threshold, confidence) if heads else None)
        multiple = num_heads if attention_levels else 1
        self.sizes = {**scaled_channels(multiple, channels=channels, decoder_channels=decoder_channels,
                                        up_channels=up_channels), **embedding_width(width, emb_dim)}

    def module_paths(self) -> dict[str, list[str]]:
        """Where the parts of each level are in the state dict, level 0 first, for tables that rename their keys.

        ``block`` the first block of each encoder level and, last, of the bottleneck; ``up``, ``skip`` and
        ``decoder`` (its first block) of each decoder level; ``head`` the last convolution alone.
        """
        blocks = [i for i, step in enumerate(self.encoder) if step.emits_skip]
        ups = [2 * (len(blocks) - 1 - i) for i in range(len(blocks))]             # the decoder starts at the bottom
        head = next(i for i, layer in enumerate(self.head) if isinstance(layer, nn.Conv2d))
        return {"block": [f"encoder.{i}.parts.0" for i in blocks] + ["middle.parts.0"],
                "up": [f"decoder.{i}.parts" for i in ups], "skip": [f"decoder.{i + 1}.skip" for i in ups],
                "decoder": [f"decoder.{i + 1}.parts.0" for i in ups], "head": [f"head.{head}"]}
