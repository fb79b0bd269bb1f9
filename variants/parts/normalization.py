"""Normalisation layers by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

NATIVE_FROM = 1024          # pixels of a map from which PyTorch takes another kernel, which is fast in half precision
CACHED = 2 ** 19            # values whose float32 copies, 2 MB each, the cache still holds when they are read
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
        return GroupNorm(group_count(channels), channels, eps=eps)
    if kind == "group32":
        return GroupNorm(32, channels, eps=eps)
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=eps)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, eps=eps, affine=True)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"unknown norm {kind!r} (known: {', '.join(NORMS)})")


class GroupNorm(nn.GroupNorm):
    """Wu & He 2018, arXiv:1803.08494; statistics in float32 whatever the map's precision.

    On a CPU PyTorch's kernels for half-precision maps are up to 10 times as slow as converting twice: the one
    backwards everywhere, the one forwards below ``NATIVE_FROM`` pixels.
    """

    def forward(self, x: Tensor) -> Tensor:                                       # (N, C, H, W)
        if _in_half_on_cpu(x):
            return Float32GroupNorm.apply(x, self.weight.float(), self.bias.float(), self.num_groups, self.eps)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class Float32GroupNorm(torch.autograd.Function):
    """Group norm of a half-precision map, computed in float32; for backward only the half-precision map is kept.

    A few images at a time, whose copies in float32 stay in the cache: up to 1.9 times as fast as all at once.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        ctx.sizes = (x.shape[1], x.shape[2:].numel(), groups)
        if ctx.sizes[1] >= NATIVE_FROM:
            y, mean, rstd = torch.native_group_norm(x, weight, bias, len(x), *ctx.sizes, eps)  # statistics in float32
        else:
            y, statistics = torch.empty_like(x), []
            for images in _few_images(x):
                part = x[images].float()
                made, *of_groups = torch.native_group_norm(part, weight, bias, len(part), *ctx.sizes, eps)
                y[images] = made
                statistics.append(of_groups)
            mean, rstd = (torch.cat(parts) for parts in zip(*statistics, strict=True))
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        dx, of_parameters = torch.empty_like(x), []
        for images in _few_images(x):
            part, *others = torch.ops.aten.native_group_norm_backward(
                dy[images].float().contiguous(memory_format=layout), x[images].float(), mean[images], rstd[images],
                weight, len(x[images]), *ctx.sizes, [True] * 3)
            dx[images] = part
            of_parameters.append(others)
        d_weight, d_bias = (sum(parts) for parts in zip(*of_parameters, strict=True))
        return dx, d_weight, d_bias, None, None


def _few_images(x: Tensor) -> list[slice]:
    """Cuts (N, ...) into parts of about ``CACHED`` values, of an image at least; one empty part where N is 0."""
    step = max(1, CACHED // max(1, x[:1].numel()))
    return [slice(start, start + step) for start in range(0, max(1, len(x)), step)]


class LayerNorm(nn.LayerNorm):
    """Ba et al. 2016, arXiv:1607.06450, over the channels of tokens (..., C); in float32 as :class:`GroupNorm`.

    On a CPU PyTorch's kernels sum half-precision gradients of weights and bias in half precision, and where there are
    none keep the statistics in it.
    """

    def forward(self, x: Tensor) -> Tensor:                                       # (..., C)
        if not _in_half_on_cpu(x):
            return super().forward(x)
        weight, bias = (p if p is None else p.float() for p in (self.weight, self.bias))
        return Float32LayerNorm.apply(x, weight, bias, self.eps)


class Float32LayerNorm(torch.autograd.Function):
    """Layer norm of half-precision tokens with statistics, and sums over tokens, in float32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        ctx.shape = x.shape[-1:]
        weight, bias = (x.new_full(ctx.shape, usual, dtype=torch.float32) if p is None else p
                        for p, usual in ((weight, 1.0), (bias, 0.0)))
        y, mean, rstd = torch.native_layer_norm(x, ctx.shape, weight, bias, eps)  # statistics as precise as weights
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        precision = torch.float32 if any(wanted[1:]) else x.dtype                 # only they are sums over tokens
        dx, d_weight, d_bias = torch.ops.aten.native_layer_norm_backward(
            dy.to(precision), x.to(precision), ctx.shape, mean, rstd, weight, bias, wanted)
        return (dx.to(x.dtype) if wanted[0] else None, d_weight if wanted[1] else None,
                d_bias if wanted[2] else None, None)


def _in_half_on_cpu(x: Tensor) -> bool:
    half = x.dtype in (torch.bfloat16, torch.float16)
    return x.device.type == "cpu" and half and not torch.compiler.is_compiling()  # compiled, kernels are others
