"""Curves and cases: the quick way of reading them gives what pandas gives, and leaves to pandas what it cannot read."""

import numpy as np
import pandas as pd
import pytest
import synthetic_records as synthetic
import synthetic_sweeps as sweeps

from harness import run_files
from harness.analysis.comparison import group_runs
from harness.analysis.frames import run_frame
from harness.record import read_records
from harness.run_files import COLUMNS, Run, case_table, read_rows


@pytest.fixture
def run(tmp_path):
    return Run(synthetic.make_record(synthetic.make_spec()), tmp_path)


PLAIN = "step,seconds,name,value\n10,0.3,loss,0.5\n20,0.6,validation loss,nan\n30,0.9,loss,1e-3\n"


def test_a_plain_file_reads_as_pandas_reads_it_without_it(run, monkeypatch):
    (run.folder / "curves.csv").write_text(PLAIN)
    expected = pd.read_csv(run.folder / "curves.csv", usecols=COLUMNS["curves.csv"])
    monkeypatch.setattr(run_files.pd, "read_csv", lambda *a, **k: pytest.fail("pandas was asked"))
    pd.testing.assert_frame_equal(read_rows(run, "curves.csv", []), expected)


@pytest.mark.parametrize("text", [
    PLAIN.replace(",nan", ","), PLAIN.replace("10,0.3", "1e1,0.3"), PLAIN.replace("3,loss", '3,"loss, of noise"'),
    PLAIN + "1,2,3,4,5,6\n2,3\n", PLAIN + "30,0.9,loss,0.5,7\n", PLAIN.replace("\n", "\r\n"),
    "name,value,step\nloss,0.5,10\n"])
def test_anything_else_reads_as_pandas_reads_it(run, text):
    (run.folder / "curves.csv").write_text(text, newline="")
    expected, problems = pd.read_csv(run.folder / "curves.csv", usecols=COLUMNS["curves.csv"]), []
    found = read_rows(run, "curves.csv", problems)[list(expected)]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert not problems


@pytest.mark.parametrize("text", ["", "step,value\n1,2\n", "step,name,value\n1,loss,much\n",
                                  *(f"step,name,value\n{step},loss,1\n" for step in (
                                      "1" * 30, "9" * 5000, "inf", "one", "", "9007199254740993"))])
def test_a_bad_file_is_named(run, text):
    (run.folder / "curves.csv").write_text(text)
    problems = []
    assert read_rows(run, "curves.csv", problems) is None
    assert len(problems) == 1 and f"unreadable {run.folder.name}/curves.csv: " in problems[0]


def test_cases_in_any_order_and_doubled_make_the_table_that_a_pivot_makes():
    random = np.random.default_rng(0)
    rows = pd.DataFrame([(f"c{case}", "dice", kind, value) for case in range(9) for kind in ("b", "a", "10", "9")
                         for value in random.choice([0.5, 0.25, np.nan], 2)],
                        columns=["case", "metric", "class", "value"]).sample(frac=1, random_state=1)
    for classes in (None, ["a", "9"]):
        kept = rows if classes is None else rows[rows["class"].isin(classes)]
        expected = kept.pivot_table(index="case", columns="class", values="value", dropna=False)
        assert np.array_equal(case_table(rows, "dice_macro", classes), expected.to_numpy(float), equal_nan=True)


def test_a_sweep_of_many_records_makes_the_comparisons_it_was_written_as(tmp_path):
    assert sweeps.write_many(tmp_path, 1200, arms=10, groups=2, cases=20, pictures=1) == 1200
    records, problems = read_records(tmp_path / "runs")
    groups = group_runs([Run(record, tmp_path / "runs" / record.run_id) for record in records])
    assert not problems and len(groups) == 4
    assert {len(group.arms) for group in groups} == {10} and {len(group.runs) for group in groups} == {300}
    frame = run_frame(groups)
    assert len(frame) == 1200 and (frame["status"] == "diverged").sum() == 2
