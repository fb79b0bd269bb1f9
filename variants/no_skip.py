"""Encoder-decoder without any skip: what is lost when the U is only a funnel."""

from __future__ import annotations

from variants import plain


def build(**arguments):
    """``plain`` with ``skip="none"``; the same arguments."""
    return plain.build(skip="none", **arguments)
