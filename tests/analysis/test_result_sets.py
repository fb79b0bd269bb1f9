"""Two results folders: what is paired, what is said, and when the exit code is 1."""

import json
import math
from pathlib import Path

import pytest
import synthetic_records as synthetic
import synthetic_study
from command_line import bench, refused
from scipy import stats

from harness.analysis.result_sets import compare_sets, read_set
from harness.record import write_record
from harness.reporting import change_view
from harness.stats.hypothesis_tests import sign_flip_test
from harness.stats.power import smallest_n


def write(out, values, *, code="old", variant="plain", key="fid", label="FID (digits-cnn)", direction="lower",
          seeds=None, protocol=None, status="ok", others=None, cost=None, **spec):
    """One arm: a run for each of ``values``, of seeds 0, 1, ... or ``seeds``."""
    for seed, value in zip(range(len(values)) if seeds is None else seeds, values):
        metrics = {key: synthetic.metric(value, label, "", direction, protocol=protocol or {})}
        for name, its in (others or {}).items():
            metrics[name] = synthetic.metric(its[seed], name, "", "higher")
        costs = {name: synthetic.metric(value, name, "", "lower", 1) for name, value in (cost or {}).items()}
        record = synthetic.make_record(synthetic.make_spec(variant=variant, seed=seed, **spec), code=code, cost=costs,
                                       metrics=metrics if status == "ok" else {}, status=status,
                                       error=None if status == "ok" else "out of luck")
        folder = out / "runs" / record.run_id
        folder.mkdir(parents=True)
        write_record(folder, record)
    return out


def compared(a, b, **options):
    return compare_sets(read_set(a), read_set(b), **options)


def arm(found, family=0, i=0):
    return found.families[family].arms[i]


OLD = [5.0, 5.4, 5.2, 5.9, 5.1, 5.6]
WORSE = [value + shift for value, shift in zip(OLD, (0.9, 1.1, 1.0, 0.8, 1.2, 1.05))]


def test_a_paired_move_is_tested_exactly_and_knows_its_direction(tmp_path):
    a, b = write(tmp_path / "a", OLD), write(tmp_path / "b", WORSE, code="new")
    change = arm(compared(a, b)).headline
    differences = [new - old for old, new in zip(OLD, WORSE)]
    assert change.p == change.adjusted_p == sign_flip_test(differences).p == 2 / 2**6
    assert change.difference.mean == pytest.approx(sum(differences) / 6)
    assert change.verdict == "worse" and arm(compared(b, a)).headline.verdict == "better"
    assert compared(a, b).worse == ["plain: FID (digits-cnn) worse"] and compared(b, a).worse == []


@pytest.mark.parametrize("direction, verdict", [("higher", "better"), ("none", "changed")])
def test_the_metric_says_which_way_is_better(direction, verdict, tmp_path):
    a, b = (write(tmp_path / name, values, code=name, direction=direction)
            for name, values in (("a", OLD), ("b", WORSE)))
    assert arm(compared(a, b)).headline.verdict == verdict and compared(a, b).worse == []


def test_few_seeds_cannot_decide_and_it_is_said_with_the_t_interval(tmp_path):
    a, b = write(tmp_path / "a", OLD[:3]), write(tmp_path / "b", WORSE[:3], code="new")
    change = arm(found := compared(a, b)).headline
    assert (change.verdict, change.note) == ("cannot tell", "3 seeds; 6 needed") and found.worse == []
    reference = stats.ttest_rel(WORSE[:3], OLD[:3]).confidence_interval(0.95)
    assert (change.difference.low, change.difference.high) == pytest.approx((reference.low, reference.high))
    assert "3 seeds; 6 needed" in change_view.summary(found)


def test_holm_counts_the_arms(tmp_path):
    for variant in ("plain", "residual", "dit"):
        write(tmp_path / "a", OLD, variant=variant)
        write(tmp_path / "b", WORSE if variant == "dit" else OLD[::-1], variant=variant, code="new")
    changes = {one.arm: one.headline for one in compared(tmp_path / "a", tmp_path / "b").families[0].arms}
    assert changes["dit"].adjusted_p == pytest.approx(3 * changes["dit"].p)      # .094: six seeds are too few for three
    assert changes["dit"].verdict == "cannot tell"
    assert f"{smallest_n(comparisons=3)} needed for 3 tests" in changes["dit"].note


def test_noise_is_not_a_change(tmp_path):
    shifts = (0.3, -0.2, 0.1, -0.4, 0.25, -0.05)
    a = write(tmp_path / "a", OLD)
    b = write(tmp_path / "b", [value + shift for value, shift in zip(OLD, shifts)], code="new")
    assert arm(compared(a, b)).headline.verdict == "not beyond noise"


def test_the_same_runs_are_called_so_and_a_repeat_with_equal_values_equal(tmp_path):
    a = write(tmp_path / "a", OLD)
    found = compared(a, a)
    assert arm(found).headline.verdict == "same run" and "same runs" in change_view.summary(found)
    found = compared(a, write(tmp_path / "b", OLD, code="new"))
    assert arm(found).headline.verdict == "equal" and "last digit" in change_view.summary(found)
    assert not found.worse


def test_a_run_that_both_sets_hold_does_not_count_as_a_seed(tmp_path):
    """Six seeds that moved and two that were not made again: n = 6, not 8."""
    a = write(tmp_path / "a", [*OLD, 5.3, 5.5])
    b = write(write(tmp_path / "b", WORSE, code="new"), [5.3, 5.5], seeds=[6, 7])
    change = arm(compared(a, b)).headline
    assert change.difference.n == 6 and "2 more are the same runs" in change.note


def test_no_seed_in_common_is_welch(tmp_path):
    a, b = write(tmp_path / "a", OLD), write(tmp_path / "b", WORSE, seeds=range(6, 12), code="new")
    change = arm(found := compared(a, b)).headline
    reference = stats.ttest_ind(WORSE, OLD, equal_var=False)
    assert not change.paired and change.p == pytest.approx(reference.pvalue)
    assert change.difference.low == pytest.approx(reference.confidence_interval(0.95).low)
    assert change.verdict == "worse" and "Welch" in change.note and "do not overlap" in change.note
    assert any("only in B: seeds 6, 7" in note for note in arm(found).notes)


def test_one_seed_each_has_a_difference_and_no_verdict(tmp_path):
    a, b = write(tmp_path / "a", [5.0]), write(tmp_path / "b", [9.0], code="new")
    change = arm(compared(a, b)).headline
    assert change.difference.mean == 4 and (change.verdict, change.note) == ("cannot tell", "1 seed; 6 needed")


def test_min_effect_asks_for_a_move_that_matters(tmp_path):
    a, b = write(tmp_path / "a", OLD), write(tmp_path / "b", WORSE, code="new")
    assert arm(compared(a, b, min_effect=0.9)).headline.verdict == "worse"
    assert arm(compared(a, b, min_effect=2.0)).headline.verdict == "within"


def test_other_metrics_are_one_family_of_their_own(tmp_path):
    up = {"recall": [0.5 + 0.01 * i for i in range(9)], "precision": [0.7] * 9}
    down = {"recall": [0.4 + 0.012 * i for i in range(9)], "precision": [0.7] * 9}
    values = [*OLD, 5.3, 5.5, 5.7]
    a, b = write(tmp_path / "a", values, others=up), write(tmp_path / "b", values, others=down, code="new")
    found = compared(a, b)
    assert arm(found).headline.verdict == "equal"
    assert {change.key: change.verdict for change in arm(found).others} == {"recall": "worse", "precision": "equal"}
    assert found.worse == ["plain: recall worse"]


@pytest.mark.parametrize("new, worse", [(1001, True), (999, False)])
def test_a_counted_cost_must_be_equal(new, worse, tmp_path):
    a = write(tmp_path / "a", OLD[:2], cost={"parameters": 1000, "macs": 5, "step_ms": 10})
    b = write(tmp_path / "b", OLD[:2], cost={"parameters": new, "macs": 5, "step_ms": 20}, code="new")
    found = compared(a, b)
    assert arm(found).exact == {"parameters": {"a": [1000], "b": [new]}}
    assert found.worse == (["plain: parameters higher"] if worse else [])
    assert arm(found).ratios["step_ms"]["ratio"].mean == pytest.approx(2)
    assert set(arm(found).ratios) == {"step_ms"}   # slower, and no regression


def test_a_run_that_fails_now_is_a_regression(tmp_path):
    a = write(tmp_path / "a", OLD[:2])
    b = write(write(tmp_path / "b", OLD[:1], code="new"), OLD[:1], seeds=[1], status="diverged", code="new")
    assert compared(a, b).worse == ["plain: seed 1 was ok, now diverged: out of luck"]
    assert compared(b, a).worse == [] and "seed 1 was diverged, now ok" in arm(compared(b, a)).notes
    lost = compared(a, write(tmp_path / "c", [5.0, math.nan], code="new"))
    assert lost.worse == ["plain: seed 1: fid is undefined now"]


def test_arms_and_comparisons_of_one_side_are_listed(tmp_path):
    a = write(write(tmp_path / "a", OLD[:2]), OLD[:2], variant="dit")
    b = write(write(tmp_path / "b", OLD[:2], code="new"), OLD[:2], steps=7)
    found = compared(a, b)
    assert found.families[0].notes == ["dit: only in A"]
    assert len(found.unmatched) == 1 and "only in B" in found.unmatched[0] and "train.steps = 7" in found.unmatched[0]


def test_a_study_compares_its_arms_by_its_own_outcome(tmp_path):
    for name in ("a", "b"):
        synthetic_study.write_study(tmp_path / name, seeds=2, pictures=False, suites=("segmentation",))
    for path in (tmp_path / "b" / "runs").glob("*/record.json"):
        content = json.loads(path.read_text())
        content["started"] = content["started"].replace("2026", "2027")
        content["metrics"]["dice_macro"]["value"] -= 0.1
        path.write_text(json.dumps(content))
    (family,) = compared(tmp_path / "a", tmp_path / "b").families
    assert {one.arm for one in family.arms} == set(synthetic_study.ARMS)
    for one in family.arms:
        assert one.headline.key == "dice_macro" and one.headline.difference.mean == pytest.approx(-0.1)
        assert one.notes == ["2 seeds ran twice from the same code, spec and data"]


def test_command_line(tmp_path):
    a, b = write(tmp_path / "a", OLD), write(tmp_path / "b", WORSE, code="new")
    shown = bench("compare", a, b)
    words = " ".join(shown.output.split())
    assert shown.exit_code == 0 and "▼ worse" in words and "Worse: plain: FID (digits-cnn) worse" in words
    assert bench("compare", a, b, "--fail-on-regression").exit_code == 1
    assert bench("compare", b, a, "--fail-on-regression").exit_code == 0
    assert bench("compare", a, b, "--fail-on-regression", "--min-effect", 5).exit_code == 0
    content = json.loads(bench("compare", a, b, "--json").output)
    assert content["worse"] and content["families"][0]["arms"][0]["headline"]["verdict"] == "worse"


def test_bad_input_is_one_line(tmp_path):
    a = write(tmp_path / "a", OLD)
    refused(bench("compare", a, tmp_path / "absent"), "absent", "not a results folder")
    other = write(tmp_path / "other", OLD, steps=7, code="new")
    refused(bench("compare", a, other), "no arm in common", "train.steps = 2000", "train.steps = 7")
    protocol = write(tmp_path / "protocol", OLD, protocol={"samples": 7}, code="new")
    refused(bench("compare", a, protocol), "FID", "samples = 7", "samples = none")


def test_an_unreadable_record_is_named_and_no_silent_success(tmp_path):
    a, b = write(tmp_path / "a", OLD), write(tmp_path / "b", OLD, code="new")
    spoiled = next(Path(b / "runs").glob("*/record.json"))
    spoiled.write_text("{")
    result = bench("compare", a, b)
    assert result.exit_code == 2 and spoiled.parent.name in result.output.replace("\n", "")
