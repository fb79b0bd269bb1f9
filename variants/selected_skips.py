"""U-Net with the skips of chosen levels only: which of them carry what the decoder needs?"""

from __future__ import annotations

from variants import plain
from variants.parts.unet import channel_mult_for


def build(*, image_size, skip_levels=None, **arguments):
    """``plain`` with skips at ``skip_levels`` (any subset of the levels above the bottleneck) and nowhere else.

    The default drops the top skip alone, which was the best choice in and out of domain in Wilm et al. 2024
    (arXiv:2402.08276).
    """
    levels = len(arguments.setdefault("channel_mult", channel_mult_for(image_size)))
    skip_levels = tuple(range(1, levels - 1)) if skip_levels is None else tuple(skip_levels)
    return plain.build(image_size=image_size, skip_levels=skip_levels, **arguments)
