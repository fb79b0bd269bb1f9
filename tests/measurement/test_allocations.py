"""What was allocated while something ran, against sizes known by hand."""

import math

import torch

from harness.measurement.allocations import follow, storage_bytes

CPU, SIZE = torch.device("cpu"), 1000


def test_peak_and_marks_by_hand():
    kept = []

    def call(mark):
        mark("nothing")
        kept.append(torch.empty(SIZE))
        mark("one")
        spare = torch.empty(2 * SIZE)
        mark("both")
        del spare
        mark("one again")

    found = follow(call, CPU)
    assert found.at == {"nothing": 0, "one": 4 * SIZE, "both": 12 * SIZE, "one again": 4 * SIZE}
    assert found.peak == 12 * SIZE


def test_what_was_there_before_does_not_count():
    there = torch.empty(5 * SIZE)
    found = follow(lambda mark: there.zero_(), CPU)
    assert found.peak == 0 and found.at == {}


def test_the_graph_of_a_forward_pass_is_held_until_backward():
    x = torch.randn(SIZE, requires_grad=True)

    def call(mark):
        y = x.exp().sin()
        mark("forward")
        y.sum().backward()
        mark("backward")

    found = follow(call, CPU)
    assert found.at["forward"] == 2 * 4 * SIZE                          # the exponential, kept by both, and its sine
    assert found.at["backward"] == 2 * 4 * SIZE                         # the sine, and the gradient of x
    assert found.peak > 3 * 4 * SIZE


def test_a_device_whose_allocator_cannot_say_gives_nan():
    called = []
    found = follow(lambda mark: called.append(mark("here")), torch.device("mps"))
    assert called and math.isnan(found.peak) and found.at == {}


def test_storages_count_once_and_whole():
    x = torch.empty(SIZE)
    assert storage_bytes([x, x.view(10, -1), x[:3]]) == 4 * SIZE
    assert storage_bytes([x, torch.empty(SIZE, dtype=torch.bfloat16)]) == 6 * SIZE
