import csv
import re
from xml.etree import ElementTree

import matplotlib
import pytest
import synthetic_efficiency as synthetic
import synthetic_records
from command_line import bench
from rich.console import Console
from synthetic_efficiency import Network
from test_report import Page

from harness.analysis.frames import scaling_frame
from harness.analysis.scaling import scaling_of
from harness.analysis.scaling_findings import conclusion, scaling_findings
from harness.analysis.scaling_tables import exponents_table, lost_table
from harness.analysis.verify import verify
from harness.reporting import scaling_plots
from harness.reporting.page import cell_words
from harness.reporting.plots import INK, arm_styles
from harness.reporting.report import write_report

LOST = {("dit", 256): ("oom", "out of memory: tried to allocate 8.0 GiB")}
SQUARE = {"plain": Network(1e5), "dit": Network(0.0, 10.0)}


def condition_of(*args, **more):
    (condition,) = scaling_of(synthetic.runs_of(*args, **more)).conditions
    return condition, arm_styles([condition])


def text_of(path):
    return re.sub(r"\s+", " ", " ".join(Page(path.read_text(encoding="utf-8")).text))


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two conditions, four sizes, one network that does not fit; with a hostile name, and a suite beside it."""
    out = tmp_path_factory.mktemp("out")
    networks = {"plain": synthetic.NETWORKS["plain"], "dit": synthetic.NETWORKS["dit"], "<script>$x": Network(2e5)}
    synthetic.write_output(out, networks=networks, batches=(1, 8), lost=LOST, noise=0.01)
    synthetic_records.write_run(out, synthetic_records.make_spec(), minute=700, curves=False, pictures=False)
    return write_report(out)


@pytest.fixture
def own_figures(monkeypatch):
    """Those of the comparisons have their own tests."""
    monkeypatch.setattr("harness.reporting.report.write_plots", lambda *_, **__: [])


def test_the_page_leads_with_growth_and_holds_every_part(report):
    text = text_of(report.html)
    order = [report.scaling.conclusions[0], "comparisons", "Cost against resolution", "Batch 1, fp32",
             "Memory of a training step at 256 px", "FLOP/s against FLOPs per byte moved", "Batch 8, fp32",
             "Exponents of growth", "95 % interval of the fit", "Runs that did not finish",
             "out of memory: tried to allocate 8.0 GiB", "Claims of the literature about cost and resolution",
             "Generation on digits"]
    at = 0
    for part in order:
        assert part in text[at:], part
        at = text.index(part, at)
    assert report.scaling.conclusions[0] in report.conclusions
    assert "The numbers of every run" in text and "scaling.csv" in text


def test_the_page_stays_one_safe_file(report):
    html = report.html.read_text(encoding="utf-8")
    page = Page(html)
    assert not page.open and page.tags.count("script") == 1 and "<script>$x" not in html
    ids = [value for tag, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)) and "scaling" in ids
    links = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert links <= set(ids) and "scaling" in links
    assert str(report.out) not in html
    for path in report.plots:
        assert path.stat().st_size
    kinds = [path.stem.rpartition("-")[2] for path in report.plots if path.stem.startswith("scaling-")]
    assert kinds == 2 * ["growth", "memory", "roofline"]


def test_figures_follow_the_page_s_ink(report, tmp_path):
    condition = report.scaling.scaling.conditions[0]
    plots = scaling_plots.write_scaling_plots(tmp_path, "s", condition, arm_styles([condition]))
    for plot in plots:
        root = ElementTree.fromstring(plot.svg)
        assert root.get("role") == "img" and root.get("aria-label") == plot.caption
        assert "currentColor" in plot.svg and INK not in plot.svg


def test_claims_about_networks_that_were_run_are_where_their_links_point(report):
    ids = {value for tag, name, value in Page(report.html.read_text(encoding="utf-8")).attributes if name == "id"}
    shown = {verdict.claim: verdict for verdict in report.scaling.claims}
    assert "convolution_grows_in_proportion" in shown and "latent_forward_faster" not in shown      # it was not run
    assert all(verdict.link.endswith(f"report.html#claim-{name}") and f"claim-{name}" in ids
               for name, verdict in shown.items())


def test_the_terminal_shows_exponents_and_answers(report):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    report.print_to(console)
    text = " ".join(console.export_text().split())
    assert "Exponents of growth" in text and "the time of a training step grows fastest for dit" in text


def test_the_table_holds_every_point_in_full_and_verify_finds_a_changed_one(tmp_path, own_figures):
    synthetic.write_output(tmp_path, networks=SQUARE, lost=LOST)
    report = write_report(tmp_path)
    assert tmp_path / "scaling.csv" in report.tables
    with (tmp_path / "scaling.csv").open(newline="") as file:
        rows = {(row["variant"], row["metric"]): row for row in csv.DictReader(file)}
    assert set(rows) == {(name, key) for name in SQUARE for key in ("step_ms", "forward_ms", "memory_bytes", "macs")}
    row = rows["dit", "step_ms"]
    assert float(row["exponent"]) == pytest.approx(2) and float(row["local exponent"]) == pytest.approx(2)
    assert float(row["exponent low"]) <= 2.000001 and (row["local from [px]"], row["local to [px]"]) == ("64", "128")
    assert row["at 256 px"] == "" and row["did not finish"] == "256 px: oom" and row["part"] == "batch 4, fp32"
    assert float(rows["plain", "macs"]["at 32 px"]) == 1e5 * 32**2
    agreed = verify(tmp_path)
    assert not agreed.differences
    path = tmp_path / "scaling.csv"
    path.write_text(path.read_text().replace("256 px: oom", "256 px: ok"))
    assert {one.file for one in verify(tmp_path).differences} == {"scaling.csv"}


def test_one_size_has_no_exponent_and_the_rest_is_right(tmp_path, own_figures):
    synthetic.write_output(tmp_path, sides=(64,), lost={("dit", 64): ("oom", "too big")})
    report = write_report(tmp_path)
    text = text_of(report.html)
    assert not report.scaling.several_sizes and not (tmp_path / "scaling.csv").exists()
    assert not list((tmp_path / "plots").glob("*growth*")) and list((tmp_path / "plots").glob("*memory.png"))
    assert "Exponents of growth" not in text and "Memory and share of the roofline" in text and "too big" in text
    assert "has the lowest Training step" in text         # with no curve to lead with, the comparison leads
    assert not verify(tmp_path).differences


def test_nothing_that_finished_is_a_report_all_the_same(tmp_path, own_figures):
    lost = {(name, side): ("oom", "too big") for name in SQUARE for side in (32, 64)}
    synthetic.write_output(tmp_path, sides=(32, 64), networks=SQUARE, lost=lost)
    report = write_report(tmp_path)
    text = text_of(report.html)
    assert text.count("too big") >= 4 and report.scaling.conclusions == ("",)
    assert [entry.text for entry in exponents_table(report.scaling.scaling).rows[0]][2] == "–"


def test_reports_without_efficiency_runs_have_no_section(tmp_path):
    synthetic_records.write_run(tmp_path, synthetic_records.make_spec(), pictures=False)
    report = write_report(tmp_path)
    assert report.scaling is None and 'id="scaling"' not in report.html.read_text(encoding="utf-8")
    assert not (tmp_path / "scaling.csv").exists()


def test_who_grows_fastest_and_slowest():
    condition, _ = condition_of(networks=SQUARE)
    assert conclusion(condition) == (
        "Batch 4, fp32: the time of a training step grows fastest for dit (pixels to the power 2.00 [1.99, 2.01] from "
        "128 to 256 px) and slowest for plain (pixels to the power 1.00 [0.99, 1.01] from 128 to 256 px).")
    alone, _ = condition_of(networks={"plain": Network(1e5)})
    assert "grows as that of plain (pixels to the power 1.00" in conclusion(alone)
    assert conclusion(condition_of(sides=(32,))[0]) == ""
    lost, _ = condition_of(networks=SQUARE, lost=LOST)
    assert "from 64 to 128 px) and slowest" in conclusion(lost) and conclusion(lost).endswith(" 1 run did not finish.")


def test_growth_that_overlaps_is_not_told_apart():
    condition, _ = condition_of(networks={"a": Network(1e5), "b": Network(1.1e5, 0.05)}, spread=1.0)
    assert "whose training step grows faster with the image cannot be told" in conclusion(condition)


def test_a_network_that_follows_the_size_is_named_and_not_ranked():
    runs = [run for side in (32, 64) for run in synthetic.runs_of(
        sides=(side,), networks={"plain": Network(1e5), "dit": Network(1e5, parameters=1_000_000 * side)})]
    scaling = scaling_of(runs)
    assert "Left out: dit, which is another network at each of these sizes." in conclusion(scaling.conditions[0])
    notes = " ".join(exponents_table(scaling).notes)
    assert "Not one network over these sizes" in notes and "dit 32 M at 32 px, 64 M at 64 px" in notes
    assert "Two sizes give an exponent and no interval." in notes and "95 % interval" not in notes
    frame = scaling_frame(scaling)
    assert set(frame[frame["one network"]]["variant"]) == {"plain"}


def test_the_grid_s_cells_are_the_curves_numbers():
    condition, styles = condition_of(noise=0.05)
    colours = {name: style.colour for name, style in styles.items()}
    grid = exponents_table(scaling_of(synthetic.runs_of(noise=0.05)), colours)
    curve = next(curve for curve in condition.curves if curve.label == "dit")
    row = next(row for row in grid.rows if row[0].text == "dit")
    fit = curve.fit("step_ms").exponent
    assert row[3].text == f"{fit.mean:.2f} ± {fit.half_width:.2f}" and row[3].value == fit.mean
    assert row[3].small == f"{curve.local('step_ms').mean:.2f} from 128 to 256" and row[2].text == "32–256 (4)"
    assert row[0].colour == styles["dit"].colour
    assert lost_table(scaling_of(synthetic.runs_of())) is None


def test_growth_has_a_panel_per_cost_a_line_per_network_and_a_cross_for_what_is_lost():
    condition, styles = condition_of(lost=LOST)
    figure, caption = scaling_plots.growth(condition, styles)
    assert len(figure.axes) == 4 and "A cross at the top" in caption
    for axes, key in zip(figure.axes, ("step_ms", "forward_ms", "memory_bytes", "macs"), strict=True):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        drawn = {line.get_color(): line for line in axes.get_lines() if line.get_linestyle() == "-"}
        for curve in condition.curves:
            line = drawn[styles[curve.label].colour]
            assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == curve.points(key)
        crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
        assert [list(line.get_xdata()) for line in crosses] == [[256]]
        assert sum(line.get_linestyle() == ":" for line in axes.get_lines()) == 2
    assert texts(figure).count("side of the image (px)") == 4 and "Training step (ms)" in texts(figure)
    assert "cross" not in scaling_plots.growth(*condition_of())[1]


def test_memory_bars_add_up_and_say_what_has_none():
    condition, styles = condition_of(lost=LOST)
    figure, caption = scaling_plots.memory_parts(condition, styles)
    (axes,) = figure.axes
    assert "at 256 px" in caption and "oom" in texts(figure) and "memory of a training step (MiB)" in texts(figure)
    network = synthetic.NETWORKS["plain"]
    total = (16 * network.parameters + network.maps * 256**2 * 4) / 2**20
    assert max(bar.get_x() + bar.get_width() for bar in axes.patches if bar.get_y() < 0.5 < bar.get_y() + 1
               ) == pytest.approx(total)
    measured = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "|" and len(line.get_xdata())]
    expected = [curve.points("memory_bytes")[256] / 2**20 for curve in condition.curves if 256 in curve.finished]
    assert sorted(measured) == pytest.approx(sorted(expected))


def test_roofline_is_the_one_of_the_records():
    condition, styles = condition_of()
    figure, caption = scaling_plots.roofline(condition, styles)
    assert len(figure.axes) == 2 and "The line: what the machine can do" in caption
    for axes in figure.axes:
        (roof,) = (line for line in axes.get_lines() if line.get_color() == INK)
        x, y = roof.get_xdata(), roof.get_ydata()
        assert max(y) == synthetic.PEAK and y[0] == pytest.approx(x[0] * synthetic.BANDWIDTH)
        assert synthetic.PEAK / synthetic.BANDWIDTH in x                         # the bend is in the picture


def test_a_share_without_its_roofline_is_drawn_without_a_line():
    runs = synthetic.runs_of(networks={"plain": Network(1e5)})
    for run in runs:
        for key, metric in run.record.metrics.items():
            run.record.metrics[key] = metric.model_copy(update={"protocol": {}})
    (condition,) = scaling_of(runs).conditions
    _, caption = scaling_plots.roofline(condition, arm_styles([condition]))
    assert "The machine's own limits were not measured." in caption


def test_many_conditions_have_figures_up_to_a_number_that_is_said(tmp_path, monkeypatch, own_figures):
    monkeypatch.setattr("harness.reporting.scaling_plots.MOST", 1)
    synthetic.write_output(tmp_path, sides=(32, 64), networks={"plain": Network(1e5)}, batches=(1, 2, 4))
    text = text_of(write_report(tmp_path).html)
    assert "No figures of 2 more conditions." in text
    assert len(list((tmp_path / "plots").glob("scaling-*-growth.png"))) == 1


def test_a_broken_claim_takes_no_report_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.analysis.scaling_findings.claim_names", lambda: ["no_such_claim"])
    found = scaling_findings(synthetic.runs_of(), tmp_path)
    assert found.claims == () and "claims not evaluated: unknown claim" in found.problems[0]


def test_cells_in_a_list_say_only_what_tells_them_apart():
    assert cell_words("Efficiency on noise (train.batch_size = 1, settings.image_size = 32)") == (
        "batch_size 1, image_size 32")
    assert cell_words("Generation on digits (train.steps = 3)") == "Generation on digits (train.steps = 3)"


def test_command_writes_the_section(tmp_path):
    synthetic.write_output(tmp_path, sides=(32, 64), networks={"plain": Network(1e5)})
    done = bench("report", tmp_path)
    assert done.exit_code == 0 and "Exponents of growth" in done.output
