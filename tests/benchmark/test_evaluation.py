"""Overhead and evaluation: contests over what `bench.py --suite generation` runs, here with a tiny budget."""

import pytest

from harness.benchmark import evaluation, overhead
from harness.benchmark.contest import OURS, BenchmarkOptions
from harness.execution import Execution
from harness.metrics import classifier
from harness.training.train import LOG_EVERY

PROFILE = """generation:
  dataset: digits
  options: {width: 4}
  train: {steps: 12, batch_size: 8, learning_rate: 1.0e-3}
  settings: {num_inference_steps: 2, samples: 20, sample_batch: 20}
"""


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(PROFILE)
    return str(path)


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


@pytest.mark.parametrize("rounds, runs", [(None, 1), (2, 2)])
def test_share_of_a_run(profile, tmp_path, monkeypatch, rounds, runs):
    monkeypatch.setitem(classifier.RECIPE, "steps", 3)
    said = []
    asked = BenchmarkOptions("cpu", "fp32", rounds=rounds, cache=tmp_path / "cache", say=said.append)
    [trial] = evaluation.run(asked, profile, how=Execution(in_process=True)).trials
    evaluated, whole = (trial.contestants[name].seconds for name in (evaluation.EVALUATED, evaluation.WHOLE))
    assert len(evaluated) == runs and all(0 < part < all_of_it for part, all_of_it in zip(evaluated, whole))
    assert 0 < trial.comparisons[0].value < 1 and sum("run " in line for line in said) == runs


def test_a_run_that_fails_is_no_share(profile, tmp_path, monkeypatch):
    monkeypatch.setitem(classifier.RECIPE, "steps", 3)

    def broken(*args, **options):
        raise OSError("disk on fire")

    monkeypatch.setattr("harness.suites.generation.fidelity", broken)
    with pytest.raises(RuntimeError, match="failed.*disk on fire"):
        options = BenchmarkOptions("cpu", "fp32", cache=tmp_path / "cache")
        evaluation.run(options, profile, how=Execution(in_process=True))
