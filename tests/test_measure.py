"""Costs: counted by hand where they can be, measured sensibly where they cannot."""

import pytest
import torch
from torch import nn

from harness import measure


class OneOfEach(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8, 5)
        self.frozen = nn.Parameter(torch.zeros(7), requires_grad=False)

    def forward(self, x):
        h = self.conv(x).flatten(2).transpose(1, 2)                                # (1, 16, 8)
        h = nn.functional.scaled_dot_product_attention(h[:, None], h[:, None], h[:, None])[:, 0]
        return self.linear(h)


def test_macs_and_parameters_by_hand():
    with torch.device("meta"):
        model = OneOfEach()
    parameters = measure.count_parameters(model)
    assert parameters.value == 3 * 8 * 9 + 8 + 8 * 5 + 5                           # the frozen ones are not trained
    counted = measure.count_macs(model, torch.empty(1, 3, 4, 4, device="meta"))
    conv, attention, linear = 16 * 3 * 8 * 9, 2 * 16 * 16 * 8, 16 * 8 * 5
    assert counted["macs"].value == conv + attention + linear
    assert counted["flops"].value == 2 * counted["macs"].value


def test_counting_off_the_meta_device_is_refused():
    with pytest.raises(AssertionError, match="meta device"):
        measure.count_macs(nn.Linear(2, 2), torch.zeros(1, 2))


def test_timing_calls_the_function_and_leaves_warm_up_out():
    calls = []
    seconds = measure.time_calls(lambda: calls.append(1), torch.device("cpu"), warmup=2, repeats=3)
    assert len(calls) == 5 and len(seconds) == 3 and all(s >= 0 for s in seconds)


def test_throughput_is_images_over_the_median_time():
    metric = measure.throughput("Training", 10, [0.1, 0.2, 5.0], {"batch_size": 10})
    assert metric.value == pytest.approx(50) and metric.n == 3 and metric.direction == "higher"
    assert measure.step_time([0.1, 0.2, 5.0], {}).value == pytest.approx(200)
    assert measure.step_time([], {}).value != measure.step_time([], {}).value       # nothing timed: NaN


def test_peak_memory_sees_what_was_held_for_a_moment():
    memory = measure.PeakMemory(torch.device("cpu"))
    size = 64 * 2 ** 20
    held = torch.ones(size // 4)
    del held
    metric = memory.stop({"batch_size": 1})
    assert 0.9 * size < metric.value < 4 * size and metric.unit == "B"
