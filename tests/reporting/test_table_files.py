import csv
import json
import math

import pytest
import synthetic_records as synthetic
from rich.console import Console
from synthetic_runs import memory_run, runs_of

from harness.analysis.comparison import group_runs
from harness.analysis.comparison_tables import cost_table, failures, make_table, per_class_tables, summary_table
from harness.analysis.frames import run_frame
from harness.formatting import format_cost, format_interval, format_value
from harness.reporting.table_files import blocks, print_comparisons, write_tables
from harness.stats.intervals import Interval, mean_interval


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    synthetic.write_output(folder, pictures=False, curves=False)
    return folder


@pytest.fixture(scope="module")
def groups(out):
    return group_runs(runs_of(out))


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (5.1042, 0.5781, "5.1 ± 0.6"),
        (21.34, 2.14, "21.3 ± 2.1"),
        (86.2, 9.3, "86 ± 9"),
        (0.8886, 0.0047, "0.889 ± 0.005"),
        (0.8791, 0.0112, "0.879 ± 0.011"),
        (0.01652, 0.00121, "0.0165 ± 0.0012"),
        (2332.3, 2.3, "2332 ± 2"),
        (1267.2, 64.1, "1267 ± 64"),
        (388.7, 0.41, "388.7 ± 0.4"),
        (5.32, math.nan, "5.32"),
        (0.000614, math.nan, "0.000614"),
        (0, math.nan, "0.00"),
        (0.9, 1e-17, "0.90000 ± 0.00000"),
        (math.nan, math.nan, "–"),
        (123456, math.nan, "123456"),
    ],
)
def test_numbers_have_the_digits_their_interval_supports(value, half, text):
    assert format_value(value, half) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_234_000, "", "1.23 M"),
        (34.1e6, "MAC", "34.1 MMAC"),
        (85 * 2**20, "B", "85.0 MiB"),
        (210.4, "images/s", "210"),
        (512, "B", "512 B"),
        (1024, "B", "1.00 KiB"),
        (2.5e12, "FLOP", "2.50 TFLOP"),
        (900, "", "900"),
    ],
)
def test_costs_are_told_in_the_unit_of_their_size(value, unit, text):
    assert format_cost(mean_interval([value]), unit) == text
    assert format_cost(mean_interval([value] * 3), unit) == text


def test_a_measured_cost_keeps_its_interval_and_a_bootstrap_its_ends():
    assert format_cost(mean_interval([147 * 2**20, 148 * 2**20, 149 * 2**20]), "B") == "148 ± 2 MiB"
    assert (
        format_interval(Interval(0.881, 0.873, 0.8901, 20, 0, "bootstrap over test cases, one seed"))
        == "0.881 [0.873, 0.890]"
    )


def test_summary_has_a_row_per_arm_the_floor_last_and_cost_behind_quality(groups):
    table = summary_table(groups[1])
    (real_data,) = table.foot
    assert real_data[0].text == "real data" and real_data[2].text == "1.93"
    assert {row[0].text for row in table.rows} == set(synthetic.VARIANTS)
    (edge,) = (i for i, heading in enumerate(table.headings) if heading.edge)
    assert all(heading.note for heading in table.headings[2:edge])
    assert not any(heading.note for heading in table.headings[edge:])      # costs stand behind quality
    fid = table.headings[2]
    assert fid.title.replace("\N{NO-BREAK SPACE}", " ") == "FID (digits-cnn) ↓" and fid.note == "n = 1000"
    rows = {row[0].text: row for row in table.rows}
    assert rows["plain"][1].text == "3" and " ± " in rows["plain"][2].text and rows["dit"][1].text == "2/3"


def test_bold_is_the_best_mean_of_each_quality_column_only(groups):
    for group in groups:
        table = summary_table(group)
        (edge,) = (i for i, heading in enumerate(table.headings) if heading.edge)
        best = [sum(row[i].strong for row in table.rows) for i in range(len(table.headings))]
        assert best == [0, 0, *(1 for _ in range(2, edge)), *(0 for _ in table.headings[edge:])]
        assert table.rows[0][2].strong and any("Bold" in note for note in table.notes)


def test_failed_runs_are_rows_with_their_reason(groups):
    for group in groups:
        assert sorted(tuple(cell.text for cell in row[:3]) for row in failures(group).rows) == [
            ("cross_attention", "1", "diverged"),
            ("dit", "2", "oom"),
            ("fcn", "0", "failed"),
        ]


def test_an_arm_without_any_result_is_still_a_row(tmp_path):
    (group,) = group_runs([memory_run(tmp_path), memory_run(tmp_path, variant="fcn", status="oom", error="big")])
    row = summary_table(group).rows[-1]
    assert [cell.text for cell in row[:3]] == ["fcn", "0/1", "–"]


def test_undefined_is_said_and_another_n_stands_in_the_cell(tmp_path):
    (group,) = group_runs(
        [memory_run(tmp_path, 4.0), memory_run(tmp_path, 6.0, seed=1), memory_run(tmp_path, math.nan, seed=2)]
    )
    table = summary_table(group)
    assert table.rows[0][2].text.endswith("(2)")
    assert any("plain 1 of 3 seeds" in note for note in table.notes)


def test_two_protocols_are_two_columns_and_a_note_each(tmp_path):
    (group,) = group_runs(
        [memory_run(tmp_path, protocol={"samples": 1000}), memory_run(tmp_path, seed=1, protocol={"samples": 500})]
    )
    table = summary_table(group)
    assert [header.title.split("\N{NO-BREAK SPACE}")[0] for header in table.headings[2:]] == [
        "FID (digits-cnn) [a]",
        "FID (digits-cnn) [b]",
    ]
    assert "FID (digits-cnn) [b]: samples = 500." in table.notes


def test_per_class_and_full_cost_tables(groups):
    dice, iou = per_class_tables(groups[0])
    assert (dice.title, iou.title) == ("Dice by class", "IoU by class")
    assert [header.title[:-2] for header in dice.headings[2:]] == list(synthetic.CLASSES)
    assert (
        len(cost_table(groups[0]).headings) == len(summary_table(groups[0]).headings) - 6 + 2
    )  # FLOPs and step time
    assert per_class_tables(groups[1]) == []


def test_csv_has_every_run_in_full_precision(out, groups, tmp_path):
    path = write_tables(tmp_path, groups)[0]
    rows = {row["run_id"]: row for row in csv.DictReader(path.open(newline="", encoding="utf-8"))}
    records = {run.record.run_id: run.record for run in runs_of(out)}
    assert rows.keys() == records.keys()
    for name, record in records.items():
        row = rows[name]
        assert (row["status"], row["variant"], json.loads(row["options"])) == (
            record.status,
            record.spec.variant,
            {},
        )
        assert row["error"] == (record.error or "")
        for metric in (*record.metrics.values(), *record.cost.values()):
            header = f"{metric.label} [{metric.unit}]" if metric.unit else metric.label
            assert float(row[header]) == metric.value
        if "fid" in record.metrics:
            assert (row["FID (digits-cnn) n"], row["FID (digits-cnn) of real data"]) == ("1000", "1.93")


def test_csv_keeps_protocols_apart_and_undefined_empty(tmp_path):
    groups = group_runs(
        [
            memory_run(tmp_path, 1.5, protocol={"samples": 9}),
            memory_run(tmp_path, math.nan, seed=1),
            memory_run(tmp_path, 7.0, steps=5, protocol={"samples": 8}),
        ]
    )
    path = write_tables(tmp_path, groups)[0]
    rows = list(csv.DictReader(path.open(newline="", encoding="utf-8")))
    values = [name for name in rows[0] if name.startswith("FID (digits-cnn) {fid") and name.endswith("}")]
    assert len(values) == 3
    assert [sum(row[name] != "" for row in rows) for name in values] == [1, 0, 1]
    assert len(run_frame(groups)) == len(rows) == 3


def test_csv_of_nothing_but_failures(tmp_path):
    groups = group_runs([memory_run(tmp_path, status="oom", error="big")])
    rows = list(csv.DictReader(write_tables(tmp_path, groups)[0].open(newline="", encoding="utf-8")))
    assert [(row["status"], row["error"]) for row in rows] == [("oom", "big")]


def test_markdown_rows_have_as_many_cells_as_the_head_and_text_is_escaped(groups, tmp_path):
    text = write_tables(tmp_path, groups)[1].read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        lines = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    assert r"match \| in &lt;head&gt; &amp; tail\_5%" in text
    assert "| plain | 3 | **" in text and "| dit | 2/3 | " in text


def test_latex_is_balanced_and_escaped(groups, tmp_path):
    text = write_tables(tmp_path, groups)[2].read_text(encoding="utf-8")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\toprule")
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert r"\textless{}head\textgreater{} \& tail\_5\%" in text and r"$\pm$" in text
    for tabular in text.split(r"\begin{tabular}{")[1:]:
        body = tabular[: tabular.index(r"\end{tabular}")].replace("p{7.5em}", "p")
        columns = body.index("}")
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and " & " in line]
        assert rows and {line.replace(r"\&", "").count("&") for line in rows} == {columns - 1}


@pytest.mark.parametrize("width", [80, 100, 250])
def test_terminal_table_fits_its_console(groups, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))
    print_comparisons(console, groups)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for name in synthetic.VARIANTS:  # no name, number or reason is cut or folded
        assert f"\n{name} " in text
    shown = {row[2].text for row in summary_table(groups[1]).rows if " ± " in row[2].text}
    assert shown and all(number in text for number in shown)
    assert "…" not in text and "loss became NaN at step 412" in text
    parts = blocks(summary_table(groups[1]), width)
    assert sorted(i for part in parts for i in part[1:]) == list(range(1, len(summary_table(groups[1]).headings)))
    assert len(parts) == 1 if width == 250 else 2 <= len(parts) <= 4


def test_markup_in_names_is_text_in_the_terminal(tmp_path):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    print_comparisons(console, group_runs([memory_run(tmp_path, variant="[red]x[/red]")]))
    assert "[red]x[/red]" in console.export_text()


def test_a_column_can_be_renamed(groups):
    column = groups[0].headline
    assert make_table(groups[0], [column], "t", name=lambda _: "mine").headings[2].title.startswith("mine")
