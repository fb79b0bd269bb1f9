import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import synthetic_records as synthetic
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from synthetic_runs import memory_run, runs_of

from harness.analysis.comparison import group_runs
from harness.record import Picture
from harness.reporting import contact_sheet, plots
from harness.reporting.label_placement import place_labels, spread


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    synthetic.write_output(folder, seeds=2)
    return group_runs(runs_of(folder))


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_figures_are_written_and_leave_no_global_state(groups, tmp_path):
    before = dict(matplotlib.rcParams)
    written = plots.write_plots(tmp_path, groups[1], plots.arm_styles(groups))
    assert dict(matplotlib.rcParams) == before
    assert [plot.kind for plot in written] == ["quality_cost", "bars", "curves"]
    for plot in written:
        image = np.asarray(Image.open(plot.path).convert("L"))
        assert (image[0] == 255).all() and image.std() > 10  # a white margin, and something drawn
        root = ElementTree.fromstring(plot.svg)
        assert root.tag.endswith("svg") and root.get("role") == "img" and root.get("aria-label") == plot.caption
        assert "currentColor" in plot.svg and plots.INK not in plot.svg and "<!--" not in plot.svg
        ids = set(re.findall(r'\bid="([^"]+)"', plot.svg))
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', plot.svg)) <= ids
    first, second = (set(re.findall(r'\bid="([^"]+)"', plot.svg)) for plot in written[:2])
    assert not first & second  # two figures in one page


def test_quality_cost_shows_every_arm_its_interval_and_the_floor(groups):
    figure, caption = plots.quality_cost(groups[1], plots.arm_styles(groups))
    (axes,) = figure.axes
    assert set(synthetic.VARIANTS) - {"fcn", "dit"} <= set(texts(figure))
    assert axes.get_xscale() == "log" and axes.get_yscale() == "log"
    assert "← lower is better" in axes.get_ylabel() and "MACs" in axes.get_xlabel()
    assert any(
        list(line.get_ydata()) == [1.93, 1.93] and line.get_linestyle() == "--" for line in axes.get_lines()
    )
    plain = next(arm for arm in groups[1].arms if arm.label == "plain")
    drawn = [tuple(line.get_ydata()) for line in axes.get_lines()]
    assert (groups[1].intervals[plain.label, groups[1].headline].mean,) in drawn
    assert "95 % intervals (Student t over seeds)" in caption and "Dashed" in caption


def test_bars_have_a_panel_per_metric_and_a_dot_per_seed(groups):
    group = groups[0]
    figure, _ = plots.bars(group, plots.arm_styles(groups))
    assert len(figure.axes) == len(group.select("metrics")) == 6
    assert "HD95 (macro) (px)\n← lower is better" in texts(figure)
    first = figure.axes[0]
    dots = [line for line in first.get_lines() if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in dots] == [len(arm.finished) for arm in group.arms]
    assert first.get_xlim()[0] == 0  # a bar's length is its value


def test_curves_are_means_over_seeds_within_their_band(groups):
    figure, _ = plots.curves(groups[0], plots.arm_styles(groups))
    assert [axes.get_ylabel().partition(" ·")[0] for axes in figure.axes] == [
        "loss",
        "validation loss",
        "validation dice",
    ]
    loss = figure.axes[0]
    assert all(len(line.get_xdata()) <= plots.BINS for line in loss.get_lines())
    assert np.isfinite(np.concatenate([line.get_ydata() for line in loss.get_lines()])).all()
    assert len(figure.axes[1].get_lines()) == len([arm for arm in groups[0].arms if arm.finished])


def test_one_arm_has_one_colour_everywhere_and_no_two_share_one(groups):
    styles = plots.arm_styles(groups)
    assert len({style.colour for style in styles.values()}) == len(styles) == 7
    figure, _ = plots.quality_cost(groups[0], styles)
    coloured = {line.get_color() for line in figure.axes[0].get_lines()}
    assert {style.colour for label, style in styles.items()} <= coloured
    many = [memory_run(Path(), variant=f"v{i}") for i in range(60)]
    assert len(set(plots.arm_styles(group_runs(many)).values())) == 60


def test_what_records_lack_is_not_drawn(tmp_path):
    (empty,) = group_runs([memory_run(tmp_path, status="oom", error="big")])
    assert plots.write_plots(tmp_path, empty, plots.arm_styles([empty])) == []
    (bare,) = group_runs([memory_run(tmp_path)])  # a metric, no cost, no curves
    assert [plot.kind for plot in plots.write_plots(tmp_path, bare, plots.arm_styles([bare]))] == ["bars"]


def test_many_arms_and_formula_like_names_can_be_drawn(tmp_path):
    runs = [
        memory_run(
            tmp_path,
            float(i + 1),
            variant=f"$x_{{{i}$ <b>--> {'long ' * 9}{i}",
            cost={"macs": synthetic.metric(1e6 + i, "MACs", "MAC")},
        )
        for i in range(30)
    ]
    (group,) = group_runs(runs)
    written = plots.write_plots(tmp_path, group, plots.arm_styles([group]))
    assert [plot.kind for plot in written] == ["quality_cost", "bars"]
    assert all(f"The best {plots.SHOWN} of 30 arms." in plot.caption for plot in written)
    assert all(ElementTree.fromstring(plot.svg) is not None for plot in written)


def test_broken_curves_are_named(tmp_path):
    record = synthetic.write_run(tmp_path, synthetic.make_spec())
    (tmp_path / "runs" / record.run_id / "curves.csv").write_text("step,value\n1,2\n")
    (group,) = group_runs(runs_of(tmp_path))
    assert plots.curves(group, plots.arm_styles([group])) is None
    assert group.problems and "curves.csv" in group.problems[0]


def test_labels_do_not_cover_each_other():
    figure = plots.new_figure(6, 4)
    axes = figure.add_subplot()
    points = [(1 + 0.02 * i, 5 + 0.1 * (i % 3), f"variant_{i}") for i in range(7)]
    axes.set(xlim=(0, 2), ylim=(0, 10))
    place_labels(axes, points)
    figure.draw_without_rendering()
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in axes.texts]
    assert sorted(text.get_text() for text in axes.texts) == sorted(text for *_, text in points)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_line_ends_keep_their_order_and_a_line_of_room():
    figure = Figure(figsize=(5, 3))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    spread(axes, [(1, y, name, "k") for y, name in ((0.5, "b"), (0.5001, "c"), (0.0, "a"), (0.9, "d"))], "k")
    heights = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert list(heights) == sorted(heights) and list(heights.values()) == sorted(heights.values())
    assert heights["c"] - heights["b"] >= 8 / 72 * figure.dpi / axes.get_window_extent().height
    assert (heights["a"], heights["d"]) == pytest.approx((0, 0.9))


def test_sheets_show_native_pixels_enlarged_without_smoothing(groups, tmp_path):
    sheet = contact_sheet.write_sheet(tmp_path, groups[1])
    image = np.asarray(Image.open(sheet.path))
    assert sheet.path.read_bytes() == sheet.light != sheet.dark
    assert (image[:, 0] == 255).all() and (image[0] == 255).all()
    run = groups[1].arms[0].finished[0]
    samples = np.asarray(Image.open(run.folder / "samples.png"))[:64]
    wanted = np.kron(samples, np.ones((2, 2), np.uint8))
    found = image[:, 16 + 168 : 16 + 168 + wanted.shape[1], 0]
    assert any(np.array_equal(found[y : y + len(wanted)], wanted) for y in range(len(found) - len(wanted)))
    assert "a column is a class" in sheet.caption


def test_sheet_of_cases_has_a_column_for_image_truth_and_each_arm(groups, tmp_path):
    sheet = contact_sheet.write_sheet(tmp_path, groups[0])
    width = Image.open(sheet.path).width
    tile = 144  # 48 pixels, three times
    assert width == 2 * 16 + 9 * (tile + 10) - 10
    image = np.asarray(Image.open(sheet.path))
    truth = np.asarray(Image.open(groups[0].runs[0].folder / "truth.png").convert("RGB"))[:, :48]
    x, y = 16 + tile + 10, 16 + 40
    assert np.array_equal(image[y : y + tile, x : x + tile], truth.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize("content", [b"\x89PNG nonsense", None])
def test_a_broken_or_missing_picture_is_named_and_the_rest_shown(tmp_path, content):
    synthetic.write_output(tmp_path, suites=("generation",), seeds=1, variants=("plain", "fcn"), failures=False)
    groups = group_runs(runs_of(tmp_path))
    path = groups[0].arms[0].finished[0].folder / "samples.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert contact_sheet.write_sheet(tmp_path / "plots", groups[0]) is not None
    assert len(groups[0].problems) == 1 and "samples.png" in groups[0].problems[0]


def test_pictures_of_other_test_cases_are_not_set_beside(tmp_path):
    synthetic.write_output(tmp_path, suites=("segmentation",), seeds=1, variants=("plain", "fcn"), failures=False)
    (group,) = group_runs(runs_of(tmp_path))
    folder = group.arms[1].finished[0].folder
    synthetic.palette_png(folder / "truth.png", np.zeros((synthetic.SIDE, 6 * synthetic.SIDE), np.uint8))
    sheet = contact_sheet.write_sheet(tmp_path / "plots", group)
    assert Image.open(sheet.path).width == 2 * 16 + 3 * 154 - 10
    assert "other test cases" in group.problems[0]


def test_a_picture_that_is_not_tiled_as_recorded_is_named(tmp_path):
    pictures = {"samples.png": Picture(rows=3, columns=7, caption="", role="output")}
    run = memory_run(tmp_path, pictures=pictures)
    run.folder.mkdir()
    Image.new("L", (64, 64)).save(run.folder / "samples.png")
    (group,) = group_runs([run])
    assert contact_sheet.write_sheet(tmp_path, group) is None
    assert "not 3x7 tiles" in group.problems[0]
