"""Memory on paper: by hand where it can be counted, else against PyTorch's own count of a real step."""

from types import SimpleNamespace

import pytest
import torch
from command_line import bench, refused
from torch import nn

from harness.errors import InputError
from harness.inspection import fit as fitting
from harness.inspection.fit import fit, largest, parse_bytes, shown_bytes
from harness.inspection.memory_page import CASES, allocated, predicted
from harness.measurement.allocations import follow
from harness.measurement.memory import predict_memory
from harness.measurement.network import subject

N = 1000
MINE = """
import torch
class Halving(torch.nn.Module):
    def __init__(self, in_channels, out_channels, **others):
        super().__init__()
        self.down = torch.nn.Conv2d(in_channels, 8, 2, stride=2)
        self.up = torch.nn.ConvTranspose2d(8, out_channels, 2, stride=2)
    def forward(self, x, t=None, context=None):
        return x + self.up(self.down(x))
"""


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


@pytest.mark.parametrize("text, size", [("24GB", 24 * 10 ** 9), ("1.5 GiB", 3 * 2 ** 29), ("100b", 100),
                                        ("8 mb", 8 * 10 ** 6)])
def test_units(text, size):
    assert parse_bytes(text) == size


def test_shown_bytes():
    assert shown_bytes(999) == "999 B" and shown_bytes(1_500_000) == "1.50 MB" and shown_bytes(10 ** 12) == "1.00 TB"
    assert shown_bytes(999_999_999) == "1.00 GB"


@pytest.mark.parametrize("shape", [lambda n: 7 + 3 * n, lambda n: n * n, lambda n: 2 ** min(n, 60),
                                   lambda n: 10 * (n // 7)])
@pytest.mark.parametrize("limit", [10, 100, 12_345, 10 ** 7])
def test_the_search_finds_the_last_that_fits(shape, limit):
    class Cost:
        def __init__(self, n):
            self.total = shape(n)

    found = largest(Cost, limit, 1, 10 ** 5)
    expected = max(n for n in range(1, 10 ** 5 + 1) if shape(n) <= limit)
    assert found == expected


def test_the_search_for_an_image_looks_few_times():
    """A look at a large network takes seconds, and its memory grows with the pixels."""
    looks = []

    def cost(n):
        looks.append(n)
        return SimpleNamespace(total=7 * (8 + 3 * n) ** 2)

    assert largest(cost, 7 * (8 + 3 * 345) ** 2, 0, 5000, lambda n: (8 + 3 * n) ** 2) == 345
    assert len(looks) <= 6


def test_a_preset_is_built_once():
    own = subject("ddpm_cifar10_pesser")
    other = fitting.at_side(own, {}, 48)
    assert other.network is own.network and other.inputs[0].shape[2:] == (48, 48) and own.inputs[0].shape[2] == 32


def test_the_batch_fits_and_one_more_does_not():
    batch, side, needs = fit("fcn", 500 * 10 ** 6, size=32, training=True)
    assert side == 32 and needs.total <= 500 * 10 ** 6
    more = fitting.estimate(subject("fcn", 32), batch + 1, training=True)
    assert more.total > 500 * 10 ** 6


@pytest.fixture
def halving(tmp_path):
    """A network of one's own that takes even sides only."""
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path / 'mine.py'}:Halving"


def test_the_image_fits_and_the_next_does_not(halving):
    assert fitting.sides(subject(halving), {}) == (2, 2)
    batch, side, needs = fit(halving, 20 * 10 ** 6, batch=4, training=False)
    assert batch == 4 and side % 2 == 0 and needs.total <= 20 * 10 ** 6
    assert fitting.estimate(subject(halving, side + 2), 4, training=False).total > 20 * 10 ** 6


def test_one_size_only(tmp_path):
    (tmp_path / "mine.py").write_text(MINE.replace("return", "assert x.shape[2] == 64\n        return"))
    with pytest.raises(InputError, match="takes images of 64 x 64 pixels only"):
        fit(f"{tmp_path / 'mine.py'}:Halving", 10 ** 9, batch=4, training=False)


def test_on_the_command_line(halving):
    done = bench("inspect", halving, "--memory", "300MB", "--size", 32, "--ema")
    assert done.exit_code == 0, done.output
    assert all(words in done.output for words in ("batch ", "activations saved", "optimiser", "averaged weights"))
    done = bench("inspect", halving, "--memory", "50MB", "--inference", "--batch", 2)
    assert done.exit_code == 0 and "optimiser" not in done.output and "in batches of 2" in done.output
    assert "a CPU's operators" not in done.output and "target" not in done.output
    done = bench("inspect", halving, "--memory", "50MB", "--size", 32, "--precision", "bf16", "--device", "cpu")
    assert done.exit_code == 0 and "a CPU's operators" in done.output


@pytest.mark.parametrize("args, words", [
    (("plain", "--memory", "24XB"), ("unknown unit of memory 'XB'",)),
    (("plain", "--memory", "lots"), ("--memory lots", "24GB")),
    (("plain", "--memory", "0GB"), ("--memory 0GB",)),
    (("plain", "--memory", "24"), ("--memory 24", "e.g. 24GB")),
    (("plain", "--memory", "1GB", "--inference", "--ema"), ("--ema", "leave it out")),
    (("plain", "--memory", "1GB", "--device", "tpu"), ("device 'tpu'", "--device cpu")),
    (("plain", "--memory", "1MB"), ("plain does not fit into 1.00 MB", "its parameters alone take 8.16 MB")),
    (("plain", "--memory", "20MB"), ("optimiser's state take 24.48 MB",)),
    (("plain", "--memory", "26MB"), ("one image of 64 x 64 pixels takes",)),
    (("plain", "--memory", "1GB", "--precision", "fp31"), ("did you mean 'fp32'",)),
    (("plian", "--memory", "1GB"), ("did you mean 'plain'",)),
    (("plain", "--memory", "1GB", "--size", "32", "--batch", "2"), ("not both",)),
    (("plain", "--memory", "1GB", "--set", "widht=3"), ("plain", "widht")),
    (("plain", "--memory", "1GB", "--json"), ("--json does not go with --memory",)),
    (("plain", "--ema"), ("--ema goes with --memory",)),
])
def test_what_it_refuses(args, words):
    refused(bench("inspect", *args), *words)
