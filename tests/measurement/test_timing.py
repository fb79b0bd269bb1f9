"""A timing says how it was taken, and is taken again where it did not get the processor."""

import pytest
import torch

from harness.measurement import processor, timing
from harness.measurement.lease import MachineLease
from harness.measurement.processor import ProcessorShare
from harness.measurement.timing import time_alone, time_calls

CPU = torch.device("cpu")


def test_calls_are_timed_and_warm_up_left_out():
    calls = []
    seconds = time_calls(lambda: calls.append(1), CPU, warmup=2, repeats=3)
    assert len(calls) == 5 and len(seconds) == 3 and all(s >= 0 for s in seconds)


def shares(monkeypatch, *values):
    monkeypatch.setattr(timing, "ATTEMPTS", 3)
    left = list(values)

    class Share:
        def stop(self):
            return left.pop(0)

    monkeypatch.setattr(timing, "ProcessorShare", Share)
    return left


def test_one_with_too_little_processor_time_is_taken_again(monkeypatch, tmp_path):
    left, calls = shares(monkeypatch, 0.4, 0.95, 0.99), []
    found = time_alone(lambda: calls.append(1), CPU, MachineLease(tmp_path), repeats=2, threads=1)
    assert found.processor_share == 0.95 and len(calls) == 6 and left == [0.99]


def test_after_the_last_attempt_the_best_stands_with_its_share(monkeypatch, tmp_path):
    shares(monkeypatch, 0.4, 0.7, 0.6)
    assert time_alone(lambda: None, CPU, MachineLease(tmp_path), threads=1).processor_share == 0.7


def test_a_system_that_does_not_say_is_not_asked_again(monkeypatch, tmp_path):
    left = shares(monkeypatch, None, 0.9)
    assert time_alone(lambda: None, CPU, MachineLease(tmp_path), threads=1).processor_share is None and left == [0.9]


def test_it_says_whether_it_was_alone_and_on_how_many_threads(tmp_path):
    lease, before = MachineLease(tmp_path), torch.get_num_threads()
    assert not time_alone(lambda: None, CPU, lease, threads=2).alone
    lease.join()
    found = time_alone(lambda: None, CPU, lease, threads=2)
    assert found.alone and found.threads == 2 and torch.get_num_threads() == before
    lease.leave()


@pytest.fixture
def times(monkeypatch, tmp_path):
    """times(*values): what /proc says, one reading after another: (ns run, ns waited, busy ticks, stolen), or None."""
    def prepare(*values):
        left = list(values)

        def place(name):
            if name == "/proc/stat":
                return tmp_path / "stat"
            reading = left.pop(0)
            if reading is None:
                return tmp_path / "absent"
            ran, waited, busy, stolen = reading
            (tmp_path / "task" / "1").mkdir(parents=True, exist_ok=True)
            (tmp_path / "task" / "1" / "schedstat").write_text(f"{ran} {waited} 1\n")
            (tmp_path / "stat").write_text(f"cpu  {busy} 0 0 7 7 0 0 {stolen} 0 0\n")
            return tmp_path / "task"

        monkeypatch.setattr(processor, "Path", place)

    return prepare


def test_share_by_hand(times):
    times((0, 0, 100, 0), (60, 20, 190, 10))          # 60 of 80 asked for; 10 of 100 ticks stolen
    assert ProcessorShare().stop() == 0.9 * 0.75


def test_no_share_where_nothing_was_asked_for_or_the_system_is_silent(times):
    times((5, 5, 100, 0), (5, 5, 100, 0), None, None)
    assert ProcessorShare().stop() is None and ProcessorShare().stop() is None
