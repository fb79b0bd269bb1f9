"""Attention U-Net: additive attention gates weigh each skip by the decoder's signal."""

from __future__ import annotations

from variants import plain


def build(**arguments):
    """``plain`` with ``skip="gate"`` (Oktay et al. 2018, arXiv:1804.03999); the same arguments."""
    return plain.build(skip="gate", **arguments)
