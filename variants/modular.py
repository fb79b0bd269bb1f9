"""U-Net put together from parts given from outside: encoder blocks, decoder blocks and connector."""

from __future__ import annotations

from variants import plain


def build(*, encoder_block="residual", decoder_block="plain", connector="gate", **arguments):
    """``plain`` with the caller's own parts, each by name or as a callable that builds it.

    ``encoder_block`` and ``decoder_block`` are called as ``make(in_channels, out_channels, emb_dim)`` and build a
    module for maps of that many channels: one called as ``module(x, emb, context)`` where it is a
    :class:`variants.parts.skeleton.Conditioned`, else as ``module(x)``. ``connector(channels, side_channels)``
    builds what joins a map from below with the encoder's: a module with ``out_channels``, called as
    ``module(x, side)``. The defaults are one such mixture: residual blocks down, plain blocks up, gates between.
    """
    return plain.build(block=encoder_block, decoder_block=decoder_block, skip=connector, **arguments)
