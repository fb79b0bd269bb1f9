"""Efficiency records become curves, conditions and exponents; nothing is dropped and nothing is mixed."""

import math

import numpy as np
import pytest
import synthetic_efficiency as synthetic
import synthetic_records
from synthetic_efficiency import Network
from synthetic_runs import memory_run

from harness.analysis.scaling import FOLLOWED, QUANTITIES, metric_of, scaling_of
from harness.run_files import Run
from harness.stats.intervals import NONE, SEEDS
from harness.stats.power_law import CALLS, EXACT, FIT


def only(scaling):
    (condition,) = scaling.conditions
    return {curve.label: curve for curve in condition.curves}


def test_exponents_of_costs_that_are_power_laws():
    networks = {"linear": Network(1e5), "square": Network(0.0, 10.0)}
    curves = only(scaling_of(synthetic.runs_of(networks=networks)))
    for key in ("step_ms", "forward_ms", "macs"):
        for name, exponent in (("linear", 1), ("square", 2)):
            found = curves[name].fit(key).exponent
            assert found.mean == pytest.approx(exponent) and found.half_width < 1e-6
            assert (found.n, found.method) == (4, FIT)
            assert curves[name].local(key).mean == pytest.approx(exponent)
    # memory has a part that does not grow: less than in proportion, and more so at the largest sizes
    memory, local = curves["linear"].fit("memory_bytes").exponent, curves["linear"].local("memory_bytes")
    assert 0 < memory.mean < local.mean < 1


def test_a_transformer_s_exponent_is_between_and_grows():
    curve = only(scaling_of(synthetic.runs_of()))["dit"]
    network = synthetic.NETWORKS["dit"]
    cost = {side: network.linear * side**2 + network.square * side**4 for side in (128, 256)}
    assert curve.local("macs").mean == pytest.approx(math.log(cost[256] / cost[128], 4))
    assert 1 < curve.fit("macs").exponent.mean < curve.local("macs").mean
    assert curve.ends("macs") == (128, 256)


def test_every_condition_has_its_curves_and_says_what_tells_it_from_the_others():
    runs = synthetic.runs_of(sides=(32, 64), batches=(1, 16), precisions=("fp32", "bf16"))
    scaling = scaling_of(runs)
    assert [condition.title for condition in scaling.conditions] == ["batch 1, fp32", "batch 1, bf16",
                                                                     "batch 16, fp32", "batch 16, bf16"]
    assert all(condition.sides == [32, 64] and len(condition.curves) == 3 for condition in scaling.conditions)
    more = runs + synthetic.runs_of(sides=(32, 64), batches=(1,), compile=True)
    titles = [condition.title for condition in scaling_of(more).conditions]
    assert "batch 1, fp32, compiled" in titles and "batch 16, bf16, not compiled" in titles and len(titles) == 5
    # how often it was timed is not another condition
    assert len(scaling_of(runs + synthetic.runs_of(sides=(128,), batches=(1,), repeats=5)).conditions) == 4


def test_two_machines_are_two_conditions_and_a_run_that_died_before_it_knew_goes_with_the_first():
    def on(cpu, threads, **more):
        return [Run(run.record.model_copy(update={"env": {"cpu": cpu, "threads": threads}}), run.folder)
                for run in synthetic.runs_of(sides=(32, 64), networks={"plain": Network(1e5)}, **more)]

    dead = [Run(run.record.model_copy(update={"env": {"cpu": "A"}}), run.folder) for run in synthetic.runs_of(
        sides=(128,), networks={"plain": Network(1e5)}, lost={("plain", 128): ("oom", "big")})]
    first, second = scaling_of(on("A", 2) + on("B", 2, repeats=21) + dead).conditions
    assert (first.title, second.title) == ("batch 4, fp32, processor A", "batch 4, fp32, processor B")
    assert first.device == "A" and [run.record.status for _, _, run in first.lost] == ["oom"] and not second.lost
    assert [c.title for c in scaling_of(dead).conditions] == ["batch 4, fp32"]


def test_what_did_not_finish_stays_with_its_size_and_reason():
    lost = {("dit", 256): ("oom", "out of memory"), ("plain", 32): ("failed", "x")}
    scaling = scaling_of(synthetic.runs_of(lost=lost))
    (condition,) = scaling.conditions
    assert [(label, side, run.record.status) for label, side, run in condition.lost] == [
        ("plain", 32, "failed"), ("dit", 256, "oom")]
    curves = only(scaling)
    assert list(curves["dit"].points("step_ms")) == [32, 64, 128] and condition.sides == [32, 64, 128, 256]
    assert curves["dit"].fit("step_ms").exponent.n == 3 and curves["dit"].ends("step_ms") == (64, 128)


def test_too_few_sizes_have_no_interval_or_no_exponent():
    two, one = (only(scaling_of(synthetic.runs_of(sides=sides)))["plain"] for sides in ((32, 64), (32,)))
    assert two.fit("step_ms").exponent.mean == pytest.approx(1) and not two.fit("step_ms").exponent.exists
    assert math.isnan(one.fit("step_ms").exponent.mean) and one.ends("step_ms") is None
    assert math.isnan(one.local("step_ms").mean)
    assert two.fit("energy_j_per_image").exponent.n == 0         # not measured here


def test_seeds_are_averaged_and_the_latest_run_of_a_seed_counts():
    old = synthetic.runs_of(sides=(32, 64), networks={"plain": Network(5e5)}, seeds=(0, 1))
    new = [Run(run.record.model_copy(update={"started": "2026-02-01T00:00:00Z"}), run.folder) for run in
           synthetic.runs_of(sides=(32, 64), networks={"plain": Network(1e5)}, seeds=(0, 1), noise=0.1)]
    curve = only(scaling_of(new + old))["plain"]
    values = [metric_of(run.record, "step_ms").value for run in new if run.record.spec.settings["image_size"] == 64]
    assert len(values) == 2 and curve.points("step_ms")[64] == pytest.approx(np.mean(values))


def test_where_the_interval_of_a_ratio_comes_from():
    one = only(scaling_of(synthetic.runs_of(noise=0.01)))
    found = one["dit"].over("step_ms", 256, one["plain"], 256)
    assert found.method == CALLS and found.exists and found.n == 20
    assert one["dit"].over("macs", 256, one["plain"], 256).method == EXACT
    memory = one["dit"].over("memory_bytes", 256, one["plain"], 256)
    assert memory.method == FOLLOWED and memory.low == memory.high == pytest.approx(math.log(
        one["dit"].points("memory_bytes")[256] / one["plain"].points("memory_bytes")[256]))
    rate = one["dit"].over("step_flops_per_s", 256, one["plain"], 256)
    assert rate.method == NONE and rate.n == 1 and not rate.exists
    several = only(scaling_of(synthetic.runs_of(seeds=(0, 1, 2), noise=0.01)))
    assert several["dit"].over("step_ms", 256, several["plain"], 256).method == SEEDS
    assert several["dit"].over("memory_bytes", 256, several["plain"], 256).method == SEEDS


def test_a_network_that_changes_with_the_size_is_known_by_its_parameters():
    runs = []
    for side, parameters in ((32, 1_000), (64, 2_000), (128, 2_000), (256, 2_000)):
        runs += synthetic.runs_of(sides=(side,), networks={"plain": Network(1e5, parameters=parameters),
                                                           "fcn": Network(1e5)})
    curves = only(scaling_of(runs))
    assert curves["fcn"].one_network and curves["fcn"].same_network().finished == curves["fcn"].finished
    same = curves["plain"].same_network()
    assert not curves["plain"].one_network and list(same.finished) == [64, 128, 256] and same.left_out == (32,)


def test_options_tell_networks_of_one_variant_apart():
    runs = synthetic.runs_of(sides=(32, 64), networks={"dit": Network(1e5)}, options={"dit": {"patch_size": 2}})
    runs += synthetic.runs_of(sides=(32, 64), networks={"dit": Network(1e4)}, options={"dit": {"patch_size": 8}})
    assert set(only(scaling_of(runs))) == {"dit (patch_size = 2)", "dit (patch_size = 8)"}


def test_other_suites_are_left_alone_and_a_run_without_a_size_is_named(tmp_path):
    other = memory_run(tmp_path)
    assert scaling_of([other]) is None and scaling_of([]) is None
    runs = synthetic.runs_of(sides=(32,), networks={"plain": Network(1e5)})
    record = runs[0].record
    spec = record.spec.model_copy(update={"settings": {"channels": 3}})
    scaling = scaling_of([*runs, other, Run(record.model_copy(update={"spec": spec}), record.run_id)])
    assert len(scaling.conditions) == 1 and scaling.sides == [32]
    assert len(scaling.problems) == 1 and "no image_size" in scaling.problems[0]


def test_undefined_values_are_no_points():
    runs = synthetic.runs_of(networks={"plain": Network(1e5)})
    first = runs[0].record
    nan = synthetic_records.metric(math.nan, "Training step", "ms")
    runs[0] = Run(first.model_copy(update={"metrics": {**first.metrics, "step_ms": nan}}), runs[0].folder)
    curve = only(scaling_of(runs))["plain"]
    assert list(curve.points("step_ms")) == [64, 128, 256] and len(curve.points("forward_ms")) == 4
    assert set(QUANTITIES) <= first.metrics.keys() | first.cost.keys()
