"""U-Net put together from parts given from outside: encoder blocks, a connector at the bottleneck, decoder blocks."""

from __future__ import annotations

from variants.parts.published_unet import PublishedUNet
from variants.parts.unet import build_unet


def build(*, encoder_block="residual", connector="residual", decoder_block="plain", skip="gate", **arguments):
    """Build ``plain`` with the caller's own parts, each by name or as a callable that builds it.

    ``encoder_block``, ``connector`` (the bottleneck, between encoder and decoder) and ``decoder_block`` are called
    as ``make(in_channels, out_channels, emb_dim)`` and build a module for maps of that many channels: one called
    as ``module(x, emb, context)`` where it is a :class:`variants.parts.encoder_decoder.Conditioned`, else as
    ``module(x)``. ``skip(channels, skip_channels)`` builds what joins a map from below with the encoder's: a module
    with ``out_channels``, called as ``module(x, skip)``. The defaults are one such mixture: residual blocks down and
    at the bottom, plain blocks up, gates between.
    """
    return build_unet(PublishedUNet, block=encoder_block, bottleneck=connector, decoder_block=decoder_block, skip=skip,
                      **arguments)
