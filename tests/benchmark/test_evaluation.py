"""Evaluation's share of a run of `bench.py --suite generation`."""

import pytest

from harness.benchmark import evaluation
from harness.benchmark.contest import BenchmarkOptions
from harness.execution import Execution
from harness.metrics import classifier


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
