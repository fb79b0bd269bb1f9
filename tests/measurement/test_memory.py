"""Memory on paper: by hand where it can be counted, else against PyTorch's own count of a real step."""

import pytest
import torch
from torch import nn

from harness.errors import InputError
from harness.inspection.memory_page import CASES, allocated, predicted
from harness.measurement.allocations import follow
from harness.measurement.memory import predict_memory
from harness.measurement.network import subject

N = 1000


class Two(nn.Module):
    """Two layers with a ReLU between, whose saved tensors are its input, and what comes out of the ReLU."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 64, bias=False), nn.Linear(64, 4, bias=False)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Convolution(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 16, 3, padding=1, bias=False)

    def forward(self, x):
        return super().forward(x).tanh()


def meta(*shape):
    return (torch.empty(*shape, device="meta"),)


def test_two_linear_layers_by_hand():
    found = predict_memory(Two, meta(N, 8), training=True)
    weights = 4 * (8 * 64 + 64 * 4)
    assert found.parameters == weights and found.all_gradients == weights
    assert found.optimizer == 2 * weights + 2 * 4                     # and a count of steps for each
    assert found.inputs == 4 * (N * 8 + N * 4)
    output = 4 * N * 4                                                # the loss saves what it compares
    assert found.saved == 4 * N * 64 + output
    # At the peak: the ReLU's output, its gradient and the gradient through it; the second layer's weight's gradient.
    assert found.activations == 4 * N * 64
    assert found.gradients == 4 * 64 * 4
    assert found.workspace == pytest.approx(2 * 4 * N * 64, abs=64)


def test_a_convolution_by_hand():
    found = predict_memory(Convolution(), meta(2, 3, 10, 10), training=True, optimizer="sgd", ema=True)
    weights = 4 * 16 * 3 * 9
    assert (found.parameters, found.optimizer, found.ema) == (weights, weights, weights)
    assert found.saved == 4 * 2 * 16 * 100                            # of tanh and of the loss, once


def test_inference_holds_a_layer_s_input_and_output():
    found = predict_memory(Two, meta(N, 8), training=False)
    assert (found.gradients, found.optimizer, found.activations, found.saved) == (0, 0, 0, 0)
    assert found.workspace == 2 * 4 * N * 64                          # before and after the ReLU
    assert found.total == found.parameters + found.inputs + found.workspace


def test_frozen_and_shared_parameters():
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(3)))
    model[1].weight = model[0].weight
    model[2].requires_grad_(False)
    found = predict_memory(model, meta(4, 8), training=True)
    assert found.parameters == 2 * 4 * 64 and found.all_gradients == 4 * 64 and found.optimizer == 2 * 4 * 64 + 4


def test_the_network_that_is_asked_about_stays_as_it_is():
    network = subject("plain").network
    predict_memory(network, subject("plain").inputs, training=True)
    assert all(p.is_meta and p.grad is None for p in network.parameters()) and not network.training


def test_bf16_saves_about_half_of_what_fp32_does():
    shown = subject("fcn", 32)
    x, t, _ = shown.inputs
    inputs = (x.new_empty(16, 3, 32, 32), t.new_empty(16), None)
    full, half = (predict_memory(shown.network, inputs, training=True, precision=precision)
                  for precision in ("fp32", "bf16"))
    assert half.parameters == full.parameters and half.optimizer == full.optimizer
    assert half.saved < full.saved


@pytest.mark.parametrize("use, precision", CASES)
@pytest.mark.parametrize("name", ["plain", "dit", "shuffle", "fcn"])
def test_the_parts_add_up_and_meet_what_is_really_allocated(name, use, precision):
    paper = predicted(name, 4, 32, use, precision)
    assert paper.total == sum(getattr(paper, part) for part in (
        "parameters", "gradients", "optimizer", "ema", "inputs", "activations", "workspace"))
    tensors, peak = allocated(name, 4, 32, use, precision)
    assert paper.tensors == pytest.approx(tensors, rel=0.01)
    if precision == "fp32":                        # oneDNN's convolutions; a kernel's gradient may take more
        kernels = [4 * p.numel() for p in subject(name, 32).network.parameters() if p.ndim == 4]
        assert paper.total == pytest.approx(peak, rel=0.01, abs=2 * max(kernels))


@pytest.mark.parametrize("batch, kernel, copies", [(2, 3, 1), (2, 1, 0), (1, 3, 0), (1, 5, 1)])
def test_a_kernel_is_copied_where_onednn_orders_it(batch, kernel, copies):
    found = predict_memory(lambda: nn.Conv2d(64, 64, kernel, padding="same", bias=False), meta(batch, 64, 4, 4),
                           training=False)
    assert found.workspace == 4 * batch * 64 * 16 + copies * found.parameters


def test_a_map_in_another_layout_is_copied():
    with torch.device("meta"):
        network = nn.Conv2d(64, 64, 1, bias=False)
    images = torch.empty(4, 64, 16, 16)

    def peak(layout):
        real = nn.Conv2d(64, 64, 1, bias=False).to(memory_format=torch.channels_last)
        x = images.contiguous(memory_format=layout)
        with torch.no_grad():
            return follow(lambda mark: real(x), torch.device("cpu")).peak

    class Contiguous(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = network

        def forward(self, x):
            return self.layer(x.contiguous())

    held = peak(torch.contiguous_format) - peak(torch.channels_last)
    assert held == 4 * images.numel()
    found = predict_memory(Contiguous(), (images.to("meta"),), training=False)
    assert found.total - found.tensors == held


def test_buffers_are_followed_too():
    """A batch norm counts its batches in place, and keeps two averages."""
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8))
    for training in (True, False):
        found = predict_memory(network, meta(2, 3, 8, 8), training=training)
        assert found.parameters == 4 * (24 + 4 * 8) + 8


def test_a_gpu_is_predicted_where_there_is_one_only(monkeypatch):
    """Without one, autocast does nothing, and bf16 would be given fp32's answer."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="use device cpu"):
        predict_memory(Two, meta(1, 8), training=False, precision="bf16", device="cuda")


@pytest.mark.parametrize("asked, words", [({"precision": "fp31"}, "did you mean 'fp32'"),
                                          ({"optimizer": "adamm"}, "did you mean 'adamw'")])
def test_unknown_words(asked, words):
    with pytest.raises(InputError, match=words):
        predict_memory(Two, meta(1, 8), training=True, **asked)
