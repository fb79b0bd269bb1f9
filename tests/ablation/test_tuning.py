"""Every arm gets the same number of trials, they choose on validation data, and resuming runs nothing twice."""

import csv
import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_records import make_record

from harness.ablation import tuning
from harness.ablation.manifest import PlannedArm, Trial
from harness.ablation.tuning import best_rate, propose, trial_spec, tune_arms
from harness.errors import InputError
from harness.execution import Execution
from harness.record import write_record
from harness.spec import Seeds

CURVE = "validation loss"


class Valleys:
    """Stands for :func:`harness.execute.execute`: a run's loss is a valley in the logarithm of its rate.

    Each variant has an ``optimum``; from ``cliff`` times that on, runs diverge.
    """

    def __init__(self, cliff=math.inf, status=None, **optimum):
        self.cliff, self.status, self.optimum, self.ran = cliff, status, optimum, []

    def __call__(self, plan, data, out, *, how=None, listener):
        return [self.run(spec, out, listener) for spec in plan]

    def run(self, spec, out, listener):
        rate, optimum = spec.train.learning_rate, self.optimum[spec.variant]
        status = self.status or ("diverged" if rate > optimum * self.cliff else "ok")
        record = make_record(spec, status=status, error=None if status == "ok" else "the loss became nan")
        folder = out / "runs" / record.run_id
        if folder.exists():
            listener(spec, stage="kept", record=record)
            return record
        folder.mkdir(parents=True)
        self.ran.append(spec)
        loss = math.log10(rate / optimum) ** 2
        with (folder / "curves.csv").open("w", newline="") as file:
            # early and training values lead elsewhere: only the last one of the named curve may count
            csv.writer(file).writerows([
                ("step", "seconds", "name", "value"), (6, 0.1, CURVE, -rate), (12, 0.2, "validation Dice", -loss),
                (12, 0.2, CURVE, loss), (12, 0.2, "loss", -rate)])
        write_record(folder, record)
        listener(spec, stage="done", record=record)
        return record


@pytest.fixture
def arms(tiny_spec):
    specs = {name: tiny_spec("segmentation", variant=name) for name in ("plain", "no_skip")}
    return [PlannedArm(name=name, spec=spec) for name, spec in specs.items()]


def tune(arms, tmp_path, execute, trials=6, **options):
    return tune_arms(arms, None, tmp_path, trials=trials, execute=execute,
                     **{"curve": CURVE, "direction": "lower", **options})


def test_each_arm_finds_its_own_optimum_with_equally_many_trials(arms, tmp_path):
    execute = Valleys(plain=2e-3, no_skip=4e-2)
    tuned = tune(arms, tmp_path, execute)
    for arm, optimum in zip(tuned, (2e-3, 4e-2)):
        assert abs(math.log10(arm.spec.train.learning_rate / optimum)) < 0.1
        assert arm.tuning.learning_rate == arm.spec.train.learning_rate
        assert len(arm.tuning.trials) == 6
        assert min(arm.tuning.trials, key=lambda trial: trial.value).learning_rate == arm.tuning.learning_rate
    assert len(execute.ran) == 12
    assert tuned[0].tuning.trials[0].learning_rate == 1e-2
    first = [[trial.learning_rate for trial in arm.tuning.trials[:3]] for arm in tuned]
    assert first[0] == first[1] == [1e-2, 3.16e-3, 3.16e-2]


def test_a_trial_is_the_arm_with_another_rate_other_seeds_and_no_look_at_the_test_split(arms, tmp_path):
    execute = Valleys(plain=2e-3, no_skip=4e-2)
    tuned = tune(arms, tmp_path, execute)
    for spec in execute.ran:
        own = arms[0].spec if spec.variant == "plain" else arms[1].spec
        assert spec.evaluate_on_test is False and spec.seeds == Seeds(init=10_000, data=10_000, sampling=10_000)
        assert 1e-3 <= spec.train.learning_rate <= 1e-1
        rate = {"learning_rate": own.train.learning_rate}
        assert spec.model_copy(update={"evaluate_on_test": True, "seeds": own.seeds,
                                       "train": spec.train.model_copy(update=rate)}) == own
    for arm, before in zip(tuned, arms):
        assert arm.spec.evaluate_on_test and arm.spec.seeds == before.spec.seeds
        assert (arm.name, arm.difference) == (before.name, before.difference)
    assert sorted(path.name for path in (tmp_path / "tuning" / "runs").iterdir()) == sorted(
        trial.run_id for arm in tuned for trial in arm.tuning.trials)


def test_higher_is_better_where_the_curve_says_so(arms, tmp_path):
    execute = Valleys(plain=3e-3, no_skip=3e-3)
    [arm] = tune(arms[:1], tmp_path, execute, curve="validation Dice", direction="higher")
    assert abs(math.log10(arm.spec.train.learning_rate / 3e-3)) < 0.1
    assert (arm.tuning.curve, arm.tuning.direction) == ("validation Dice", "higher")


def test_a_second_call_runs_nothing_and_finds_the_same(arms, tmp_path):
    execute = Valleys(plain=2e-3, no_skip=4e-2, cliff=3)
    first = tune(arms, tmp_path, execute)
    ran = len(execute.ran)
    assert tune(arms, tmp_path, execute) == first
    assert len(execute.ran) == ran == 12


def test_an_interrupted_sweep_goes_on_and_more_trials_keep_the_earlier_ones(arms, tmp_path):
    whole = tune(arms, tmp_path / "whole", Valleys(plain=2e-3, no_skip=4e-2))

    class Killed(Valleys):
        def run(self, spec, out, listener):
            if len(self.ran) == 8:
                raise KeyboardInterrupt
            return super().run(spec, out, listener)

    with pytest.raises(KeyboardInterrupt):
        tune(arms, tmp_path / "cut", Killed(plain=2e-3, no_skip=4e-2))
    execute = Valleys(plain=2e-3, no_skip=4e-2)
    assert tune(arms, tmp_path / "cut", execute) == whole
    assert len(execute.ran) == 4
    more = tune(arms, tmp_path / "cut", execute, trials=7)
    assert [arm.tuning.trials[:6] for arm in more] == [arm.tuning.trials for arm in whole]
    assert len(execute.ran) == 4 + 2


def test_trials_that_diverge_count_as_used_and_the_search_leaves_them(arms, tmp_path):
    [arm] = tune(arms[:1], tmp_path, Valleys(plain=2e-3, cliff=2), trials=7)
    assert len(arm.tuning.trials) == 7
    for trial in arm.tuning.trials:
        assert (trial.value is None) == (trial.learning_rate > 4e-3)
    assert arm.tuning.trials[0].value is None
    assert abs(math.log10(arm.spec.train.learning_rate / 2e-3)) < 0.1


@pytest.mark.parametrize("status", ["diverged", "failed", "oom"])
def test_an_arm_of_which_all_fail_keeps_its_rate_and_says_so(arms, tmp_path, status):
    execute = Valleys(plain=1, status=status)
    [arm] = tune(arms[:1], tmp_path, execute, trials=5)
    assert arm.spec == arms[0].spec
    assert [trial.value for trial in arm.tuning.trials] == [None] * 5
    assert len({trial.learning_rate for trial in arm.tuning.trials}) == 5
    assert arm.tuning.learning_rate == 1e-2


def test_values_that_are_not_finite_do_not_count(arms, tmp_path):
    class Undefined(Valleys):
        def run(self, spec, out, listener):
            record = super().run(spec, out, listener)
            if spec.train.learning_rate == 3.16e-3:
                path = out / "runs" / record.run_id / "curves.csv"
                path.write_text(f"step,seconds,name,value\n12,0.2,{CURVE},nan\n")
            return record

    [arm] = tune(arms[:1], tmp_path, Undefined(plain=3e-3), trials=3)
    assert [trial.value is None for trial in arm.tuning.trials] == [False, True, False]
    assert arm.tuning.learning_rate == 1e-2


def test_the_profiles_own_rate_wins_ties():
    tied = [Trial(learning_rate=rate, value=0.5, run_id="") for rate in (1e-2, 1e-3, 1e-1)]
    assert best_rate(tied, "lower") == best_rate(tied, "higher") == 1e-2
    assert best_rate([], "lower") is None


def test_proposals_do_not_depend_on_the_process():
    done = [Trial(learning_rate=rate, value=value, run_id="") for rate, value in
            ((1e-2, 0.4), (3.16e-3, 0.3), (3.16e-2, None))]
    here = propose(done, 1e-2, direction="lower")
    code = ("from harness.ablation.tuning import propose; from harness.ablation.manifest import Trial; done = "
            f"{[one.model_dump() for one in done]!r}; "
            "print(propose([Trial(**one) for one in done], 1e-2, direction='lower'))")
    there = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True,
                           text=True, check=True)
    assert float(there.stdout) == here and 1e-3 <= here <= 1e-1
    assert "study created" not in there.stderr     # Optuna's log is not ours to print


def test_the_search_comes_closer_than_an_even_grid():
    """The reason for its choice, on valleys of unequal sides with a cliff: see the docstring of ``propose``."""
    mine, grid = [], []
    for draw in map(np.random.default_rng, range(30)):
        optimum, left, right = np.clip(draw.normal(0, 0.45), -1, 1), draw.uniform(0.3, 1.5), draw.uniform(0.6, 4)
        cliff = optimum + draw.uniform(0.35, 1.2)

        def excess(x, optimum=optimum, left=left, right=right):
            return (left if x < optimum else right) * (x - optimum) ** 2

        done = []
        for _ in range(6):
            rate = propose(done, 1e-2, direction="lower")
            x = math.log10(rate / 1e-2)
            done.append(Trial(learning_rate=rate, value=excess(x) if x < cliff else None, run_id=""))
        mine.append(excess(math.log10(best_rate(done, "lower") / 1e-2)))
        grid.append(min(excess(x) for x in np.linspace(-1, 1, 6) if x < cliff))
    assert np.median(mine) < np.median(grid) / 2


def test_without_optuna_one_line_says_what_to_install(arms, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(tuning.importlib.util, "find_spec", lambda name: None if name == "optuna" else found(name))
    execute = Valleys(plain=1)
    with pytest.raises(InputError, match=r"pip install -e '\.\[tune\]'") as caught:
        tune(arms, tmp_path, execute)
    assert "\n" not in str(caught.value) and not execute.ran
    assert tune(arms, tmp_path, execute, trials=0) == arms      # which needs none


def test_what_cannot_be_tuned_is_refused_before_anything_runs(arms, tmp_path):
    execute = Valleys(plain=1, no_skip=1)
    about = arms[0].model_copy(update={"name": "fast", "difference": {"train.learning_rate": 1e-2}})
    with pytest.raises(InputError, match="'fast' is about its learning rate"):
        tune([arms[1], about], tmp_path, execute)
    with pytest.raises(InputError, match="seed 0 is kept for tuning"):
        tune(arms, tmp_path, execute, seed=0)
    assert not execute.ran


def test_a_curve_that_a_trial_does_not_leave_is_named(arms, tmp_path):
    with pytest.raises(InputError, match="no curve 'validation Dyce'"):
        tune(arms, tmp_path, Valleys(plain=1e-2), curve="validation Dyce")


def test_a_record_that_cannot_be_read_is_named(arms, tmp_path):
    with pytest.raises(InputError, match="arm 'plain'.*cannot be read"):
        tune(arms, tmp_path, lambda plan, data, out, **rest: [])


def test_a_real_trial_is_not_judged(arms, tiny_data, tmp_path):
    trials = {"trials": 1, "curve": CURVE, "direction": "lower", "how": Execution(in_process=True)}
    [arm] = tune_arms(arms[:1], tiny_data("segmentation"), tmp_path, **trials)
    [trial] = arm.tuning.trials
    assert math.isfinite(trial.value) and arm.spec == arms[0].spec
    folder = tmp_path / "tuning" / "runs" / trial.run_id
    assert not (folder / "cases.csv").exists() and not (tmp_path / "runs").exists()
    assert trial_spec(arm.spec, 1e-2).identity() == arms[0].spec.model_copy(
        update={"evaluate_on_test": False, "seeds": Seeds(init=10_000, data=10_000, sampling=10_000)}).identity()
