import csv

from command_line import bench, refused

from harness.inspection.statistics_page import Row, markdown


def row(found, low=0.93, high=0.97):
    return Row("95 % interval covers the truth", "auto; normal", 8, 1000, found, low, high, 0.007)


def test_a_promise_is_kept_within_the_error_of_the_simulation():
    nothing = float("nan")
    assert [row(x).kept for x in (0.95, 0.92, 0.9, 0.999)] == ["yes", "yes", "NO", "NO"]
    assert row(0.5, nothing, nothing).kept == "shown"


def test_markdown_counts_the_broken():
    text = markdown([row(0.95), row(0.5)], 1.0)
    assert "1 of 2 promises kept" in text and "| auto; normal | 8 | 1000 | 0.500 (0.007) | 0.93 to 0.97 | NO |" in text


def test_it_writes_both_files(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.inspection.statistics_page.simulate", lambda studies: iter([row(0.95)]))
    done = bench("page", "statistics", "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "new/simulations.csv").open()))
    assert rows[0]["kept"] == "yes" and rows[0]["n"] == "8"
    assert "1 of 1 promises kept" in (tmp_path / "new/README.md").read_text()


def test_an_unknown_page_is_refused():
    refused(bench("page", "statistic"), "did you mean 'statistics'")
