"""Normalisation layers by name."""

from __future__ import annotations

from torch import nn

NORMS = ("group", "group32", "batch", "instance", "none")


def group_count(channels: int, max_groups: int = 32, min_channels_per_group: int = 4) -> int:
    """Most groups, at most ``max_groups``, that divide ``channels`` and keep some channels in each.

    32 groups are GroupNorm's published default (Wu & He 2018, arXiv:1803.08494); narrow layers take fewer
    so that a group's statistics come from more than one or two channels.
    """
    fitting = (g for g in range(1, max_groups + 1)
               if channels % g == 0 and channels // g >= min_channels_per_group)
    return max(fitting, default=1)


def normalization(kind: str, channels: int, eps: float = 1e-5) -> nn.Module:
    """A norm layer over (N, channels, H, W). Raises ValueError for a kind not in ``NORMS``.

    ``group32`` has 32 groups however narrow the layer (DDPM, Ho et al. 2020, App. B; ADM, LDM), and so only
    takes multiples of 32 channels. Statistics of half-precision maps are taken in float32, as PyTorch does.
    """
    if kind == "group":
        return nn.GroupNorm(group_count(channels), channels, eps=eps)
    if kind == "group32":
        return nn.GroupNorm(32, channels, eps=eps)
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=eps)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, eps=eps, affine=True)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"unknown norm {kind!r} (known: {', '.join(NORMS)})")
