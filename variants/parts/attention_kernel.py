"""softmax(q k^T / sqrt(d)) v, by the kernel that is fastest for the device, the precision and the shape."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 2 ** 21             # weights (L x S, over heads) that are made at a time: 4 MB in bf16, so they stay in cache
KEPT = 2 ** 25              # weights, over all heads, up to which the backward pass finds them kept: 64 MB in bf16
LARGEST_MAP = 2 ** 24       # weights of one head beyond which rows would have to be cut, too; the fused kernel does
NARROW = 8                  # a head of so many times as many weights to a row as channels is narrow
SHORT = 16                  # a row of fewer weights does not fill a vector, and PyTorch's softmax is slow
SUMS = 2.0 ** -96, 2.0 ** 96  # a row's sum of weights that were made without subtracting its largest score
LOG2_E = math.log2(math.e)


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (N, heads, L, d); k, v (N, heads, S, d) -> (N, heads, L, d).

    PyTorch's fused kernel, but for half precision on a CPU: there it spends its time outside matrix products, and
    a few heads' weights at a time are several times as fast (bf16, AVX-512, L = S = 256: 2.5 x forward and 3 x
    forward and backward at d = 8; 2.1 x and 2.7 x at d = 64). In fp32 the fused kernel is the faster one.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):              # as autocast does for the fused one
        q, k, v = (x.to(torch.get_autocast_dtype("cpu")) for x in (q, k, v))
    if not _in_blocks(q, k):
        return F.scaled_dot_product_attention(q, k, v)
    narrow = k.shape[2] >= NARROW * q.shape[3] or k.shape[2] < SHORT
    return (NarrowAttention if narrow else BlockAttention).apply(q, k, v)


def _in_blocks(q: Tensor, k: Tensor) -> bool:
    if torch.compiler.is_compiling() or q.device.type != "cpu":                   # first, so that no graph breaks
        return False
    chosen = not torch.backends.cuda.flash_sdp_enabled()        # by torch.nn.attention.sdpa_kernel, for CPUs too
    return q.dtype in (torch.bfloat16, torch.float16) and not chosen and q.shape[2] * k.shape[2] <= LARGEST_MAP


class BlockAttention(torch.autograd.Function):
    """Attention over blocks of heads; where all weights are many, the backward pass makes them again.

    As in FlashAttention (Dao et al. 2022, arXiv:2205.14135), but cut by heads only: within a block the softmax is
    PyTorch's, whose sums are in float32.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scaled, keys, values = (x.flatten(0, 1) for x in (q * q.shape[3] ** -0.5, k, v))      # (N heads, L or S, d)
        out, kept = torch.empty_like(scaled), _room_for_weights(ctx, scaled, keys)
        for block in _blocks(scaled, keys):
            weights = softmax(scaled[block], keys[block], None if kept is None else kept[block])
            out[block] = torch.bmm(weights, values[block])
        ctx.save_for_backward(scaled, keys, values, kept)
        ctx.heads = q.shape[:2]
        return out.unflatten(0, ctx.heads)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled, keys, values, kept = ctx.saved_tensors
        d_out = d_out.flatten(0, 1)
        d_scaled, d_keys, d_values = (torch.empty_like(x) for x in (scaled, keys, values))
        for block in _blocks(scaled, keys):
            weights = softmax(scaled[block], keys[block]) if kept is None else kept[block]
            d_values[block] = torch.bmm(weights.mT, d_out[block])
            d_weights = torch.bmm(d_out[block], values[block].mT)
            d_scores = torch._softmax_backward_data(d_weights, weights, 2, weights.dtype)
            d_scaled[block] = torch.bmm(d_scores, keys[block])
            d_keys[block] = torch.bmm(d_scores.mT, scaled[block])
        d_q = d_scaled.mul_(scaled.shape[2] ** -0.5)
        return tuple(x.unflatten(0, ctx.heads) for x in (d_q, d_keys, d_values))


class NarrowAttention(torch.autograd.Function):
    """The same where a head has few channels and many weights, and the softmax costs more than the matrix products.

    Only the exponential is taken of every weight. What the softmax does besides is done to results, which are fewer,
    in float32: sums of weights are one more column of the product with the values, and are divided by last, as in
    FlashAttention; the backward pass has the row's mean gradient subtracted in the product, too. A row's largest
    score is subtracted only where sums turn out beyond ``SUMS``: within, the exponential is as exact without.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scaled, keys = (x.flatten(0, 1) for x in (q * (LOG2_E * q.shape[3] ** -0.5), k))    # (N heads, L or S, d)
        values, kept = _with_ones(v, 2).flatten(0, 1), _room_for_weights(ctx, scaled, keys)
        ctx.subtract, ctx.heads = q.dtype == torch.float16, q.shape[:2]           # fp16 has no such range
        sums = _sums(scaled, keys, values, ctx.subtract, kept)
        if not ctx.subtract and not _in_range(sums):
            ctx.subtract, sums = True, _sums(scaled, keys, values, True, kept)
        total = _exact(sums[..., -1:])                                            # (N heads, L, 1)
        out = (_exact(sums[..., :-1]) / total).to(q.dtype)
        ctx.save_for_backward(scaled, keys, values, kept, total, out)
        return out.unflatten(0, ctx.heads)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled, keys, values, kept, total, out = ctx.saved_tensors
        d_sums, d = _less_mean(d_out.flatten(0, 1), out, total), out.shape[2]
        d_scaled = torch.empty_like(scaled)
        d_keys, d_values = (torch.empty_like(keys.mT, memory_format=torch.contiguous_format) for _ in range(2))
        for block in _blocks(scaled, keys):
            weights = exponentials(scaled[block], keys[block], ctx.subtract) if kept is None else kept[block]
            torch.bmm(d_sums[block, :, :d].mT, weights, out=d_values[block])      # the narrow factor first is faster
            d_scores = torch.bmm(d_sums[block], values[block].mT).mul_(weights)
            d_scaled[block] = torch.bmm(d_scores, keys[block])
            torch.bmm(scaled[block].mT, d_scores, out=d_keys[block])
        return tuple(x.unflatten(0, ctx.heads) for x in (d_scaled.mul_(d ** -0.5), d_keys.div_(LOG2_E).mT, d_values.mT))


def softmax(scaled: Tensor, keys: Tensor, into: Tensor | None = None) -> Tensor:
    """(heads, L, S). ``_softmax`` rather than softmax, which autocast would have return float32."""
    scores = torch.bmm(scaled, keys.mT)
    return torch._softmax(scores, 2, False) if into is None else torch._softmax(scores, 2, False, out=into)


def exponentials(scaled: Tensor, keys: Tensor, subtract: bool, into: Tensor | None = None) -> Tensor:
    """2^scores (heads, L, S). Scores are made apart from ``into``, in memory that the cache still holds."""
    scores = torch.bmm(scaled, keys.mT)
    if subtract:
        scores.sub_(scores.amax(dim=2, keepdim=True))
    return torch.exp2(scores, out=scores if into is None else into)


def _blocks(q: Tensor, k: Tensor) -> list[slice]:
    size = max(1, BLOCK // (q.shape[1] * k.shape[1]))
    return [slice(start, start + size) for start in range(0, len(q), size)]


def _room_for_weights(ctx: Any, q: Tensor, k: Tensor) -> Tensor | None:
    """Empty (heads, L, S), where there will be a backward pass and it may find them kept."""
    shape = (len(q), q.shape[1], k.shape[1])
    return q.new_empty(shape) if any(ctx.needs_input_grad) and math.prod(shape) <= KEPT else None


def _with_ones(v: Tensor, columns: int) -> Tensor:
    """(N, heads, S, d) -> (N, heads, S, d + columns): a product with a column of ones is a sum, at next to no cost."""
    wider = v.new_ones(*v.shape[:3], v.shape[3] + columns)
    wider[..., :v.shape[3]] = v
    return wider


def _sums(scaled: Tensor, keys: Tensor, values: Tensor, subtract: bool, kept: Tensor | None) -> Tensor:
    """(heads, L, d + 1): the sums over S of weight times value, and of the weights alone, which ``kept`` gets."""
    sums = scaled.new_empty(*scaled.shape[:2], scaled.shape[2] + 1)
    for block in _blocks(scaled, keys):
        weights = exponentials(scaled[block], keys[block], subtract, None if kept is None else kept[block])
        sums[block] = torch.bmm(weights, values[block, :, :-1])
    return sums


def _in_range(sums: Tensor) -> bool:
    if isinstance(sums, FakeTensor):                                              # no values: memory is being predicted
        return True
    smallest, largest = sums[..., -1].aminmax()                                   # NaN where one is: not in range
    return bool(smallest >= SUMS[0]) and bool(largest <= SUMS[1])


def _less_mean(d_out: Tensor, out: Tensor, total: Tensor) -> Tensor:
    """(heads, L, d + 2), whose product with (v, 1, 1) is the gradient of the scores over the weights.

    The softmax's backward pass subtracts the mean gradient of a row, which is d_out . out. It is split over two
    columns: in one, in half precision, it would be the largest error of all.
    """
    d_sums = _exact(d_out) / total                                                # (heads, L, d)
    mean = -(d_sums * out).sum(dim=2)                                             # (heads, L)
    high = mean.to(out.dtype)
    return torch.cat([d_sums.to(out.dtype), high[..., None], (mean - high).to(out.dtype)[..., None]], dim=2)


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
