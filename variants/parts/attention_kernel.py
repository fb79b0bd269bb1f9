"""softmax(q k^T / sqrt(d)) v, by the kernel that is fastest for the device, the precision and the shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 2 ** 20             # weights (L x S, over heads) that are made at a time: 2 MB in bf16, so they stay in cache
KEPT = 2 ** 25              # weights, over all heads, up to which the backward pass finds them kept: 64 MB in bf16
LARGEST_MAP = 2 ** 22       # weights of one head beyond which rows would have to be cut, too; the fused kernel does


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (N, heads, L, d); k, v (N, heads, S, d) -> (N, heads, L, d).

    PyTorch's fused kernel, but for half precision on a CPU: there it spends its time outside matrix products, and
    a few heads' weights at a time are several times as fast (bf16, AVX-512: 2.5 x at L = 256, d = 8, forward and
    backward; 3 x at d = 64; 1.3 x at L = 1024, d = 8). In fp32 the fused kernel is the faster one.
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

    As in FlashAttention (Dao et al. 2022, arXiv:2205.14135), but cut by heads only: within a block the softmax is
    PyTorch's, whose sums are in float32.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scaled, keys, values = (x.flatten(0, 1) for x in (q * q.shape[3] ** -0.5, k, v))      # (N heads, L or S, d)
        out = q.new_empty(scaled.shape)
        shape = (len(scaled), scaled.shape[1], keys.shape[1])
        keep = any(ctx.needs_input_grad) and math.prod(shape) <= KEPT
        kept = q.new_empty(shape) if keep else None
        for block in _blocks(scaled, keys):
            weights = _weights(scaled[block], keys[block], kept[block] if keep else None)
            out[block] = torch.bmm(weights, values[block])
        ctx.save_for_backward(scaled, keys, values, kept)
        ctx.heads = q.shape[:2]
        return out.unflatten(0, ctx.heads)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled, keys, values, kept = ctx.saved_tensors
        d_out = d_out.flatten(0, 1)
        d_scaled, d_keys, d_values = (x.new_empty(x.shape) for x in (scaled, keys, values))
        for block in _blocks(scaled, keys):
            weights = _weights(scaled[block], keys[block]) if kept is None else kept[block]
            d_values[block] = torch.bmm(weights.transpose(1, 2), d_out[block])
            d_weights = torch.bmm(d_out[block], values[block].transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_weights, weights, 2, weights.dtype)
            d_scaled[block] = torch.bmm(d_scores, keys[block])
            d_keys[block] = torch.bmm(d_scores.transpose(1, 2), scaled[block])
        d_q = d_scaled.mul_(scaled.shape[2] ** -0.5)
        return tuple(x.unflatten(0, ctx.heads) for x in (d_q, d_keys, d_values))


def _blocks(q: Tensor, k: Tensor) -> list[slice]:
    size = max(1, BLOCK // (q.shape[1] * k.shape[1]))
    return [slice(start, start + size) for start in range(0, len(q), size)]


def _weights(scaled: Tensor, keys: Tensor, into: Tensor | None = None) -> Tensor:
    """(heads, L, S). ``_softmax`` rather than softmax, which autocast would have return float32."""
    scores = torch.bmm(scaled, keys.transpose(1, 2))
    return torch._softmax(scores, 2, False) if into is None else torch._softmax(scores, 2, False, out=into)
