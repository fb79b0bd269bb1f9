"""Halving and doubling the size of feature maps, by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DOWN = ("max_pool", "avg_pool", "strided_conv", "padded_strided_conv")
UP = ("transposed_conv", "nearest_conv", "bilinear_conv", "pixel_shuffle", "nearest", "bilinear")
KEEPS_CHANNELS = ("nearest", "bilinear")     # they have no convolution


def downsample(kind: str, channels: int) -> nn.Module:
    """(N, channels, H, W) -> (N, channels, H // 2, W // 2). Raises ValueError for a kind not in ``DOWN``."""
    if kind == "max_pool":
        return nn.MaxPool2d(2)
    if kind == "avg_pool":
        return nn.AvgPool2d(2)
    if kind == "strided_conv":
        # Padding at the far sides only keeps H // 2 for odd sizes too.
        return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))
    if kind == "padded_strided_conv":
        # One pixel on every side, so an odd H becomes (H + 1) // 2 (improved DDPM, Nichol & Dhariwal 2021; ADM).
        return nn.Conv2d(channels, channels, 3, stride=2, padding=1)
    raise ValueError(f"unknown down {kind!r} (known: {', '.join(DOWN)})")


def upsample(
    kind: str,
    in_channels: int,
    out_channels: int,
    kernel_size: int | None = None,     # Of the convolution; None = 2 where transposed, else 3.
    align_corners: bool = False,        # Of the bilinear kinds: corner pixels stay at the corners (older networks).
) -> nn.Module:
    """(N, in, H, W) -> (N, out, 2H, 2W). Raises ValueError for a kind not in ``UP``."""
    if kind == "transposed_conv":
        size = kernel_size or 2
        return TransposedConv(in_channels, out_channels, size, stride=2, padding=(size - 2) // 2)
    if kind == "nearest_conv":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"),
                             nn.Conv2d(in_channels, out_channels, kernel_size or 3, padding=(kernel_size or 3) // 2))
    if kind == "bilinear_conv":
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners),
                             nn.Conv2d(in_channels, out_channels, kernel_size or 3, padding=(kernel_size or 3) // 2))
    if kind in KEEPS_CHANNELS:
        if in_channels != out_channels:
            raise ValueError(f"up={kind!r} learns nothing, so it cannot make {out_channels} channels of {in_channels}")
        return nn.Upsample(scale_factor=2, mode=kind, align_corners=align_corners if kind == "bilinear" else None)
    if kind == "pixel_shuffle":
        return nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))
    raise ValueError(f"unknown up {kind!r} (known: {', '.join(UP)})")


class TransposedConv(nn.ConvTranspose2d):
    """A transposed convolution that on a CPU in half precision adds its bias apart.

    PyTorch's backward pass there takes several times as long for the bias as for all the rest (2.15: 5 times with
    maps of 48 x 48); that of an addition takes next to nothing.
    """

    def forward(self, x: Tensor) -> Tensor:                                       # (N, in, H, W) -> (N, out, H', W')
        half = torch.is_autocast_enabled("cpu") or x.dtype in (torch.bfloat16, torch.float16)
        if self.bias is None or x.device.type != "cpu" or not half:
            return super().forward(x)
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding)
        return y.add_(self.bias.to(y.dtype)[:, None, None])


def crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of ``x`` (N, C, H, W); of an odd surplus the larger half goes at the far side (jvanvugt's U-Net)."""
    top, left = (x.shape[2] - size[0]) // 2, (x.shape[3] - size[1]) // 2
    return x[:, :, top:top + size[0], left:left + size[1]]


def fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad with zeros or crop ``x`` (N, C, H, W) evenly on both sides to ``size``: 37 -> 18 -> 36 -> 37."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    rows, columns = size[0] - x.shape[2], size[1] - x.shape[3]
    return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``x`` (N, C, H, W) interpolated bilinearly to ``size``, or as it is where it has that."""
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear")
