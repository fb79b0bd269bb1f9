"""What the training loop adds to a bare one: a contest over what `bench.py --suite generation` trains."""

import pytest

from harness.benchmark import overhead
from harness.benchmark.contest import OURS, BenchmarkOptions
from harness.training.train import LOG_EVERY


def test_every_turn_of_the_loop_holds_one_look_at_the_loss(profile, tmp_path, monkeypatch):
    events = []
    real = overhead.train_among

    def listening(*args, progress, **options):
        def hear(**event):
            events.append(event)
            progress(**event)
        return real(*args, progress=hear, **options)

    monkeypatch.setattr(overhead, "train_among", listening)
    found = overhead.run(BenchmarkOptions("cpu", "fp32", rounds=3, cache=tmp_path), profile)
    [trial] = found.trials
    ours, bare = trial.contestants[OURS], trial.contestants[overhead.BARE]
    assert trial.calls_per_turn == LOG_EVERY and len(ours.seconds) == len(bare.seconds) == 3
    assert [event["step"] for event in events] == [10, 20, 30]        # 2 to warm up, then 3 turns of 10
    [comparison] = trial.comparisons
    assert comparison.value == pytest.approx(sorted(a / b for a, b in zip(ours.seconds, bare.seconds))[1] - 1)
    assert "`plain` of width 4" in found.setting and "batches of 8" in found.setting
