"""Who is timed when: with a clock that only moves when a contestant says so."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harness.benchmark import contest
from harness.benchmark.contest import OURS, BenchmarkOptions, Budget, PlainLoop, alternate, take_turns, train_among
from harness.training.train import make_accelerator

CPU = torch.device("cpu")


class Always:
    """The same batch at every step."""

    def __init__(self, batch):
        self.batch = batch

    def __getitem__(self, step):
        return self.batch


@pytest.fixture
def clock(monkeypatch):
    """clock.work(seconds, name): a contestant takes so long; clock.log has who did."""
    now = SimpleNamespace(seconds=0.0, log=[])

    def work(seconds, name=None):
        now.seconds += seconds
        now.log.append(name)

    now.work = work
    monkeypatch.setattr(contest, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def test_turns_go_one_way_and_then_the_other(clock):
    calls = {name: lambda name=name, s=s: clock.work(s, name) for name, s in (("a", 1.0), ("b", 2.0), ("c", 4.0))}
    timed = take_turns(calls, Budget(0, rounds=3), CPU)
    assert "".join(clock.log) == "abcabc" + "abc" + "cba" + "abc"     # twice to warm up, then three rounds
    assert timed.seconds == {"a": [1.0] * 3, "b": [2.0] * 3, "c": [4.0] * 3} and timed.calls_per_turn == 1


def test_short_calls_are_timed_several_at_a_time(clock):
    timed = take_turns({"a": lambda: clock.work(0.03), "b": lambda: clock.work(0.5)}, Budget(0, rounds=2), CPU)
    assert timed.calls_per_turn == 7                                  # 7 x 0.03 s are a turn of 0.2 s
    assert timed.seconds["a"] == pytest.approx([0.03] * 2) and timed.seconds["b"] == pytest.approx([0.5] * 2)


def test_the_first_call_is_kept_apart(clock):
    times = itertools.chain([60.0], itertools.repeat(1.0))
    timed = take_turns({"a": lambda: clock.work(next(times))}, Budget(0, rounds=2), CPU)
    assert timed.first_s == {"a": 60.0} and timed.seconds == {"a": [1.0, 1.0]}


@pytest.mark.parametrize("seconds, took, rounds", [(100, 10, 10), (5, 10, contest.LEAST_ROUNDS),
                                                   (1e6, 1, contest.MOST_ROUNDS)])
def test_rounds_go_on_for_a_time(clock, seconds, took, rounds):
    timed = take_turns({"a": lambda: clock.work(took)}, Budget(seconds), CPU)
    assert len(timed.seconds["a"]) == rounds


def test_who_iterates_may_take_part_himself(clock):
    timed = contest.Timed()
    for _ in alternate({"me": None, "b": lambda: clock.work(1.0, "b")}, timed, Budget(0, rounds=2, calls=3), CPU):
        clock.work(2.0, "me")
    assert timed.seconds == {"me": [2.0, 2.0], "b": [1.0, 1.0]}
    assert clock.log[4:] == ["me"] * 3 + ["b"] * 6 + ["me"] * 3


def test_a_step_of_the_training_loop_is_timed_with_all_it_does(clock):
    class Batches:
        def __getitem__(self, step):
            clock.work(2.0, "batch")
            return torch.ones(4, 3)

    def loss(model, batch):
        clock.work(5.0, "loss")
        return model(batch).square().mean()

    class Slow(torch.optim.AdamW):                 # what follows the loss belongs to the step, too
        def step(self, *args, **kwargs):
            clock.work(11.0, "optimiser")
            return super().step(*args, **kwargs)

    def progress(**event):
        clock.work(3.0, "message")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Slow)
        timed = train_among({"b": lambda: clock.work(1.0, "b")}, Budget(0, rounds=4, calls=10), nn.Linear(3, 1), loss,
                            Batches(), make_accelerator("cpu", "fp32"), progress=progress)
    assert timed.seconds["b"] == [1.0] * 4 and clock.log.count("b") == 42
    assert timed.seconds[OURS] == pytest.approx([2.0 + 5.0 + 11.0 + 3.0 / 10] * 4)       # one message in ten steps


def test_the_others_do_not_compute_in_our_precision():
    seen = []

    def other():
        seen.append(nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype)

    train_among({"b": other}, Budget(0, rounds=1), nn.Linear(3, 1), lambda model, x: model(x).square().mean(),
                Always(torch.ones(4, 3)), make_accelerator("cpu", "bf16"))
    assert set(seen) == {torch.float32}


def test_training_that_ends_before_the_trial_is_said():
    budget = contest.BUDGET.model_copy(update={"steps": 2})
    with pytest.raises(AssertionError, match="2 steps"):
        train_among({}, Budget(0, rounds=50), nn.Linear(3, 1), lambda model, x: model(x).square().mean(),
                    Always(torch.ones(4, 3)), make_accelerator("cpu", "fp32"), budget)


def test_the_plain_loop_learns():
    network = nn.Linear(3, 1)
    batches = itertools.repeat(torch.ones(4, 3))
    loop = PlainLoop(network, lambda model, x: model(x).square().mean(), batches, "bf16", CPU)
    before = loop()
    for _ in range(20):
        after = loop()
    assert after < before


@pytest.mark.parametrize("asked, precision, compiled, goal", [
    (BenchmarkOptions("cpu", "bf16"), "fp32", False, 2.0), (BenchmarkOptions("cpu", "bf16"), "bf16", False, 1.2),
    (BenchmarkOptions("cpu", "bf16"), "fp32", True, None),    # compiled: the goals are for what is the default
    (BenchmarkOptions("cpu", "fp32"), "fp32", False, None),   # and so not for fp32, where bf16 is
    (BenchmarkOptions("cuda", "bf16"), "bf16", True, 1.2), (BenchmarkOptions("cuda", "bf16"), "fp32", False, None)])
def test_goals_are_for_the_default_on_a_cpu_and_for_equal_settings_on_a_gpu(asked, precision, compiled, goal,
                                                                            monkeypatch):
    monkeypatch.setattr(contest, "default_precision", lambda device: "bf16")
    assert asked.goal({"fp32": 2.0, "bf16": 1.2}, precision, compiled) == goal


def test_peers_run_as_they_come_and_in_our_precision():
    assert BenchmarkOptions("cpu", "bf16").peer_precisions == ("fp32", "bf16")
    assert BenchmarkOptions("cpu", "fp32").peer_precisions == ("fp32",)
