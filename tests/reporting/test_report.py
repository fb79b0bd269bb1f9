import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import synthetic_records as synthetic
from PIL import Image
from rich.console import Console
from synthetic_runs import memory_run, runs_of

from harness.analysis.comparison import group_runs
from harness.analysis.conclusions import conclusion
from harness.errors import InputError
from harness.record import write_record
from harness.reporting.group_view import reproduce
from harness.reporting.report import write_report
from harness.spec import DataSpec


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):  # <path .../> in an SVG
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    synthetic.write_output(out)
    (out / "runs" / "broken").mkdir()
    (out / "runs" / "broken" / "record.json").write_text('{"run_id": 3')
    synthetic.write_run(out, synthetic.make_spec("generation", "<script>alert(1)</script>", 0), minute=999)
    return write_report(out)


def test_everything_is_written(report):
    assert [path.name for path in report.tables] == ["table.csv", "table.md", "table.tex"]
    assert len(report.plots) == 9 and all(path.stat().st_size for path in (*report.plots, *report.tables))
    assert {path.parent.name for path in report.plots} == {"plots"}


def test_the_page_is_one_file_that_needs_nothing_else(report):
    html = report.html.read_text(encoding="utf-8")
    page = Page(html)
    assert not page.open  # every tag is closed
    assert page.tags.count("script") == 1 and "link" not in page.tags and "iframe" not in page.tags
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)[1]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in html
    assert not re.search(r"fetch\(|XMLHttpRequest|localStorage|https?:", script)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "xlink:href"):
            assert value.startswith(("data:image/png;base64,", "#")), (tag, value[:60])
    assert "@import" not in html and not re.search(r"url\((?!#)", html)
    assert page.tags.count("svg") == 7 and page.tags.count("img") == 2
    ids = [value for tag, name, value in page.attributes if name == "id"]
    assert {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"} <= set(ids)
    assert str(report.out) not in html  # it may be given to someone else


def test_the_page_adapts(report):
    html = report.html.read_text(encoding="utf-8")
    for needed in ("prefers-color-scheme: dark", "@media print", "width=device-width", "overflow-x: auto"):
        assert needed in html


def test_names_from_records_are_text(report):
    html = report.html.read_text(encoding="utf-8")
    assert html.count("<script") == 1 and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "in &lt;head&gt; &amp; tail_5%" in html


def test_the_page_leads_with_the_answers_and_holds_every_part(report):
    text = re.sub(r"\s+", " ", " ".join(Page(report.html.read_text(encoding="utf-8")).text))
    first, second = report.conclusions
    order = [first, second, "was left out", "boundary IoU", "Dice by class", "Sampling throughput"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    for part in (
        "Runs that did not finish",
        "loss became NaN at step 412",
        "out of memory",
        "By class",
        "Cost",
        "What was run",
        "How the numbers were measured",
        "extractor digits-cnn",
        "Where it ran",
        "Some CPU @ 2.5 GHz",
        "8.0 GiB",
        "python bench.py --suite generation",
        "runs/broken/record.json",
    ):
        assert part in text


def test_a_corrupt_record_is_named_and_left_alone(report):
    assert len(report.problems) == 1 and "runs/broken/record.json" in report.problems[0]
    assert (report.out / "runs" / "broken" / "record.json").read_text() == '{"run_id": 3'


def test_print_to_says_it_all_and_takes_no_markup_from_records(report):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    report.print_to(console)
    text = console.export_text()
    assert "On cells, " in text and "left out: corrupt record" in text and "report.html" in text
    assert "<script>alert(1)</script>" in text


def group_of(tmp_path, values, **more):
    """One group; ``values`` maps a variant to its seeds' FIDs."""
    runs = [
        memory_run(tmp_path, value, variant=variant, seed=seed, **more)
        for variant, found in values.items()
        for seed, value in enumerate(found)
    ]
    (group,) = group_runs(runs)
    return group


def test_a_clear_lead_is_told_with_interval_n_and_distance(tmp_path):
    text = conclusion(group_of(tmp_path, {"no_skip": [21.0, 21.5, 20.5], "plain": [5.1, 5.3, 5.2]}))
    assert text == (
        "On digits, plain has the lowest FID (digits-cnn): 5.20 ± 0.25 over 3 seeds. Next is no_skip: "
        "21.0 ± 1.2 over 3 seeds, 15.8 higher; the intervals do not overlap."
    )


def test_overlapping_intervals_are_not_told_apart(tmp_path):
    text = conclusion(
        group_of(tmp_path, {"plain": [5.1, 5.3, 5.2], "residual": [5.2, 5.5, 5.3], "fcn": [80.0, 81.0, 82.0]})
    )
    assert "plain has the lowest" in text
    assert "It cannot be told apart from residual (5.3 ± 0.4): their 95 % intervals overlap." in text
    assert "The first clearly behind is fcn: 81.0 ± 2.5 over 3 seeds, 75.8 higher." in text


def test_one_seed_is_said_to_have_no_interval(tmp_path):
    text = conclusion(group_of(tmp_path, {"plain": [5.1], "fcn": [80.0]}))
    assert "5.10 over 1 seed. With one seed no interval exists" in text
    assert "so whether it is ahead is open; next is fcn (80.0)." in text
    mixed = conclusion(group_of(tmp_path, {"plain": [5.1, 5.2], "fcn": [80.0]}))
    assert "fcn (80.0): one seed, no interval, so left open." in mixed


def test_higher_is_better_where_the_metric_says_so(tmp_path):
    synthetic.write_output(tmp_path, suites=("segmentation",), seeds=1, variants=("plain", "fcn"), failures=False)
    (group,) = group_runs(runs_of(tmp_path))
    text = conclusion(group)
    assert text.startswith("On cells, plain has the highest Dice (macro): 0.8")
    assert "over 20 test cases" in text and "how far another seed would land is unknown" in text


def test_floor_failures_and_nothing_at_all_are_said(tmp_path):
    synthetic.write_output(tmp_path, suites=("generation",), variants=("plain", "dit"))
    (group,) = group_runs(runs_of(tmp_path))
    assert "Held-out real data scores 1.93. 1 of 6 runs did not finish." in conclusion(group)
    (failed,) = group_runs([memory_run(tmp_path, status="oom", error="big")])
    assert conclusion(failed) == "On digits, no run has a result. 1 of 1 runs did not finish."
    assert "is undefined for every run" in conclusion(group_of(tmp_path, {"plain": [float("nan")]}))
    assert "nothing else can be ranked with it" in conclusion(group_of(tmp_path, {"plain": [5.0, 5.1]}))


def test_the_command_that_makes_the_runs_again(tmp_path):
    assert reproduce(group_of(tmp_path, {"plain": [5.0, 5.1], "fcn": [80.0]})) == (
        "python bench.py --suite generation --variants plain,fcn --dataset digits --seeds 2 --profile quick "
        "--device cpu --precision fp32"
    )
    own = group_of(tmp_path, {"nets/my net.py:Net": [5.0]}, data=DataSpec(name="folder", root="my scans"))
    assert "--variants 'nets/my net.py:Net' --data 'my scans' --seeds 1" in reproduce(own)


@pytest.mark.parametrize("status", ["oom", "failed"])
def test_a_folder_of_nothing_but_failures_still_makes_a_report(tmp_path, status):
    synthetic.write_run(tmp_path, synthetic.make_spec(), status=status, error="because")
    report = write_report(tmp_path)
    assert report.plots == [] and "because" in report.html.read_text(encoding="utf-8")


def test_no_runs_folder_and_no_readable_record_are_one_line_each(tmp_path):
    with pytest.raises(InputError, match=r"expected records at .*runs/<run_id>/record\.json"):
        write_report(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="no readable record"):
        write_report(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir()
    with pytest.raises(InputError, match=r"no readable record .*runs/a/record\.json.*\(and 1 more\)$") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_output_that_cannot_be_written_is_an_input_error(tmp_path):
    synthetic.write_run(tmp_path, synthetic.make_spec(), status="oom", error="big")
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(InputError, match="cannot write the report"):
        write_report(tmp_path)


def picture_of(mode):
    """A samples.png in another form than a run writes."""
    pixels = np.full((4 * 8, 10 * 8), 200, np.uint8)
    made = {"CMYK": lambda: Image.fromarray(pixels).convert("CMYK"), "F": lambda: Image.fromarray(pixels / 2),
            "16-bit": lambda: Image.fromarray(pixels.astype(np.uint16) * 257),
            "palette": lambda: Image.fromarray(np.stack([pixels] * 3, -1)).quantize(4),
            "another size": lambda: Image.fromarray(pixels[:, :-3])}
    file = io.BytesIO()
    if mode in made:
        made[mode]().save(file, "TIFF" if mode in ("CMYK", "F") else "PNG")
        return file.getvalue()
    Image.fromarray(pixels).save(file, "PNG")
    return {"truncated": file.getvalue()[:60], "damaged": file.getvalue()[:45] + b"IDAX" + file.getvalue()[49:],
            "text": b"no picture"}[mode]


@pytest.mark.parametrize("mode, shown", [
    ("CMYK", True), ("16-bit", True), ("F", True), ("palette", True), ("another size", False), ("truncated", False),
    ("damaged", False), ("text", False)])
def test_one_bad_picture_is_left_out_with_its_name(tmp_path, mode, shown):
    records = synthetic.write_output(tmp_path, suites=("generation",), seeds=1, variants=("plain", "no_skip"))
    (tmp_path / "runs" / records[0].run_id / "samples.png").write_bytes(picture_of(mode))
    made = write_report(tmp_path)
    assert any(path.name.endswith("-sheet.png") for path in made.plots)
    assert ([f"unreadable picture {records[0].run_id}/samples.png" in problem for problem in made.problems]
            == ([] if shown else [True]))


def test_one_bad_table_is_left_out_with_its_name(tmp_path):
    records = synthetic.write_output(tmp_path, suites=("segmentation",), seeds=1, variants=("plain", "no_skip"))
    for record, name in zip(records, ("curves.csv", "cases.csv"), strict=True):
        path = tmp_path / "runs" / record.run_id / name
        lines = path.read_text().splitlines()
        lines[2] = ",".join(["1" * 30, *lines[2].split(",")[1:-1], "1" * 30 if name == "curves.csv" else "much"])
        path.write_text("\n".join(lines))
    made = write_report(tmp_path)
    named = [problem.partition(": ")[0] for problem in made.problems]
    assert sorted(named) == sorted([f"unreadable {records[0].run_id}/curves.csv",
                                    f"unreadable {records[1].run_id}/cases.csv"])


def test_a_class_name_with_a_line_break(tmp_path):
    classes = ["background", "a\nb", "border | | `x`\r\n"]
    for variant in ("plain", "no_skip"):
        record = synthetic.write_run(tmp_path, synthetic.make_spec("segmentation", variant))
        changed = record.model_copy(update={"data": {**record.data, "classes": classes}, "metrics": {
            **record.metrics, "dice/a\nb": synthetic.metric(.5, "Dice a\nb", "", "higher")}})
        write_record(tmp_path / "runs" / record.run_id, changed)
    made = write_report(tmp_path)
    assert not made.problems and any(path.name.endswith("-sheet.png") for path in made.plots)


def test_the_same_records_give_the_same_bytes(tmp_path):
    synthetic.write_output(tmp_path, suites=("generation",), seeds=2, variants=("plain",), failures=False)
    first = write_report(tmp_path)
    before = [path.read_bytes() for path in (first.html, *first.tables, *first.plots)]
    second = write_report(tmp_path)
    assert before == [path.read_bytes() for path in (second.html, *second.tables, *second.plots)]
