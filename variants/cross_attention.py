"""Stable-Diffusion-style U-Net: residual blocks, and transformer blocks with self- and cross-attention."""

from __future__ import annotations

from variants import plain
from variants.parts.unet import channel_mult_for

LARGEST_ATTENDED = 16   # pixels on a side: attention's cost grows with the fourth power of it


def build(*, image_size, **arguments):
    """``plain`` with residual blocks and spatial transformers (Rombach et al. 2022, arXiv:2112.10752).

    The context, where there is one, is read by cross-attention and by nothing else; without one,
    cross-attention attends to the image itself. ``attention_levels`` defaults to the levels whose maps
    are at most 16 pixels on the longer side, or the bottleneck where none is.
    """
    channel_mult = arguments.setdefault("channel_mult", channel_mult_for(image_size))
    side = image_size if isinstance(image_size, int) else max(image_size)
    small = tuple(i for i in range(len(channel_mult)) if side >> i <= LARGEST_ATTENDED)
    arguments.setdefault("attention_levels", small or (len(channel_mult) - 1,))
    return plain.build(image_size=image_size, block="residual", attention="transformer", context_by="attention",
                       **arguments)
