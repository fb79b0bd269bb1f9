"""What study.json states against its runs: a changed arm, match, learning rate or seed is found."""

import csv
import json

import pytest
import synthetic_study
from test_verify import found, named

from harness.analysis.recompute import Findings
from harness.analysis.recompute_study import check_study
from harness.analysis.result_sets import read_runs


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    manifest = synthetic_study.write_study(out, seeds=2, matching=("none", "params"), tune=3, suites=("segmentation",),
                                           pictures=False)
    return out, manifest, read_runs(out)[0]


def studied(planned, change):
    """Findings on the study with ``change`` made to what study.json holds."""
    out, manifest, runs = planned
    content = json.loads(manifest.model_dump_json(by_alias=True))
    change(content)
    findings = Findings()
    check_study(out, type(manifest).model_validate(content), runs, findings)
    return findings


def test_a_study_that_was_not_changed_agrees(planned):
    findings = studied(planned, lambda content: None)
    assert not findings.differences and findings.checked > 12
    assert findings.unchecked["learning-rate trials whose runs are not kept"]


@pytest.mark.parametrize("change, words", [
    (lambda arm: arm["spec"]["options"].update(skip="dense"), ("'none'", "spec", "records of no arm")),
    (lambda arm: arm["difference"].update({"options.skip": "gate"}), ("difference options.skip", "gate / none")),
    (lambda arm: arm["match"].update(value=1), ("match value", "1")),
    (lambda arm: arm["match"].update(target=1_900_000), ("match target", "1900000")),
    (lambda arm: arm["match"].update(within=False), ("match within", "False / True")),
    (lambda arm: arm["tuning"].update(learning_rate=0.5), ("tuning learning_rate", "0.5")),
    (lambda arm: arm["tuning"]["trials"][0].update(value=-1.0), ("tuning learning_rate", "0.0003"))])
def test_a_changed_study(planned, change, words):
    findings = studied(planned, lambda content: change(content["parts"][1]["arms"][1]))
    found(findings, "study.json", "equal params: arm 'none'", *words)


def test_seeds_that_the_study_leaves_out(planned):
    found(studied(planned, lambda content: content.update(seeds=[0])), "study.json", "seeds", "seed 1")
    more = studied(planned, lambda content: content.update(seeds=[0, 1, 2]))
    assert not more.differences and len(more.unchecked["arms of the study without a run of every seed"]) == 12


def test_a_trial_is_looked_up_in_its_own_run(planned, tmp_path):
    out, manifest, runs = planned
    arm = manifest.parts[0].base
    spec = arm.spec.model_copy(update={"train": arm.spec.train.model_copy(update={"learning_rate": 3e-4})})
    made = synthetic_study.write_run(tmp_path / "tuning", spec, 0.0, 0)
    rows = list(csv.DictReader((tmp_path / "tuning/runs" / made.run_id / "curves.csv").open()))
    last = [float(row["value"]) for row in rows if row["name"] == "validation loss"][-1]
    for value, wrong in ((last, 0), (last + 0.1, 1)):
        trial = arm.tuning.trials[0].model_copy(update={"run_id": made.run_id, "value": value})
        changed = arm.model_copy(update={"tuning": arm.tuning.model_copy(update={"trials": (trial,)})})
        part = manifest.parts[0].model_copy(update={"arms": (changed,)})
        findings = Findings()
        check_study(tmp_path, manifest.model_copy(update={"parts": (part,)}), runs, findings)
        assert sum("end of validation loss" in one for one in named(findings)) == wrong
