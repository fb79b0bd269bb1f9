import json
import re

import pandas as pd
import pytest
import synthetic_records as synthetic
import synthetic_study
from rich.console import Console
from test_report import Page

from harness.ablation.manifest import read_manifest, write_manifest
from harness.analysis.table import Cell, Heading, Table
from harness.formatting import MINUS, bounds, fixed, format_p, shared_decimals
from harness.reporting.report import write_report
from harness.reporting.table_files import blocks
from harness.stats.intervals import Interval


def text_of(path):
    return re.sub(r"\s+", " ", " ".join(Page(path.read_text(encoding="utf-8")).text))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Six arms in one suite, under two matchings, one run diverged; and a run that is no arm of the study."""
    out = tmp_path_factory.mktemp("study")
    synthetic_study.write_study(out, suites=("segmentation",), matching=("none", "params"), tune=3,
                                bad={("gate", 3): "diverged"}, pictures=False)
    synthetic.write_run(out, synthetic.make_spec("generation", "<script>alert(1)</script>", 0), minute=999)
    return write_report(out)


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take most of a report's time, and have their own tests."""
    for name in ("write_plots", "write_forest", "write_case_plot"):
        monkeypatch.setattr(f"harness.reporting.report.{name}", lambda *_, **__: [])


def test_the_study_leads_and_its_parts_follow_in_order(report):
    text = text_of(report.html)
    order = ["Skip connections", "Do skips help?", *report.conclusions[:2], "Claims of the literature",
             "Holm, 5 tests", "Time to the base's final quality", "Other metrics (not corrected)",
             "Certificate: was the comparison fair?", "every number", "Case by case", "Raw numbers of 48 runs",
             "How to get each number again", "Generation on digits"]
    at = 0
    for part in order:
        assert part in text[at:], part
        at = text.index(part, at)
    assert text.index("Claims of the literature") < text.index("Holm, 5 tests")
    assert "“none” is worse than “concat”" in report.conclusions[0] and len(report.conclusions) == 3


def test_a_run_of_an_arm_is_shown_in_its_part_and_not_again(report):
    assert [group.title for group in report.groups] == ["Generation on digits"]
    assert [part.group.title for part in report.study.parts] == ["Segmentation on cells",
                                                                 "Segmentation on cells, equal parameters"]
    ids = [value for tag, name, value in Page(report.html.read_text(encoding="utf-8")).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    shown = [arm.label for arm in report.study.parts[0].group.arms]
    assert shown == ["concat", "none", "add", "gate", "top-only", "all-but-top"]  # the study's order, base first
    columns = [column.key for column in report.study.parts[0].group.select("metrics")]
    assert columns[:3] == ["dice_macro", "boundary_iou_macro", "hd95_macro"]     # outcome, then what stands beside it


def test_the_arms_table_says_what_was_found(report):
    (part, *_), html = report.study.parts, report.html.read_text(encoding="utf-8")
    rows = re.findall(r"<tr[^>]*>\n?(.*?)</tr>", html[html.index("<table"):html.index("</table>")],
                      re.DOTALL)
    cells = {row[0]: row for row in ([re.sub(r"<[^>]*>", " ", cell).replace("&nbsp;", "").strip() for cell in
                                      re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows)}
    found = {arm.arm.name: arm for arm in part.result.arms}
    for name, arm in found.items():
        assert arm.verdict in cells[name][1]
    worst = found["none"].comparison.interval
    assert f"{MINUS}{abs(worst.mean):.3f}" in html and f"[{MINUS}{abs(worst.low):.3f}, " in html
    assert "7/8" in html and "not counted: gate, seed 3: diverged" in html
    assert f'data-value="{found["none"].adjusted_p}"' in html
    assert "% to base" in html and "tuned: learning rate" in html and "matched: width = " in html


def test_claims_have_a_verdict_with_numbers_and_a_place_to_link_to(report):
    html = report.html.read_text(encoding="utf-8")
    verdicts = {claim.claim: claim for claim in report.study.claims}
    assert "skips_raise_dice" in verdicts
    for name, claim in verdicts.items():
        assert f'id="claim-{name}"' in html and f'href="#claim-{name}"' in html
        assert claim.verdict != "inconclusive" or claim.why
    assert str(report.out) not in html             # the links are inside the page


def test_the_certificate_says_yes_no_or_what_is_to_be_known(report):
    text = text_of(report.html)
    assert {statement.holds for statement in report.study.statements} == {True, False, None}
    assert all(" ".join(statement.text.split()) in text for statement in report.study.statements)


def test_how_to_get_the_numbers_again_is_a_command_without_a_path_of_this_machine(report):
    text = text_of(report.html)
    for command in ("python bench.py ablate skips --profile quick", "python bench.py verify DIR",
                    "rm -r DIR/runs/RUN && python bench.py ablate"):
        assert command in text


def test_factorial_studies_show_their_effects(tmp_path, no_figures):
    synthetic_study.write_study(tmp_path, suites=("segmentation",), axes=True, pictures=False)
    factorial = write_report(tmp_path)
    text = text_of(factorial.html)
    assert "Effects of the factors" in text and "depth = 3 x blocks = residual" in text
    rows = factorial.study.parts[0].result.effects.effects
    assert "Holm over this table" in text and len(rows) == 3


def test_the_table_for_machines_has_every_digit_and_says_what_is_corrected(report):
    (path,) = [path for path in report.tables if path.name == "study-table.csv"]
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    result = report.study.parts[0].result
    none = frame[(frame["part"] == "segmentation") & (frame["arm"] == "none")].set_index("metric")
    arm = next(arm for arm in result.arms if arm.arm.name == "none")
    assert none.loc["dice_macro", "difference"] == arm.comparison.interval.mean
    assert none.loc["dice_macro", "p corrected"] == arm.adjusted_p
    assert set(none.index) == {"dice_macro", "boundary_iou_macro", "hd95_macro"}
    assert none["p corrected"].notna().to_dict() == {"dice_macro": True, "boundary_iou_macro": False,
                                                     "hd95_macro": False}
    assert none["primary"].to_dict()["dice_macro"] and not none["primary"].to_dict()["hd95_macro"]


def test_markdown_rows_have_as_many_cells_as_their_head(report):
    (path,) = [path for path in report.tables if path.name == "study-table.md"]
    tables = re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(tables) == 6                        # arms, time, other metrics; for each matching
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1


def test_latex_is_balanced_escaped_and_of_booktabs(report):
    text = next(path for path in report.tables if path.name == "study-table.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") > 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}")
    assert not re.search(r"(?<!\\)[_#&%](?![^\n]*\\\\)(?=[a-z])", text.replace("&", "")) and "−" not in text
    for block in re.findall(r"\\begin{tabular}{(.*?)}\n\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        columns = re.sub(r"p{[^}]*}", "p", block[0])
        rows = [line for line in block[1].splitlines() if line.endswith(r" \\")]
        assert rows and {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns.rstrip("}"))}


def test_the_terminal_shows_arms_and_answers(report):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    report.print_to(console)
    text = console.export_text()
    assert "all-but-top" in text and "▼ worse" in text and "Holm" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_too_few_seeds_are_said_and_make_a_report(tmp_path, no_figures):
    synthetic_study.write_study(tmp_path, seeds=1, suites=("segmentation",), pictures=False)
    report = write_report(tmp_path)
    text = text_of(report.html)
    assert "too few seeds for an interval" in text and "▲ better" not in text and "▼ worse" not in text


def test_numbers_measured_in_several_ways_are_refused_in_their_part_only(tmp_path, no_figures):
    synthetic_study.write_study(tmp_path, seeds=2, pictures=False)
    path = next(path for path in sorted((tmp_path / "runs").glob("*/record.json"))
                if '"suite": "generation"' in path.read_text())
    record = json.loads(path.read_text())
    record["metrics"]["fid"]["protocol"]["extractor"] = "another"
    path.write_text(json.dumps(record))
    report = write_report(tmp_path)
    segmentation, generation = report.study.parts
    assert segmentation.result is not None and generation.result is None
    assert "extractor = another" in generation.problem and generation.problem in text_of(report.html)


def test_a_study_without_any_run_of_a_part_says_so(tmp_path, no_figures):
    synthetic_study.write_study(tmp_path, seeds=2, pictures=False)
    for path in (tmp_path / "runs").glob("*/record.json"):
        if '"suite": "generation"' in path.read_text():
            path.unlink()
            path.parent.rename(tmp_path / path.parent.name)
    report = write_report(tmp_path)
    assert "no run of it is here yet" in text_of(report.html) and report.study.parts[1].group is None


def test_hostile_words_in_a_study_are_text(tmp_path, no_figures):
    synthetic_study.write_study(tmp_path, seeds=1, suites=("segmentation",), pictures=False)
    manifest = read_manifest(tmp_path)
    bad = "<img src=x onerror=alert(1)> $x_1$ | \\oops"
    part = manifest.parts[0]
    arms = tuple(arm.model_copy(update={"name": bad}) if arm.name == "none" else arm for arm in part.arms)
    write_manifest(tmp_path, manifest.model_copy(update={
        "study": manifest.study.model_copy(update={"title": bad, "question": bad}), "command": f"python {bad}",
        "parts": (part.model_copy(update={"arms": arms}),)}))
    report = write_report(tmp_path)
    page = Page(report.html.read_text(encoding="utf-8"))
    assert "img" not in page.tags and not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert any(bad in text for text in page.text)
    assert "\\oops" not in next(path for path in report.tables if path.suffix == ".tex" and "study" in path.name
                                ).read_text(encoding="utf-8").replace("textbackslash{}oops", "")


def test_the_same_study_gives_the_same_bytes(tmp_path):
    synthetic_study.write_study(tmp_path, seeds=2, suites=("segmentation",), pictures=False)
    first = write_report(tmp_path)
    before = [path.read_bytes() for path in (first.html, *first.tables, *first.plots)]
    again = write_report(tmp_path)
    assert before == [path.read_bytes() for path in (again.html, *again.tables, *again.plots)]


def test_numbers_are_written_so_that_their_points_align():
    intervals = [Interval(0.9052, 0.9, 0.91, 8), Interval(-0.2, -0.3, -0.1, 8)]
    assert shared_decimals(intervals) == 3
    assert fixed(-0.2, 3, sign=True) == f"{MINUS}0.200" and fixed(0.9052, 3, sign=True) == "+0.905"
    assert fixed(-0.0004, 3, sign=True) == "0.000" and fixed(float("nan"), 2) == "–"
    assert bounds(intervals[1], 1) == f"[{MINUS}0.3, {MINUS}0.1]"
    assert [format_p(p) for p in (0.03125, 0.0001, 1.0, float("nan"))] == ["0.031", "<0.001", "1.000", "–"]


def test_wide_grids_are_split_and_every_block_names_its_rows():
    headings = (Heading("arm", words=True), *(Heading(f"column {i}") for i in range(20)))
    grid = Table("wide", headings, ((Cell("a"), *(Cell("0.123 ± 0.456") for _ in range(20))),))
    found = blocks(grid, 60)
    assert all(block[0] == 0 and len(block) > 1 for block in found)
    assert sorted(i for block in found for i in block[1:]) == list(range(1, 21))
