"""Diffusion U-Net: time-conditioned residual blocks, skips after every block, self-attention at low resolution."""

from __future__ import annotations

from variants.parts.diffusion_unet import DiffusionUNet
from variants.parts.embedding import condition_embedding
from variants.parts.unet import channel_mult_for

CHANNEL_MULT = (1, 2, 2, 2)
LARGEST_ATTENDED = 16   # pixels on a side, as published for every image size


def build(*,
    in_channels,
    out_channels,
    image_size,
    width            = 32,
    channel_mult     = None,         # Channels of level i are width * channel_mult[i], rounded down.
    channels         = None,         # Channels of each level, in place of these two.
    time             = False,
    context_dim      = None,
    context_by       = "add",        # add (pooled, to the time embedding) | attention (each token)
    num_classes      = None,         # Classes that the context may name; None = no class table.
    sinusoid_order   = "sin_cos",    # sin_cos | cos_sin | interleaved
    frequency_shift  = 1,            # 1 = the last frequency is 1 / 10 000; 0 = it is a step short of that.
    table_steps      = None,         # Look sinusoids up in a frozen table of so many steps; None = compute.
    attention_levels = None,
    **options,                       # The other arguments of DiffusionUNet.
) -> DiffusionUNet:
    """Build the network of DDPM (Ho et al. 2020, arXiv:2006.11239, App. B), with GroupNorm fitted to narrow layers.

    ``channel_mult`` defaults to (1, 2, 2, 2), cut to the levels that ``image_size`` (int or (H, W)) can carry,
    ``attention_levels`` to the one whose maps are 16 pixels on the longer side, or the nearest below; the
    middle has attention in any case.
    """
    embedding, token_dim = condition_embedding(width, time, context_dim, context_by, num_classes=num_classes,
                                               order=sinusoid_order, frequency_shift=frequency_shift,
                                               table_steps=table_steps)
    channel_mult = channel_mult or channel_mult_for(image_size, CHANNEL_MULT)
    if attention_levels is None:
        side = image_size if isinstance(image_size, int) else max(image_size)
        attention_levels = tuple(i for i in range(len(channel_mult)) if side >> i <= LARGEST_ATTENDED)[:1]
    channels = channels or [int(width * mult) for mult in channel_mult]
    return DiffusionUNet(in_channels, out_channels, channels, embedding=embedding, token_dim=token_dim,
                         attention_levels=attention_levels, **options)
