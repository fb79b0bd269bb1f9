"""Bytes that operators move, counted by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.errors import InputError
from harness.measurement.network import subject
from harness.measurement.traffic import forward_traffic

N = 10


class Of(nn.Module):
    """A network of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def meta(*shape):
    return torch.empty(*shape, device="meta")


def moved(function, *inputs, **asked):
    """(bytes read, bytes written)."""
    found = forward_traffic(function if isinstance(function, nn.Module) else Of(function), inputs, **asked)
    return found.read.total(), found.written.total()


def test_a_linear_layer_reads_input_weight_and_bias_and_writes_its_output():
    with torch.device("meta"):
        layer = nn.Linear(8, 16)
    assert moved(layer, meta(N, 8)) == (4 * (N * 8 + 8 * 16 + 16), 4 * N * 16)


def test_a_convolution_by_hand_and_by_name():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.ReLU())
    found = forward_traffic(network, (meta(2, 3, 4, 4),))
    image, made, weight = 4 * 2 * 3 * 16, 4 * 2 * 5 * 16, 4 * 5 * 3 * 9
    assert found.read == {"aten.convolution": image + weight, "aten.relu": made}
    assert found.written == {"aten.convolution": made, "aten.relu": made}
    assert found.total == image + weight + 3 * made


@pytest.mark.parametrize("function, read, written", [
    (lambda x: x.view(-1).unsqueeze(0).transpose(0, 1), 0, 0),         # views move nothing
    (lambda x: x * x, 1, 1),                                            # one operand, read once
    (lambda x: x.add_(1), 1, 1),                                        # in place: read and written
    (lambda x: x.zero_(), 0, 1),                                        # overwritten unread
    (lambda x: torch.empty_like(x), 0, 0),                              # memory alone is no traffic
    (lambda x: torch.cat([x, x[:1]]), 1.1, 1.1),                        # operands in a list, of a part that part
    (lambda x: x[:1].expand(N, 8) + x, 1.1, 1)])                        # expanded: what exists
def test_operators_by_hand(function, read, written):
    whole = 4 * N * 8
    assert moved(function, meta(N, 8)) == (pytest.approx(read * whole), pytest.approx(written * whole))


def test_fused_attention_does_not_move_the_scores():
    heads, length, dim = 2, 64, 16

    def attention(tokens):
        q = tokens.unflatten(2, (heads, dim)).transpose(1, 2)
        return F.scaled_dot_product_attention(q, q + 1, q + 2)

    q, scores = 4 * heads * length * dim, 4 * heads * length * length
    fused, eager = (forward_traffic(Of(attention), (meta(1, length, heads * dim),), fused=fused)
                    for fused in (True, False))
    sums = 4 * 4 * heads * length                                       # of the softmax, for a backward pass
    assert fused.total - fused.read["aten.add"] - fused.written["aten.add"] in range(4 * q, 4 * q + sums)
    assert eager.total > fused.total + 3 * scores                       # made; read and made into weights; read


def test_autocast_moves_half_of_it_and_the_casts():
    with torch.device("meta"):
        layer = nn.Linear(8, 16, bias=False)
    found = forward_traffic(layer, (meta(N, 8),), precision="bf16")
    values = N * 8 + 8 * 16
    assert found.read == {"aten._to_copy": 4 * values, "aten.mm": 2 * values}
    assert found.written == {"aten._to_copy": 2 * values, "aten.mm": 2 * N * 16}


def test_what_is_given_stays_as_it_is_and_the_batch_scales_the_maps():
    shown = subject("plain", 32)
    x, t, _ = shown.inputs
    once, twice = (forward_traffic(shown.network, (x.new_empty(n, 3, 32, 32), t.new_empty(n), None)).total
                   for n in (4, 8))
    assert all(p.is_meta and p.requires_grad for p in shown.network.parameters())
    assert once < twice < 2 * once                                      # weights are read once all the same


def test_unknown_precision():
    with pytest.raises(InputError, match="did you mean 'bf16'"):
        forward_traffic(Of(torch.relu), (meta(1),), precision="bf61")
