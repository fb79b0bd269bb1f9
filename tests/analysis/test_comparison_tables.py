"""Comparisons of a suite that measures many costs: what the first table and the figures show of them, and in which
units."""

import math
from dataclasses import replace

import matplotlib
import pytest
import synthetic_efficiency as synthetic
from rich.console import Console
from synthetic_runs import memory_run, runs_of

from harness import suites
from harness.analysis.comparison import group_runs
from harness.analysis.comparison_tables import caption_of, metrics_table, prefixed, summarised, summary_table
from harness.analysis.conclusions import conclusion
from harness.reporting import plots
from harness.reporting.table_files import print_comparisons
from harness.run_files import Run

SUMMARY = suites.registry.constant("efficiency", "SUMMARY")


@pytest.fixture(scope="module")
def groups():
    return group_runs(synthetic.runs_of(sides=(32, 64)))


def keys(columns):
    return [column.key for column in columns]


def test_the_first_table_has_what_the_suite_names_and_the_other_table_everything(groups):
    group = groups[0]
    shown = keys(summarised(group))
    assert shown and set(shown) <= set(SUMMARY)
    first, rest = summary_table(group), metrics_table(group)
    assert len(first.headings) == 2 + len(shown) + 2                   # and parameters and MACs
    assert len(rest.headings) == 2 + len(group.select("metrics")) > 2 + len(shown)
    assert any("table.csv" in note for note in first.notes)
    assert caption_of(group) == suites.registry.constant("efficiency", "CAPTION")


def test_where_the_suite_names_none_all_are_shown_once(tmp_path):
    [group] = group_runs([memory_run(tmp_path, 5.0, variant="plain")])
    assert summarised(group) == group.select("metrics") and metrics_table(group) is None
    assert caption_of(group) == "Quality on the test data"
    assert not any("table.csv" in note for note in summary_table(group).notes)


def test_what_must_be_known_of_the_data_is_a_note(tmp_path):
    run = memory_run(tmp_path, 5.0, variant="plain")
    facts = {**run.record.data, "splits": {"test": 4}, "duplicates": {"test": {"train": 4}},
             "passed_over": {".heic": 2}}
    run = replace(run, record=run.record.model_copy(update={"data": facts}))
    notes = summary_table(*group_runs([run])).notes
    assert "4 of 4 test images are also in train: equal pixels." in notes
    assert "Passed over: 2 files (2 .heic)." in notes


def test_bytes_and_rates_have_the_prefix_of_their_size_and_pure_numbers_none(groups):
    group = groups[0]
    column = {found.key: found for found in group.select("metrics")}
    assert prefixed(column["memory_bytes"]) and prefixed(column["step_flops_per_s"])
    assert not prefixed(column["roofline_share_step"]) and not prefixed(column["step_ms"])
    table = metrics_table(group)
    cells = dict(zip(keys(group.select("metrics")), table.rows[0][2:], strict=True))
    assert cells["memory_bytes"].text.endswith("MiB") and cells["step_flops_per_s"].text.endswith(" GFLOP/s")
    assert cells["memory_bytes"].value == group.arms[0].values(column["memory_bytes"])[0]    # sorted by, in full
    titles = dict(zip(keys(group.select("metrics")), (heading.title for heading in table.headings[2:]), strict=True))
    assert "(B)" not in titles["memory_bytes"] and "(ms)" in titles["step_ms"]


def test_bars_share_one_prefix(groups):
    group = groups[0]
    figure, caption = plots.bars(group, plots.arm_styles(groups))
    assert len(figure.axes) == len(summarised(group)) and caption.startswith("What it costs.")
    panel = figure.axes[keys(summarised(group)).index("memory_bytes")]
    assert "(MiB)" in panel.get_xlabel()
    column = next(found for found in summarised(group) if found.key == "memory_bytes")
    widths = [bar.get_width() for bar in panel.patches if isinstance(bar, matplotlib.patches.Rectangle)]
    assert widths == pytest.approx([arm.values(column)[0] / 2 ** 20 for arm in group.arms])


def test_timed_calls_are_no_training_curves(tmp_path):
    synthetic.write_output(tmp_path, sides=(32,))
    [group] = group_runs(runs_of(tmp_path))
    assert (group.runs[0].folder / "curves.csv").exists()
    assert plots.curves(group, plots.arm_styles([group])) is None


def test_sentences_say_the_cell_and_the_unit(groups):
    texts = [conclusion(group) for group in groups]
    assert [text.partition(",")[0] for text in texts] == [
        "On noise (settings.image_size = 32)", "On noise (settings.image_size = 64)"]
    assert all(" ms over 1 seed" in text and " ms)" in text for text in texts)


def test_what_holds_for_every_comparison_is_said_once_in_the_terminal(groups):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    print_comparisons(console, groups)
    text = " ".join(console.export_text().split())
    assert text.count("comes from one seed and has no interval") == 1 and text.count("Efficiency on noise (") == 2
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    print_comparisons(console, groups[:1])
    assert console.export_text().count("comes from one seed and has no interval") == 1


def test_memory_that_nobody_could_measure_is_a_dash(tmp_path):
    record = synthetic.make_record(synthetic.make_spec("plain", 32), synthetic.NETWORKS["plain"])
    unknown = record.metrics["memory_bytes"].model_copy(update={"value": math.nan})
    record = record.model_copy(update={"metrics": {**record.metrics, "memory_bytes": unknown}})
    [group] = group_runs([Run(record, tmp_path)])
    at = keys(summarised(group)).index("memory_bytes")
    assert summary_table(group).rows[0][2 + at].text == "–"
    assert plots.bars(group, plots.arm_styles([group])) is not None
