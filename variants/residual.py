"""ResUNet: pre-activated residual blocks with 1x1 projection shortcuts."""

from __future__ import annotations

from variants import plain


def build(**arguments):
    """``plain`` with ``block="residual"`` (Zhang et al. 2017, arXiv:1711.10684); the same arguments."""
    return plain.build(block="residual", **arguments)
