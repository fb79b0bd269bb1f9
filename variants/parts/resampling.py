"""Halving and doubling the size of feature maps, by name."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

DOWN = ("max_pool", "avg_pool", "strided_conv")
UP = ("transposed_conv", "nearest_conv", "bilinear_conv", "pixel_shuffle")


def downsample(kind: str, channels: int) -> nn.Module:
    """(N, channels, H, W) -> (N, channels, H // 2, W // 2). Raises ValueError for a kind not in ``DOWN``."""
    if kind == "max_pool":
        return nn.MaxPool2d(2)
    if kind == "avg_pool":
        return nn.AvgPool2d(2)
    if kind == "strided_conv":
        # Padding at the far sides only keeps H // 2 for odd sizes too.
        return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))
    raise ValueError(f"unknown down {kind!r} (known: {', '.join(DOWN)})")


def upsample(kind: str, in_channels: int, out_channels: int) -> nn.Module:
    """(N, in, H, W) -> (N, out, 2H, 2W). Raises ValueError for a kind not in ``UP``."""
    if kind == "transposed_conv":
        return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
    if kind == "nearest_conv":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"),
                             nn.Conv2d(in_channels, out_channels, 3, padding=1))
    if kind == "bilinear_conv":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"),
                             nn.Conv2d(in_channels, out_channels, 3, padding=1))
    if kind == "pixel_shuffle":
        return nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))
    raise ValueError(f"unknown up {kind!r} (known: {', '.join(UP)})")


def fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad with zeros or crop ``x`` (N, C, H, W) evenly on both sides to ``size``: 37 -> 18 -> 36 -> 37."""
    rows, columns = size[0] - x.shape[2], size[1] - x.shape[3]
    if rows == 0 and columns == 0:
        return x
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
