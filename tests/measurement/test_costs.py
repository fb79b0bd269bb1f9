"""Costs: counted by hand where they can be, measured sensibly where they cannot."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.measurement import costs
from harness.measurement.timing import Timing
from harness.spec import TrainSpec
from harness.training.train import Trained

ROOT = Path(__file__).parents[2]


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
    parameters = costs.count_parameters(model)
    assert parameters.value == 3 * 8 * 9 + 8 + 8 * 5 + 5                           # the frozen ones are not trained
    counted = costs.count_macs(model, torch.empty(1, 3, 4, 4, device="meta"))
    conv, attention, linear = 16 * 3 * 8 * 9, 2 * 16 * 16 * 8, 16 * 8 * 5
    assert counted["macs"].value == conv + attention + linear
    assert counted["flops"].value == 2 * counted["macs"].value


def test_counting_on_the_cpu_counts_the_same_and_what_cannot_be_counted_is_undefined():
    """PyTorch's fused attention would escape the counter on a CPU."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(1, 6, 8)
    real = costs.count_macs(attention, x, x, x)
    x = x.to("meta")
    assert real == costs.count_macs(attention.to("meta"), x, x, x) and real["macs"].value > 2 * 6 * 6 * 8
    unknown = costs.uncounted_macs(x)
    assert math.isnan(unknown["macs"].value) and unknown["macs"].undefined == 1


def timing(*seconds, share=None):
    return Timing(list(seconds), share, alone=True, threads=2)


def test_throughput_is_images_over_the_median_time():
    metric = costs.throughput("Training", 10, timing(0.1, 0.2, 5.0, share=0.7), {"batch_size": 10})
    assert metric.value == pytest.approx(50) and metric.n == 3 and metric.direction == "higher"
    assert metric.processor_share == 0.7 and metric.protocol == {"batch_size": 10, "threads": 2, "alone": True}
    assert metric.fingerprint == costs.throughput("Training", 10, timing(0.1), {"batch_size": 10}).fingerprint


def test_training_speed_says_how_the_steps_were_taken():
    budget = TrainSpec(steps=9, batch_size=10, learning_rate=1e-3)

    def speed(budget):
        return costs.training_speed(Trained(None, [(3, 9.0, "loss", 1.0)], 7.0, 0.25,
                                              lambda: timing(0.1, 0.2, 5.0)), budget, (8, 6))

    found = speed(budget)
    assert list(found) == ["step_ms", "train_images_per_s", "data_wait_share"]
    assert found["step_ms"].value == pytest.approx(200) and found["train_images_per_s"].value == pytest.approx(50)
    assert found["data_wait_share"].value == 0.25
    assert found["step_ms"].protocol == {"batch_size": 10, "image": [8, 6], "precision": "fp32", "threads": 2,
                                         "alone": True, "memory_format": "channels_last", "compile": False}
    compiled = speed(budget.model_copy(update={"compile": True}))
    assert compiled["compile_s"].value == pytest.approx(6.8)
    assert compiled["step_ms"].fingerprint != found["step_ms"].fingerprint


def test_peak_memory_sees_what_was_held_for_a_moment():
    memory = costs.PeakMemory(torch.device("cpu"))
    size = 64 * 2 ** 20
    held = torch.ones(size // 4)
    del held
    metric = memory.stop({"batch_size": 1})
    assert 0.9 * size < metric.value < 4 * size and metric.unit == "B"


def test_memory_that_was_freed_and_kept_is_not_taken_for_used():
    """A process that keeps what it frees would otherwise find the next network's memory for nothing."""
    program = ("import torch\nfrom harness.measurement import costs\n"
               "from harness.training.device import keep_freed_memory\n"
               "keep_freed_memory()\nheld = torch.ones(2 ** 24)\ndel held\n"
               "memory = costs.PeakMemory(torch.device('cpu'))\nheld = torch.ones(2 ** 24)\n"
               "print(memory.stop({}).value)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert 0.9 * 2 ** 26 < float(done.stdout) < 2 * 2 ** 26
