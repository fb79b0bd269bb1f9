"""Our own kernels for half precision on a CPU agree with PyTorch's in float64, forward and backward."""

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import variants
from variants.parts import attention_kernel
from variants.parts.attention_kernel import BlockAttention, NarrowAttention, scaled_dot_product
from variants.parts.normalization import GroupNorm
from variants.parts.resampling import upsample

BF16 = 2.0 ** -8                                   # unit roundoff


def relative_error(found, exact):
    found, exact = found.detach(), exact.detach()
    return float((found.double() - exact.double()).norm() / exact.double().norm())


def tensors(*shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("kept", [0, 2 ** 20])
@pytest.mark.parametrize("block", [1, 30, 2 ** 20])
@pytest.mark.parametrize("kernel, sums", [(BlockAttention, None), (NarrowAttention, attention_kernel.SUMS),
                                          (NarrowAttention, (0.0, 0.0))])
def test_attention_in_blocks_is_attention(monkeypatch, kernel, block, kept, sums):
    """In float64, where nothing is rounded: any number of heads at a time, weights kept or not, also S unlike L; the
    last range has every row's largest score subtracted."""
    monkeypatch.setattr(attention_kernel, "SUMS", sums)
    monkeypatch.setattr(attention_kernel, "BLOCK", block)
    monkeypatch.setattr(attention_kernel, "KEPT", kept)
    inputs = tensors((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4))
    assert torch.allclose(kernel.apply(*inputs), F.scaled_dot_product_attention(*inputs), rtol=1e-12)
    assert torch.autograd.gradcheck(kernel.apply, inputs)


@pytest.mark.parametrize("kernel, length, channels", [("BlockAttention", 64, 16), ("NarrowAttention", 64, 4),
                                                      ("NarrowAttention", 10, 16)])
@pytest.mark.parametrize("dtype, unit", [(torch.bfloat16, 2.0 ** -8), (torch.float16, 2.0 ** -11)])
def test_half_precision_attention_is_within_its_rounding(dtype, unit, kernel, length, channels):
    inputs = tensors(*[(4, 2, length, channels)] * 3, dtype=dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    out, truth = scaled_dot_product(*inputs), F.scaled_dot_product_attention(*exact)
    assert out.dtype == dtype and out.grad_fn.name() == kernel + "Backward"
    assert relative_error(out, truth) < 2 * unit
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, right = torch.autograd.grad(out, inputs, g.to(dtype)), torch.autograd.grad(truth, exact, g)
    assert max(map(relative_error, found, right)) < 4 * unit


@pytest.mark.parametrize("scale", [60.0, -60.0])
def test_attention_whose_weights_leave_the_range(scale):
    """Scores beyond +-100 in every row: exponentials are infinite, or nothing, until the largest is subtracted."""
    q, k, v = (x.detach() for x in tensors(*[(2, 2, 256, 16)] * 3, dtype=torch.bfloat16))
    q, k = q.abs() * scale, k.abs()
    exact = [x.double() for x in (q, k, v)]
    truth = F.scaled_dot_product_attention(*exact)
    assert (exact[0] @ exact[1].transpose(2, 3) / 4).abs().amax(dim=3).min() > 100
    plain = (q @ k.transpose(2, 3) / 4).softmax(dim=3) @ v                         # its scores are kept in bf16, too
    assert relative_error(scaled_dot_product(q, k, v), truth) < 1.5 * relative_error(plain, truth)
    assert scaled_dot_product(q * torch.nan, k, v).isnan().all()


def test_which_kernel_is_taken():
    small, wide = tensors((1, 1, 24, 4))[0], torch.zeros(1, 1, 8192, 4, dtype=torch.bfloat16, requires_grad=True)
    half = small.detach().bfloat16().requires_grad_()
    own = "BlockAttentionBackward"
    assert scaled_dot_product(half, half, half).grad_fn.name() == own
    assert scaled_dot_product(*[small.float()] * 3).grad_fn.name() != own          # fp32
    assert scaled_dot_product(wide, wide, wide).grad_fn.name() != own              # maps of more than 2^24 weights
    with sdpa_kernel(SDPBackend.MATH):                                             # someone else's choice
        assert scaled_dot_product(half, half, half).grad_fn.name() != own
    with torch.autocast("cpu", torch.bfloat16):                                    # as for PyTorch's kernel
        out = scaled_dot_product(*[small.float()] * 3)
    assert out.dtype == torch.bfloat16 and out.grad_fn.name() == own
    assert scaled_dot_product(*[small.to("meta")] * 3).is_meta


@pytest.mark.parametrize("side", [6, 32])                          # below and from NATIVE_FROM pixels
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype, unit", [(torch.bfloat16, 2.0 ** -8), (torch.float16, 2.0 ** -11)])
def test_group_norm_of_half_precision_maps_is_taken_in_float32(side, layout, dtype, unit):
    """With an offset of 30 deviations, statistics in half precision would be off by a tenth of a deviation."""
    norm = GroupNorm(4, 8)
    with torch.no_grad():
        norm.weight.normal_(generator=torch.Generator().manual_seed(2))
        norm.bias.normal_(generator=torch.Generator().manual_seed(3))
    offset = torch.tensor([0.0, 30.0]).repeat_interleave(4)[:, None, None]
    x = (tensors((2, 8, side, side))[0].detach() + offset).to(dtype)
    x = x.contiguous(memory_format=layout).requires_grad_()
    exact, weight, bias = x.detach().double().requires_grad_(), norm.weight.double(), norm.bias.double()
    y, truth = norm(x), F.group_norm(exact, 4, weight, bias)
    assert y.dtype == dtype and y.is_contiguous(memory_format=layout)
    assert relative_error(y, truth) < 2 * unit
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    found = torch.autograd.grad(y, (x, norm.weight, norm.bias), g)
    right = torch.autograd.grad(truth, (exact, norm.weight, norm.bias), g.double())
    assert found[0].dtype == dtype and found[1].dtype == torch.float32
    assert max(map(relative_error, found, right)) < 2 * unit


@pytest.mark.parametrize("size", [2, 4])
def test_a_bias_that_is_added_apart(size):
    """The same map and gradients as PyTorch's transposed convolution, up to the rounding of either."""
    made = upsample("transposed_conv", 8, 4, size)
    with torch.no_grad():
        made.bias.normal_(generator=torch.Generator().manual_seed(2))
    x = tensors((2, 8, 6, 6), dtype=torch.float32)[0]
    exact, *parameters = (p.detach().double().requires_grad_() for p in (x, made.weight, made.bias))
    with torch.autocast("cpu", torch.bfloat16):
        y = made(x)
    truth = F.conv_transpose2d(exact, *parameters, stride=2, padding=(size - 2) // 2)
    assert y.dtype == torch.bfloat16 and relative_error(y, truth) < 2 * BF16
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad(y, (x, made.weight, made.bias), g.bfloat16())
    right = torch.autograd.grad(truth, (exact, *parameters), g)
    assert max(map(relative_error, found, right)) < 2 * BF16


def test_group_norm_in_float32_is_pytorchs():
    norm, x = GroupNorm(4, 8), torch.randn(2, 8, 6, 6)
    assert torch.equal(norm(x), F.group_norm(x, 4, norm.weight, norm.bias))


def test_a_transformer_that_is_told_by_addition_attends_to_its_own_tokens():
    """The context then goes to the time embedding, and is not for the attention."""
    network = variants.build("ddpm", in_channels=1, out_channels=1, image_size=16, width=8, time=True, context_dim=6,
                             attention="transformer", context_by="add", zero_last=False)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 400])
    output, other = network(x, t, torch.randn(2, 1, 6)), network(x, t, torch.randn(2, 1, 6))
    assert output.shape == x.shape and not torch.equal(output, other)


@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_in_one_piece(autocast):
    """Our kernels are for eager networks; what choosing them asks must not cut a compiled one."""
    network = variants.build("ddpm", in_channels=1, out_channels=1, image_size=16, width=8, time=True)
    graphs = []
    compiled = torch.compile(network, backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        compiled(torch.randn(2, 1, 16, 16), torch.tensor([3, 400]))
    assert len(graphs) == 1
