"""A packed folder says what the folder says that it was made from, in a tenth of the files."""

import pytest
import synthetic_records as synthetic
import synthetic_study
from command_line import bench, refused

from harness.analysis.verify import verify
from harness.reporting.report import write_report
from harness.run_files import read_rows, read_runs


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(as left, packed): a study and a run beside it, each with its report."""
    out, to = (tmp_path_factory.mktemp("packed") / name for name in ("out", "to"))
    synthetic_study.write_study(out, seeds=2, suites=("segmentation",))
    synthetic.write_run(out, synthetic.make_spec("generation", "plain", 0), minute=999)
    with pytest.MonkeyPatch.context() as patch:    # figures have their own tests
        for name in ("write_plots", "write_forest", "write_case_plot"):
            patch.setattr(f"harness.reporting.report.{name}", lambda *_, **__: [])
        write_report(out)
        done = bench("report", out, "--pack", to)
    assert done.exit_code == 0 and "13 runs packed" in done.output, done.output
    return out, to


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_same_tables_and_pictures_in_a_few_files(folders):
    out, to = folders
    for name in ("table.csv", "table.md", "table.tex", "study-table.csv", "study-table.md"):
        assert (to / name).read_bytes() == (out / name).read_bytes(), name
    sheets = sorted(path.name for path in (out / "plots").glob("*-sheet.png"))
    assert len(sheets) == 2 and all((to / "plots" / name).read_bytes() == (out / "plots" / name).read_bytes()
                                    for name in sheets)
    assert not (to / "runs").exists() and len(files(to)) < 0.6 * len(files(out))
    own = [path for path in files(to) if path.parent == to and path.suffix in (".csv", ".jsonl")]
    assert sorted(path.name for path in own) == ["cases.csv", "curves.csv", "records.jsonl", "study-table.csv",
                                                 "table.csv"]


def test_every_number_follows_from_it_and_a_changed_one_is_found(folders, tmp_path):
    _, to = folders
    assert not verify(to).differences and verify(to).checked > 500
    runs, problems = read_runs(to)
    assert len(runs) == 13 and not problems
    path = to / "cases.csv"
    before = path.read_text()
    first = before.splitlines()[1].split(",")
    try:
        path.write_text(before.replace(",".join(first[:3]), ",".join([*first[:2], "0.123"]), 1))
        assert any(first[0] in one.file for one in verify(to).differences)
    finally:
        path.write_text(before)


def test_curves_and_cases_are_those_that_were_left(folders):
    for left, packed in zip(*(read_runs(folder)[0] for folder in folders)):
        assert left.record.run_id == packed.record.run_id and left.record.metrics == packed.record.metrics
        for name in ("curves.csv", "cases.csv"):
            assert left.has(name) == packed.has(name)
            if left.has(name):
                one, other = read_rows(left, name, []), read_rows(packed, name, [])
                order = [column for column in one if column != "value"]
                one, other = (rows.sort_values(order, ignore_index=True) for rows in (one, other))
                assert one.astype({column: str for column in order}).equals(
                    other[list(one)].astype({column: str for column in order}))


def test_wrong_input_is_one_line(folders, tmp_path):
    out, to = folders
    refused(bench("report", out, "--pack", to), "not an empty folder")
    refused(bench("report", tmp_path / "absent", "--pack", tmp_path / "new"), "not a results folder")


def test_a_torn_line_and_a_torn_table_are_named_and_the_rest_is_read(folders, tmp_path):
    _, to = folders
    lines = (to / "records.jsonl").read_text().splitlines()
    (tmp_path / "records.jsonl").write_text("\n".join([lines[0][:100], *lines[1:3]]))
    (tmp_path / "curves.csv").write_text("run_id,step,seconds,name,value\n1,2\n")
    runs, problems = read_runs(tmp_path)
    assert len(runs) == 2 and len(problems) == 1 and "records.jsonl, line 1" in problems[0]
    named = []
    assert read_rows(runs[0], "curves.csv", named) is None and "another number of cells" in named[0]
