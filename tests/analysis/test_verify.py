"""A changed number is found, whichever file it stands in; what was not changed agrees."""

import csv
import json
import re
import shutil

import pytest
import synthetic_records as synthetic
import synthetic_study
from command_line import bench, refused

from harness.analysis.comparison import group_runs
from harness.analysis.recompute import Findings, check_run
from harness.analysis.result_sets import read_runs
from harness.analysis.verify import cells, check_table, verify
from harness.reporting.report import write_report
from harness.reporting.table_files import write_tables


def recomputed(out):
    """What the records alone say, without writing a report."""
    findings = Findings()
    for run in read_runs(out)[0]:
        check_run(run, findings)
    return findings


def named(findings):
    return [f"{one.file}: {one.place}: {one.stated} / {one.recomputed}" for one in findings.differences]


def found(findings, file, *words):
    """A difference in ``file`` whose line holds all of ``words``."""
    assert any(one.startswith(file) and all(word in one for word in words) for one in named(findings)), named(findings)


def edit(path, change):
    """Change what a JSON file holds."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small study with its report, never changed."""
    out = tmp_path_factory.mktemp("finished") / "out"
    synthetic_study.write_study(out, seeds=2, axes=True, suites=("segmentation",), pictures=False)
    write_report(out)
    return out


@pytest.fixture
def out(tmp_path):
    """The runs of one segmentation arm."""
    synthetic.write_output(tmp_path, suites=("segmentation",), seeds=2, variants=("plain",))
    return tmp_path


@pytest.fixture
def record(out):
    return next((out / "runs").glob("*/record.json"))


def test_a_report_that_was_not_changed_agrees(tmp_path):
    synthetic.write_output(tmp_path, seeds=1, variants=("plain",), failures=False, pictures=False, curves=False)
    write_tables(tmp_path, group_runs(read_runs(tmp_path)[0]))
    findings = verify(tmp_path)
    assert not named(findings) and findings.checked > 100
    assert not any("this folder does not" in why for why in findings.unchecked)


def test_a_study_s_report_that_was_not_changed_agrees_and_is_left_alone(finished):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    result = bench("verify", finished)
    assert result.exit_code == 0 and "all agree" in result.output, result.output
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def edit_cell(path, column):
    """Add 1 to the first row of a CSV file; returns what it says then."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    i = rows[0].index(column)
    rows[1][i] = str(float(rows[1][i]) + 1)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return rows[1][i]


def test_every_changed_file_is_found_and_named(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    macs, mean = edit_cell(out / "table.csv", "MACs [MAC]"), edit_cell(out / "study-table.csv", "mean")
    cases, record, spoiled = sorted((out / "runs").glob("*/cases.csv"))[:3]
    (spoiled.parent / "record.json").write_text("{")
    lines = cases.read_text().splitlines()
    lines[5] = ",".join([*lines[5].split(",")[:3], "0.123"])
    cases.write_text("\n".join(lines) + "\n")
    edit(record.parent / "record.json", lambda content: content["metrics"]["boundary_iou_macro"].update(value=0.5))
    edit(out / "study.json", lambda content: content["parts"][0]["arms"][1]["difference"].update({"options.depth": 7}))

    findings = verify(out)
    found(findings, "table.csv", "run_id", "MACs", macs)
    found(findings, "table.csv", f"run_id {record.parent.name}", "boundary IoU", "0.5")
    found(findings, "study-table.csv", "metric dice_macro, column mean", mean)
    found(findings, f"runs/{cases.parent.name}/record.json", "dice")
    found(findings, "study.json", "difference options.depth", "7")
    found(findings, "runs", spoiled.parent.name, "a record that can be read")
    assert "report.html" in findings.unchecked["pages and figures: made of the same numbers, not read back"]


def test_exit_code_where_something_differs(out, monkeypatch):
    findings = Findings()
    findings.compare("table.csv", "row 1", 1, 2)
    monkeypatch.setattr("harness.analysis.verify.verify", lambda folder: findings)
    result = bench("verify", out)
    assert result.exit_code == 1 and "1 values computed again: 1 differs" in " ".join(result.output.split())


def test_the_record_follows_from_its_cases(out):
    findings = recomputed(out)
    assert not findings.differences
    assert findings.checked > 2 * (3 * 4 + 2)       # value, n and undefined of dice_macro and three classes; costs
    # what has no cases is not said to agree
    assert any("hd95_macro" in what for whats in findings.unchecked.values() for what in whats)


@pytest.mark.parametrize("key, field, value", [
    ("dice_macro", "value", 0.99), ("dice/cell", "value", 0.5), ("dice_macro", "undefined", 0), ("dice_macro", "n", 41),
    ("dice/border", "value", None), ("iou_micro", "value", 0.9)])
def test_a_changed_metric(out, record, key, field, value):
    edit(record, lambda content: content["metrics"][key].update({field: value}))
    findings = recomputed(out)
    assert len(findings.differences) == 1
    found(findings, f"runs/{record.parent.name}/record.json", key, "nan" if value is None else str(value))


def test_a_change_in_the_sixth_digit_is_found_and_rounding_is_not(out, record):
    edit(record, lambda content: content["metrics"]["dice_macro"].update(
        value=content["metrics"]["dice_macro"]["value"] * (1 + 1e-9)))
    assert not recomputed(out).differences
    edit(record, lambda content: content["metrics"]["dice_macro"].update(
        value=content["metrics"]["dice_macro"]["value"] * (1 + 5e-6)))
    assert len(recomputed(out).differences) == 1


@pytest.mark.parametrize("row, words", [
    ("case05,dice,cell,0.1", ("dice_macro value",)), ("case05,dice,cell,nan", ("dice_macro undefined",)),
    ("case05,dice,cell,much", ("much", "a table of numbers")),
    ("case05,dice,cell,0.9\ncase05,dice,cell,0.9", ("a second value",))])
def test_a_changed_case(out, record, row, words):
    path = record.parent / "cases.csv"
    path.write_text(re.sub(r"case05,dice,cell,\S+", row, path.read_text()))
    found(recomputed(out), f"runs/{record.parent.name}", *words)


def test_dice_and_iou_of_a_case_belong_together(out, record):
    with (record.parent / "cases.csv").open("a") as file:
        file.write("case00,iou,cell,0.2\n")
    found(recomputed(out), f"runs/{record.parent.name}/cases.csv", "iou of cell, case case00")


def test_no_cases_is_not_agreement(out, record):
    (record.parent / "cases.csv").unlink()
    findings = recomputed(out)
    assert not findings.differences
    assert f"runs/{record.parent.name}/record.json: dice_macro" in findings.unchecked["means over cases: no cases.csv"]


@pytest.mark.parametrize("change", [
    lambda content: content["spec"]["train"].update(learning_rate=0.5),
    lambda content: content["spec"]["options"].update(width=9), lambda content: content["spec"]["seeds"].update(data=5),
    lambda content: content.update(code="beef"), lambda content: content["data"].update(fingerprint="0")])
def test_a_changed_spec_is_not_what_its_id_says(out, record, change):
    edit(record, change)
    found(recomputed(out), f"runs/{record.parent.name}/record.json", "hash of spec, code and data")


def test_a_spec_written_before_a_field_existed_keeps_its_id(out, record):
    """A default that came later is no change of the run: the id follows from the spec as it was written."""
    from harness.spec import digest
    content = json.loads(record.read_text())
    removed = content["spec"]["train"].pop("precision")
    assert removed == "fp32"
    spec = {key: value for key, value in content["spec"].items() if key != "profile"}
    spec["data"] = {key: spec["data"][key] for key in ("name", "options")}
    content["run_id"] = digest({"spec": spec, "code": content["code"], "data": content["data"]["fingerprint"]})
    record.write_text(json.dumps(content))
    record.parent.rename(record.parent.parent / content["run_id"])
    assert not recomputed(out).differences


def test_an_id_of_the_whole_spec_as_it_was_written_still_holds(out, record):
    """Ids of results from before defaults were left out are never computed anew."""
    from harness.spec import digest
    content = json.loads(record.read_text())
    spec = {**content["spec"], "data": {key: content["spec"]["data"][key] for key in ("name", "options")}}
    spec.pop("profile")
    content["run_id"] = digest({"spec": spec, "code": content["code"], "data": content["data"]["fingerprint"]})
    assert content["run_id"] != record.parent.name
    record.write_text(json.dumps(content))
    record.parent.rename(record.parent.parent / content["run_id"])
    assert not recomputed(out).differences


def test_which_runs_are_compared_counts_and_not_the_comparisons_name():
    text = "group,run_id,Dice\naa,1,0.5\naa,2,0.5\nbb,3,0.5\n"
    first, renamed, moved = map(cells, (text, text.replace("aa", "cc"), text.replace("aa,2", "bb,2")))
    assert first == renamed != moved


def test_costs_that_follow_from_each_other(out, record):
    edit(record, lambda content: content["cost"]["flops"].update(value=5.0))
    edit(record, lambda content: content["cost"]["step_ms"].update(value=5.0))
    assert len(recomputed(out).differences) == 2
    found(recomputed(out), "runs", "flops", "5.0")


def test_pictures_and_curves_are_there(out, record):
    (record.parent / "truth.png").unlink()
    (record.parent / "curves.csv").write_text("step,name,value\n1,loss,high\n")
    findings = recomputed(out)
    found(findings, f"runs/{record.parent.name}/truth.png", "absent")
    found(findings, f"runs/{record.parent.name}/curves.csv", "unreadable")


@pytest.mark.parametrize("text, change", [
    ("arm,value\nx,1.5\n", ("1.5", "1.500001")), ("arm,value\nx,12345678\n", ("8\n", "9\n")),
    ("arm,value\nx,1.5\ny,2.5\n", ("y,2.5\n", ""))])
def test_a_changed_cell_of_a_table(text, change, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    check_table(path, text, agreeing := Findings())
    assert agreeing.checked and not agreeing.differences
    path.write_text(text.replace(*change))
    check_table(path, text, findings := Findings())
    assert findings.differences and all(one.file == "t.csv" for one in findings.differences)


def test_last_digits_of_a_float_may_differ(tmp_path):
    (tmp_path / "t.csv").write_text(f"arm,value\nx,{0.1 + 0.2!r}\n")
    check_table(tmp_path / "t.csv", f"arm,value\nx,{0.3!r}\n", findings := Findings())
    assert 0.1 + 0.2 != 0.3 and findings.checked and not findings.differences


def test_bad_input_is_one_line(tmp_path, out, record):
    refused(bench("verify", tmp_path / "absent"), "absent", "not a results folder")
    for path in (out / "runs").glob("*/record.json"):
        path.write_text("{")
    refused(bench("verify", out), "no readable record")
