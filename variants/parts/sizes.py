"""Which arguments of a network set its size, and the values that they may take: for arms of equal cost.

A network may have an attribute ``sizes``: a dict from the names of arguments of its ``build`` to
:class:`Scaled` or :class:`Fine`. One that has none is sized by ``width``, in whole channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CHANNELS_A_GROUP = 4        # GroupNorm's least (see normalization.group_count)
FINEST = 32                 # steps up to which a size moves by one multiple; also GroupNorm's most groups


@dataclass(frozen=True)
class Scaled:
    """A number of channels, or one for each level, that grows with all others that are scaled.

    A value is a multiple of ``multiple``; where it ``coarsens``, beyond 32 times that of its double, beyond 64
    times that of its fourfold, and so on. With ``multiple`` 4, GroupNorm then has groups of as many channels as
    the step, never a few large ones because a count of channels is four times a prime.
    """

    value:    int | tuple[int, ...]
    multiple: int = 1
    coarsens: bool = True

    def step(self, size: float) -> int:
        """Distance between the values allowed about ``size``."""
        doublings = math.ceil(math.log2(max(1.0, size / (FINEST * self.multiple)))) if self.coarsens else 0
        return self.multiple * 2 ** doublings

    def near(self, size: float) -> int:
        """The allowed value nearest to ``size``; at least one step."""
        step = self.step(size)
        return max(1, round(size / step)) * step


@dataclass(frozen=True)
class Fine:
    """A ratio that changes the size a little where channels change it much; kept in ``low``..``high``."""

    value: float
    low:   float
    high:  float


def scaled_channels(multiple: int = 1, **options) -> dict[str, Scaled]:
    """``options`` that are given (not None, 0 or empty), as sizes of convolutions.

    Each is an int or one int per level, in groups that GroupNorm takes and of which ``multiple`` is a divisor
    (heads of attention).
    """
    multiple = math.lcm(CHANNELS_A_GROUP, multiple)
    return {name: Scaled(tuple(value) if isinstance(value, (list, tuple)) else value, multiple)
            for name, value in options.items() if value}


def embedding_width(embedding) -> dict[str, Scaled]:
    """Return ``width`` of a network whose channels are given apart: the embedding's sinusoids, where there is one."""
    return {"width": Scaled(embedding.time_features, 2)} if embedding is not None else {}


def token_sizes(hidden_size: int, mlp_ratio: float, num_heads: int) -> dict[str, Scaled | Fine]:
    """Of a transformer: channels of a token, a multiple of the heads and of 4 (as 2-D positions need); its MLP."""
    return {"hidden_size": Scaled(hidden_size, math.lcm(4, num_heads)),
            "mlp_ratio": Fine(mlp_ratio, 0.75 * mlp_ratio, 1.25 * mlp_ratio)}
