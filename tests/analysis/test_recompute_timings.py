"""Medians and rates of an efficiency run again from its timed calls; what was changed by hand is found."""

import json

import pytest
import synthetic_efficiency as synthetic

from harness.analysis.recompute import Findings, check_run, recompute_timings
from harness.record import read_record
from harness.run_files import Run


@pytest.fixture
def folder(tmp_path):
    """A run with calls of 10, 20, 30, 40 ms for a step and half of that for a forward pass; batches of 4 images."""
    [record] = synthetic.write_output(tmp_path, sides=(32,), networks={"plain": synthetic.NETWORKS["plain"]})
    folder = tmp_path / "runs" / record.run_id
    rows = [f"{i},0,{name},{factor * value}" for name, factor in (("training step ms", 1), ("forward ms", 0.5))
            for i, value in enumerate((10, 40, 20, 30))]
    (folder / "curves.csv").write_text("\n".join(["step,seconds,name,value", *rows]) + "\n")
    stated = json.loads((folder / "record.json").read_text())
    for name, value in (("step_ms", 25), ("step_iqr_ms", 15), ("train_images_per_s", 160), ("forward_ms", 12.5),
                        ("forward_iqr_ms", 7.5), ("inference_images_per_s", 320)):
        stated["metrics"][name] |= {"value": value, "n": 4}
    (folder / "record.json").write_text(json.dumps(stated))
    return folder


def check(folder):
    findings = Findings()
    check_run(Run(read_record(folder), folder), findings)
    return findings, [difference for difference in findings.differences if "timed calls" in difference.place]


def change(folder, metric, **values):
    stated = json.loads((folder / "record.json").read_text())
    stated["metrics"][metric] |= values
    (folder / "record.json").write_text(json.dumps(stated))


def test_what_follows_from_the_calls_is_checked_and_the_rest_said_to_be_unchecked(folder):
    findings, differences = check(folder)
    assert differences == []
    unchecked = " ".join(findings.unchecked["metrics measured while running, and kept in record.json only"])
    assert "memory_bytes" in unchecked and "step_ms" not in unchecked


@pytest.mark.parametrize("metric, values", [("step_ms", {"value": 25.1}), ("forward_iqr_ms", {"value": 7}),
                                            ("train_images_per_s", {"value": 161}), ("step_ms", {"n": 5})])
def test_a_changed_number_is_found(metric, values, folder):
    change(folder, metric, **values)
    _, [difference] = check(folder)
    assert difference.place.startswith(f"metrics {metric} {next(iter(values))}")


@pytest.mark.parametrize("content", ["", "step,seconds,name,value\n1,0,training step ms,fast\n", "a,b\n1,2\n"])
def test_calls_that_cannot_be_read_decide_nothing(content, folder):
    (folder / "curves.csv").write_text(content)
    assert recompute_timings(Run(read_record(folder), folder)) == {}


def test_other_suites_have_no_timed_calls(folder):
    record = read_record(folder)
    other = record.model_copy(update={"spec": record.spec.model_copy(update={"suite": "generation"})})
    assert recompute_timings(Run(other, folder)) == {}
