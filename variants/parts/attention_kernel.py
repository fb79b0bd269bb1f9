"""softmax(q k^T / sqrt(d)) v, by the kernel that is fastest for the device, the precision and the shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 2 ** 21             # weights (L x S, over heads) that are made at a time: 4 MB in bf16, so they stay in cache
KEPT = 2 ** 25              # weights, over all heads, up to which the backward pass finds them kept: 64 MB in bf16
LARGEST_MAP = 2 ** 22       # weights of one head beyond which rows would have to be cut, too; the fused kernel does
SUMS = 2.0 ** -96, 2.0 ** 96  # a row's sum of weights that were made without subtracting its largest score
LOG2_E = math.log2(math.e)


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (N, heads, L, d); k, v (N, heads, S, d) -> (N, heads, L, d).

    PyTorch's fused kernel, but for half precision on a CPU: there it spends its time outside matrix products, and
    a few heads' weights at a time are several times as fast (bf16, AVX-512, L = 256: 2.5 x forward and 3 x forward and
    backward at d = 8; 2.3 x and 2.5 x at d = 64). In fp32 the fused kernel is the faster one.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):              # as autocast does for the fused one
        q, k, v = (x.to(torch.get_autocast_dtype("cpu")) for x in (q, k, v))
    if _in_blocks(q, k):
        return BlockAttention.apply(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def _in_blocks(q: Tensor, k: Tensor) -> bool:
    if torch.compiler.is_compiling() or q.device.type != "cpu":                   # first, so that no graph breaks
        return False
    chosen = not torch.backends.cuda.flash_sdp_enabled()        # by torch.nn.attention.sdpa_kernel, for CPUs too
    return q.dtype in (torch.bfloat16, torch.float16) and not chosen and q.shape[2] * k.shape[2] <= LARGEST_MAP


class BlockAttention(torch.autograd.Function):
    """Attention over blocks of heads; where all weights are many, the backward pass makes them again.

    As in FlashAttention (Dao et al. 2022, arXiv:2205.14135) weights are never divided by their sums, in float32:
    results are. Unlike there, blocks are cut by heads only, and a row's largest score is subtracted only where sums
    turn out beyond ``SUMS``: exp(x) is as exact without, and finding the largest costs as much as the exponential.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scaled, keys = (x.flatten(0, 1) for x in (q * (LOG2_E * q.shape[3] ** -0.5), k))    # (N heads, L or S, d)
        values = _with_ones(v, 2).flatten(0, 1)                                   # (N heads, S, d + 2)
        shape = (len(scaled), scaled.shape[1], keys.shape[1])
        learns = any(ctx.needs_input_grad)
        kept = q.new_empty(shape) if learns and math.prod(shape) <= KEPT else None
        ctx.subtract, ctx.heads = q.dtype == torch.float16, q.shape[:2]           # whose range is small
        sums = _sums(scaled, keys, values, ctx.subtract, kept)
        if not ctx.subtract and not _in_range(sums):
            ctx.subtract, sums = True, _sums(scaled, keys, values, True, kept)
        total = _exact(sums[..., -1:])                                           # (N heads, L, 1)
        out = (_exact(sums[..., :-1]) / total).to(q.dtype)
        if learns:
            ctx.save_for_backward(scaled, keys, values, kept, total, out)
        return out.unflatten(0, ctx.heads)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled, keys, values, kept, total, out = ctx.saved_tensors
        d_sums, d = _less_mean(d_out.flatten(0, 1), out, total), out.shape[2]
        d_scaled, d_keys, d_values = (torch.empty_like(x) for x in (scaled, keys, keys))
        for block in _blocks(scaled, keys):
            weights = _weights(scaled[block], keys[block], ctx.subtract) if kept is None else kept[block]
            d_values[block] = torch.bmm(weights.transpose(1, 2), d_sums[block, :, :d])
            d_scores = torch.bmm(d_sums[block], values[block].transpose(1, 2)).mul_(weights)
            d_scaled[block] = torch.bmm(d_scores, keys[block])
            d_keys[block] = torch.bmm(d_scores.transpose(1, 2), scaled[block])
        return tuple(x.unflatten(0, ctx.heads) for x in (d_scaled.mul_(d ** -0.5), d_keys.div_(LOG2_E), d_values))


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _with_ones(v: Tensor, columns: int) -> Tensor:
    """(N, heads, S, d) -> (N, heads, S, d + columns): a product with a column of ones is a sum, and costs next to nothing."""
    wider = v.new_ones(*v.shape[:3], v.shape[3] + columns)
    wider[..., :v.shape[3]] = v
    return wider


def _sums(scaled: Tensor, keys: Tensor, values: Tensor, subtract: bool, kept: Tensor | None) -> Tensor:
    """(heads, L, d + 1): the sums over S of weight times value, and of the weights alone, which ``kept`` gets."""
    sums = scaled.new_empty(*scaled.shape[:2], scaled.shape[2] + 1)
    for block in _blocks(scaled, keys):
        weights = _weights(scaled[block], keys[block], subtract, None if kept is None else kept[block])
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
    mean = -((d_sums * out) @ total.new_ones(out.shape[2]))                       # (heads, L)
    high = mean.to(out.dtype)
    return torch.cat([d_sums.to(out.dtype), high[..., None], (mean - high).to(out.dtype)[..., None]], dim=2)


def _blocks(q: Tensor, k: Tensor) -> list[slice]:
    size = max(1, BLOCK // (q.shape[1] * k.shape[1]))
    return [slice(start, start + size) for start in range(0, len(q), size)]


def _weights(scaled: Tensor, keys: Tensor, subtract: bool, into: Tensor | None = None) -> Tensor:
    """2^scores (heads, L, S). Scores are made apart from ``into``, in memory that the cache still holds."""
    scores = torch.bmm(scaled, keys.transpose(1, 2))
    if subtract:
        scores.sub_(scores.amax(dim=2, keepdim=True))
    return torch.exp2(scores, out=scores if into is None else into)
