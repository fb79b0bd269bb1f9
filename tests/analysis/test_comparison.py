import math

import numpy as np
import pandas as pd
import pytest
import synthetic_records as synthetic
from synthetic_runs import memory_run, runs_of

from harness.analysis import comparison
from harness.analysis.comparison import (
    Run,
    case_table,
    data_name,
    differences,
    group_runs,
    require_one_protocol,
    with_figures,
)
from harness.errors import InputError
from harness.spec import DataSpec
from harness.stats.intervals import CASES, NONE, SEEDS, bootstrap_interval


def test_two_suites_are_two_groups_ordered_by_headline(tmp_path):
    synthetic.write_output(tmp_path, seeds=2)
    segmentation, generation = group_runs(runs_of(tmp_path))
    assert (segmentation.title, generation.title) == ("Segmentation on cells", "Generation on digits")
    assert (segmentation.headline.key, generation.headline.key) == ("dice_macro", "fid")
    for group, sign in ((segmentation, -1), (generation, 1)):
        means = [sign * group.intervals[arm.label, group.headline].mean for arm in group.arms]
        assert means == sorted(means)
    assert {len(arm.runs) for arm in generation.arms} == {2}
    assert len({group.slug for group in (segmentation, generation)}) == 2


def test_seeds_give_a_t_interval_and_one_seed_its_test_cases(tmp_path):
    synthetic.write_output(tmp_path / "two", suites=("segmentation",), seeds=2, variants=("plain",))
    synthetic.write_output(tmp_path / "one", suites=("segmentation",), seeds=1, variants=("plain",))
    (two,), (one,) = group_runs(runs_of(tmp_path / "two")), group_runs(runs_of(tmp_path / "one"))
    columns = {column.key: column for column in one.columns}
    assert two.intervals["plain", columns["dice_macro"]].method == SEEDS
    found = one.intervals["plain", columns["dice_macro"]]
    assert (found.method, found.n) == (CASES, 20)
    assert found.low < one.runs[0].record.metrics["dice_macro"].value < found.high
    # per-case Dice does not reproduce IoU, HD95 or a pooled Dice: no interval rather than a wrong one
    assert {one.intervals["plain", columns[key]].method for key in ("iou_macro", "dice_micro", "hd95_macro")} == {
        NONE
    }


def test_cases_that_do_not_reproduce_the_value_give_no_interval(tmp_path):
    record = synthetic.write_run(tmp_path, synthetic.make_spec("segmentation"))
    synthetic.write_cases(tmp_path / "runs" / record.run_id, np.full((20, 3), 0.5))
    (group,) = group_runs(runs_of(tmp_path))
    assert not group.intervals["plain", group.headline].exists


def test_case_table_keeps_cases_together_and_undefined_undefined(tmp_path):
    cases = pd.DataFrame(
        {"case": ["a", "a", "b", "b"], "metric": "dice", "class": [0, 1, 0, 1], "value": [0.5, math.nan, 0.7, 0.9]}
    )
    assert np.array_equal(case_table(cases, "dice_macro"), [[0.5, math.nan], [0.7, 0.9]], equal_nan=True)
    assert case_table(cases, "hd95_macro") is None
    assert np.array_equal(case_table(cases, "dice_macro", ["1"]), [[math.nan], [0.9]], equal_nan=True)
    assert bootstrap_interval(case_table(cases, "dice_macro")).mean == pytest.approx((0.6 + 0.9) / 2)


def test_runs_that_differ_in_anything_else_are_another_group(tmp_path):
    groups = group_runs(
        [memory_run(tmp_path), memory_run(tmp_path, variant="fcn"), memory_run(tmp_path, steps=100)]
    )
    assert [group.title for group in groups] == [
        "Generation on digits (train.steps = 2000)",
        "Generation on digits (train.steps = 100)",
    ]
    assert [len(group.arms) for group in groups] == [2, 1]


def test_two_folders_of_anyones_data_are_two_groups(tmp_path):
    first = memory_run(tmp_path, data=DataSpec(name="folder", root="/a/scans"))
    second = memory_run(tmp_path, data=DataSpec(name="folder", root="/b/moles"))
    changed = second.record.model_copy(update={"data": {**second.record.data, "fingerprint": "other"}})
    groups = group_runs([first, Run(changed, second.folder)])
    assert [group.title for group in groups] == ["Generation on scans", "Generation on moles"]
    assert data_name(first.record) == "scans"


def test_a_run_that_failed_before_its_data_was_read_stays_in_its_group(tmp_path):
    (group,) = group_runs([memory_run(tmp_path), memory_run(tmp_path, seed=1, status="failed", error="no")])
    (arm,) = group.arms
    assert [run.record.status for run in arm.runs] == ["ok", "failed"]
    assert len(arm.finished) == 1


def test_a_seed_that_ran_twice_counts_once(tmp_path):
    old, new = memory_run(tmp_path, 9.0, code="old"), memory_run(tmp_path, 5.0, code="new", minute=5)
    (group,) = group_runs([new, old, memory_run(tmp_path, 6.0, seed=1)])
    (arm,) = group.arms
    assert arm.values(group.headline) == [5.0, 6.0]
    assert [run.record.code for run in arm.superseded] == ["old"]


def test_another_protocol_is_another_column_that_says_so(tmp_path):
    runs = [
        memory_run(tmp_path, 5.0, protocol={"samples": 1000, "resize": {"to": 8}}),
        memory_run(tmp_path, 9.0, seed=1, protocol={"samples": 500, "resize": {"to": 8}}),
    ]
    (group,) = group_runs(runs)
    first, second = group.select("metrics")
    assert (first.label, first.note) == ("FID (digits-cnn) [a]", "samples = 1000")
    assert (second.label, second.note) == ("FID (digits-cnn) [b]", "samples = 500")
    assert [group.intervals["plain", column].mean for column in (first, second)] == [5.0, 9.0]


def test_options_make_arms_and_only_what_differs_is_in_their_names(tmp_path):
    sets = [{"width": 32, "heads": 4}, {"width": 64, "heads": 4}]
    runs = [memory_run(tmp_path, options=options) for options in sets]
    (group,) = group_runs([*runs, memory_run(tmp_path, variant="dit", options={"width": 32, "patch": 2})])
    assert sorted(arm.label for arm in group.arms) == ["dit", "plain (width = 32)", "plain (width = 64)"]
    assert [len(arm.runs) for arm in group.arms] == [1, 1, 1]


def test_differences_names_what_differs():
    assert differences([{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}]) == ["b.c = 2", "b.c = 3"]
    assert differences([{"a": 1}, {}]) == ["a = 1", "a = none"]
    assert differences([{"a": 1}]) == [""]


def test_one_protocol_is_required_and_what_differs_is_said():
    first = synthetic.metric(1.0, protocol={"samples": 1000, "resize": {"to": 8}, "sampler": "DDIM"})
    second = synthetic.metric(2.0, protocol={"samples": 500, "resize": {"to": 8}, "sampler": "DDPM"})
    require_one_protocol({})
    require_one_protocol({"plain": first, "again": first.model_copy(update={"value": 7.0})})
    require_one_protocol({"plain": first, "dit": second}, ["samples", "sampler"])
    with pytest.raises(InputError) as refused:
        require_one_protocol({"plain": first, "fcn": first, "dit": second}, ["sampler"])
    assert str(refused.value) == (
        "FID (digits-cnn) was measured in 2 ways, which cannot stand in one table: "
        "samples = 1000 (plain and fcn); samples = 500 (dit)"
    )


def test_an_allowed_entry_covers_what_is_nested_in_it_and_nothing_that_begins_like_it():
    first, second = (synthetic.metric(1.0, protocol={"resize": {"to": size}}) for size in (8, 16))
    require_one_protocol({"a": first, "b": second}, ["resize"])
    require_one_protocol({"a": first, "b": second}, ["resize.to"])
    with pytest.raises(InputError, match=r"resize.to = 8 \(a\); resize.to = 16 \(b\)"):
        require_one_protocol({"a": first, "b": second}, ["res", "resize.t"])
    with pytest.raises(InputError, match="unit = px"):
        require_one_protocol({"a": first, "b": first.model_copy(update={"unit": "px"})}, ["resize"])


def test_titles_of_many_comparisons_say_each_what_differs(tmp_path):
    groups = group_runs([memory_run(tmp_path, steps=steps) for steps in range(1, 40)])
    assert [group.title for group in groups] == [
        f"Generation on digits (train.steps = {steps})" for steps in range(1, 40)
    ]


def test_cases_are_read_of_the_best_arms_only_where_there_are_very_many_and_that_is_said(tmp_path, monkeypatch):
    synthetic.write_output(tmp_path, suites=("segmentation",), seeds=1, failures=False, pictures=False)
    (whole,) = group_runs(runs_of(tmp_path))
    assert {whole.intervals[arm.label, whole.headline].method for arm in whole.arms} == {CASES} and not whole.notes
    monkeypatch.setattr(comparison, "CASES_READ", 3)
    (group,) = group_runs(runs_of(tmp_path))
    assert [arm.label for arm in group.arms] == [arm.label for arm in whole.arms]
    methods = [group.intervals[arm.label, group.headline].method for arm in group.arms]
    assert methods == [CASES] * 3 + [NONE] * (len(group.arms) - 3)
    assert "the best 3 got intervals over test cases" in group.notes[0]


def test_of_very_many_comparisons_the_largest_get_figures_and_the_others_say_so(tmp_path):
    runs = [memory_run(tmp_path, seed=seed, steps=steps) for steps in range(1, 6) for seed in range(steps)]
    groups = group_runs(runs)
    assert with_figures(groups, most=5) == {group.id for group in groups} and not any(g.notes for g in groups)
    assert with_figures(groups, most=2) == {group.id for group in groups[3:]}
    assert [len(group.notes) for group in groups] == [1, 1, 1, 0, 0]
