"""Which runs count, how they were measured, and their curves."""

import csv
import math

import pytest
from synthetic_study import arm, changed, read, study, with_outcome

from harness.ablation.manifest import arm_key
from harness.analysis.study_analysis import analyse
from harness.analysis.study_runs import arm_runs, curves, unassigned_runs
from harness.errors import InputError
from harness.record import Metric, write_record
from harness.spec import Seeds


def test_the_latest_run_of_a_seed_counts_and_every_other_is_named(tmp_path):
    manifest, runs = study(tmp_path)
    one = next(run for run in runs if run.record.spec.seeds.init == 3)
    old = changed(one, run_id="0ld", started="2020-01-01T00:00:00Z", metrics={})
    elsewhere = changed(one, run_id="e15e", started="2020-01-01T00:00:00Z", data={"fingerprint": "other"})
    odd = changed(one, run_id="0dd", spec=one.record.spec.model_copy(update={"seeds": Seeds(init=3, data=4)}))
    more = changed(one, run_id="90", spec=one.record.spec.model_copy(
        update={"seeds": Seeds(init=90, data=90, sampling=90)}))
    stray = changed(one, run_id="574a", spec=one.record.spec.model_copy(update={"variant": "dit"}))
    result, = analyse(manifest, [*runs, old, elsewhere, odd, more, stray])
    expected, = analyse(manifest, runs)
    assert [a.interval for a in result.arms] == [a.interval for a in expected.arms]
    assert sorted(result.excluded) == sorted(
        ["concat, seed 3: run 0ld was superseded by a later one", "concat, seed 90: not a seed of the study",
         "concat, seed 3: run e15e is on other data than the latest runs",
         "concat: run 0dd has three different seeds, and no run to be paired with"])
    assert unassigned_runs(manifest, [*runs, stray]) == [stray]


def test_an_undefined_outcome_is_no_pair(tmp_path):
    manifest, runs = study(tmp_path)
    first = manifest.parts[0].arms[1]
    runs = with_outcome(runs, "dice_macro", lambda spec, value: math.nan if arm_key(spec) == first.key
                        and spec.seeds.init == 7 else value)
    result, = analyse(manifest, runs)
    assert result.arms[1].comparison.test.n == 7 and result.arms[1].interval.undefined == 1
    assert result.excluded == ["none, seed 7: finished, but Dice (macro) is undefined"]


def protocols(runs, change):
    """Runs whose FID has ``change(spec)`` in its protocol."""
    found = []
    for run in runs:
        metric: Metric = run.record.metrics["fid"]
        metric = metric.model_copy(update={"protocol": {**metric.protocol, **change(run.record.spec)}})
        found.append(changed(run, metrics={**run.record.metrics, "fid": metric}))
    return found


def test_mixed_protocols_are_refused_with_what_differs(tmp_path):
    manifest, runs = study(tmp_path, suites=("generation",))
    runs = protocols(runs, lambda spec: {"n": 500 if spec.options.get("skip") == "gate" else 1000})
    with pytest.raises(InputError, match=r"FID \(digits-cnn\) was measured in 2 ways.*n = 1000.*n = 500 \(gate\)"):
        analyse(manifest, runs)
    runs = protocols(runs, lambda spec: {"n": 500 if spec.seeds.init == 3 else 1000})
    with pytest.raises(InputError, match="concat, seed 3"):
        analyse(manifest, runs)


def varied(manifest, runs, name, value):
    """The study with the arm "gate" as a change of a setting instead."""
    def change(spec):
        settings = {**spec.settings, "eta": 0.0}
        return spec.model_copy(update={"settings": {**settings, name: value} if spec.options.get("skip") == "gate"
                                       else settings})

    parts = tuple(part.model_copy(update={"arms": tuple(
        one.model_copy(update={"spec": change(one.spec)}) for one in part.arms)}) for part in manifest.parts)
    return manifest.model_copy(update={"parts": parts}), [changed(run, spec=change(run.record.spec)) for run in runs]


def test_what_a_study_varies_may_differ_in_the_protocol_and_nothing_else(tmp_path):
    manifest, runs = varied(*study(tmp_path, suites=("generation",)), "num_inference_steps", 5)
    runs = protocols(runs, lambda spec: {"num_inference_steps": spec.settings["num_inference_steps"]})
    assert arm(analyse(manifest, runs)[0], "gate").comparison.test.n == 8
    runs = protocols(runs, lambda spec: {"schedule": "linear" if spec.options.get("skip") == "gate" else "cosine"})
    with pytest.raises(InputError, match="schedule = linear"):
        analyse(manifest, runs)


def test_a_setting_that_the_treatment_leaves_unused_belongs_to_it(tmp_path):
    manifest, runs = varied(*study(tmp_path, suites=("generation",)), "sampler", "ddpm")
    runs = protocols(runs, lambda spec: {"sampler": "DDPM"} if spec.settings.get("sampler") else
                     {"sampler": "DDIM", "eta": 0.0})
    assert arm(analyse(manifest, runs)[0], "gate").comparison.test.n == 8


def test_an_outcome_that_no_run_has_is_one_line(tmp_path):
    manifest, runs = study(tmp_path)
    part = manifest.parts[0].model_copy(update={"outcome": "dice_macr"})
    with pytest.raises(InputError, match="did you mean 'dice_macro'"):
        analyse(manifest.model_copy(update={"parts": (part,)}), runs)


def rewrite_curves(runs, value):
    for run in runs:
        rows = [(step, step * 0.1, "validation loss", value(run.record.spec, step)) for step in range(100, 1001, 100)]
        with (run.folder / "curves.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("step", "seconds", "name", "value"), *rows, (5, 5, "loss", 0)])


def test_time_to_quality_takes_the_direction_that_the_suite_declares(tmp_path):
    manifest, runs = study(tmp_path, suites=("generation",))
    assert manifest.parts[0].curve == "validation loss"
    # falls twice as fast with gates: where the base is at step 1000, they are at 500
    rewrite_curves(runs, lambda spec, step: 2000 - step * (2 if spec.options.get("skip") == "gate" else 1))
    result, = analyse(manifest, runs)
    assert arm(result, "gate").speed.steps.ratio.mean == pytest.approx(0.5)
    assert arm(result, "gate").speed.seconds.ratio.mean == pytest.approx(0.5)
    assert arm(result, "add").speed.steps.ratio.mean == pytest.approx(1) and result.base.speed is None


def test_curves_that_are_missing_or_bad_are_left_out(tmp_path):
    manifest, runs = study(tmp_path, seeds=4)
    its = arm_runs(manifest.parts[0], runs)["concat"]
    (its[0].folder / "curves.csv").unlink()
    (its[1].folder / "curves.csv").write_text("step,seconds,name,value\n100,1,validation Dice,x\n")
    (its[2].folder / "curves.csv").write_text("step,seconds,name,value\n100,1,validation Dice,\n")
    found = curves(its, "validation Dice")
    assert set(found) == {2, 3} and math.isnan(found[2].values[0]) and len(found[3].steps) == 20


def test_a_record_that_was_written_and_read_is_the_same_finding(tmp_path):
    manifest, runs = study(tmp_path, seeds=3)
    before = analyse(manifest, runs)[0].conclusion
    for run in runs:
        write_record(run.folder, run.record)
    assert analyse(manifest, read(tmp_path))[0].conclusion == before
