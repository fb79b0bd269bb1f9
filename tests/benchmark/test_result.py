import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.benchmark.page import markdown, page, show, write_page
from harness.benchmark.result import Benchmark, Check, Comparison, Contest, Contestant, Trial, compared, read, write
from harness.errors import InputError

ROOT = Path(__file__).parent.parent.parent
OURS = [1.0, 1.1, 0.9, 1.0, 1.2, 1.0, 0.95]
THEIRS = [2.0, 2.4, 1.7, 2.2, 2.3, 2.1, 2.0]


def contestants():
    return {"ours": Contestant(label="ours, bf16", seconds=OURS, first_s=3.5, parameters=1_500_000, macs=2_000_000_000,
                               images=32, flops=10 ** 11),
            "peer": Contestant(label="peer, fp32", seconds=THEIRS, parameters=1_600_000, macs=1_000_000_000,
                               images=32, flops=10 ** 11)}


def whole(**changes):
    trial = Trial(name="training step", contestants=contestants(),
                  comparisons=[compared("speedup", "ours", "peer", contestants(), goal=2.0)])
    contest = Contest(name="denoiser", setting="Two networks.", trials=[trial],
                      checks=[Check(what="output: relative error", value=0.004, limit=0.009)],
                      absent=["smp: pip install -e '.[peers]'"], **changes)
    env = {"cpu": "Some CPU", "cores": 2, "memory_bytes": 8 * 2 ** 30, "system": "Linux", "python": "3.11",
           "packages": {"torch": "2.9"}, "git": "abc", "dirty": True, "threads": 2}
    return Benchmark(started="2026-01-01T00:00:00+00:00", duration_s=90, device="cpu", precision="bf16", env=env,
                     contests=[contest])


def test_ratios_are_of_rounds():
    found = compared("speedup", "ours", "peer", contestants())
    ratios = sorted(b / a for a, b in zip(OURS, THEIRS))
    assert (found.value, found.low, found.high) == pytest.approx((ratios[3], ratios[0], ratios[-1]))
    assert (found.n, found.method) == (7, "sign test")
    per_mac = compared("speedup", "ours", "peer", contestants(), per_mac=True)
    assert per_mac.value == pytest.approx(2 * found.value)             # ours does twice the work in that time
    longer = compared("overhead", "peer", "ours", contestants())
    assert (longer.value, longer.low) == pytest.approx((ratios[3] - 1, ratios[0] - 1))
    assert compared("share", "ours", "peer", contestants()).value == pytest.approx(1 / ratios[3])


@pytest.mark.parametrize("kind, value, low, high, verdict", [
    ("speedup", 2.5, 2.1, 2.8, "met"), ("speedup", 2.5, 1.9, 2.8, "open"), ("speedup", 1.5, 1.2, 1.9, "missed"),
    ("overhead", 1.5, 1.2, 1.9, "met"), ("share", 2.5, 2.1, 2.8, "missed"), ("share", 1.9, None, None, "met"),
    ("speedup", 1.9, None, None, "missed")])
def test_a_goal_is_met_where_the_whole_interval_meets_it(kind, value, low, high, verdict):
    found = Comparison(kind=kind, subject="a", other="b", value=value, low=low, high=high, n=9, method="", goal=2.0)
    assert found.verdict == verdict
    assert found.model_copy(update={"goal": None}).verdict == ""


def test_what_is_written_is_read(tmp_path):
    write(tmp_path, whole())
    assert read(tmp_path) == whole()
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert content["schema"] == 1 and content["contests"][0]["trials"][0]["contestants"]["ours"]["seconds"] == OURS


def test_one_round_has_no_interval_and_the_file_no_nan(tmp_path):
    few = {name: one.model_copy(update={"seconds": one.seconds[:1]}) for name, one in contestants().items()}
    found = compared("speedup", "ours", "peer", few)
    assert (found.value, found.low, found.high) == (pytest.approx(2.0), None, None)
    trial = Trial(name="t", contestants=few, comparisons=[found])
    benchmark = whole()
    benchmark = benchmark.model_copy(update={"contests": [Contest(name="overhead", setting="", trials=[trial])]})
    write(tmp_path, benchmark)
    assert "NaN" not in (tmp_path / "benchmark.json").read_text() and read(tmp_path) == benchmark
    assert "| none |" in page(benchmark)


@pytest.mark.parametrize("content, words", [
    (None, "No such file"), ("[1", "not JSON"), ("[]", "schema 1"), ('{"schema": 7}', "run the benchmark again"),
    ('{"schema": 1, "started": 3}', "started")])
def test_files_that_are_no_benchmark(content, words, tmp_path):
    if content is not None:
        (tmp_path / "benchmark.json").write_text(content)
    with pytest.raises(InputError, match=words) as error:
        read(tmp_path)
    assert "benchmark.json" in str(error.value) and "\n" not in str(error.value)


def test_the_page_says_it_all(tmp_path):
    write_page(tmp_path, whole(error="oom: out of memory"))
    text = (tmp_path / "README.md").read_text()
    for words in ("| ours, bf16 | 1.5 M | 2 G | 1 s | 75 ms | 32 | 100 |", "Some CPU, 2 cores, 8 GiB",
                  "commit abc with changes",
                  "ours, bf16: times as fast as", "| peer, fp32 | 2.10 | 1.89 to 2.20 | sign test | 7 | ≥ 2.00: open |",
                  "they agree", "absent: smp: pip install -e '.[peers]'", "did not end: oom: out of memory"):
        assert words in text, words


def test_outputs_that_differ_stand_out():
    contest = Contest(name="denoiser", setting="", checks=[Check(what="output", value=0.1, limit=0.01)])
    assert "THEY DIFFER" in page(whole().model_copy(update={"contests": [contest]}))


def test_the_terminal_keeps_words_in_brackets_and_every_column():
    console = Console(width=80, record=True, highlight=False, markup=False)
    show(whole().contests[0], console)
    text = console.export_text()
    for words in (".[peers]", "denoiser, training step", "≥ 2.00: open", "1.89 to 2.20", "GFLOP/s"):
        assert words in text, words


def test_a_column_that_is_empty_is_left_out():
    plain = {"a": Contestant(label="a", seconds=[1.0]), "b": Contestant(label="b", seconds=[2.0])}
    trial = Trial(name="t", contestants=plain, comparisons=[compared("share", "a", "b", plain)])
    text = page(whole().model_copy(update={"contests": [Contest(name="x", setting="", trials=[trial])]}))
    assert "parameters" not in text and "| 50.0 % |" in text


def test_tables_have_one_cell_for_every_head():
    assert markdown(("a", "b"), [("1", "2")]).splitlines() == ["| a | b |", "| --- | --: |", "| 1 | 2 |"]


@pytest.mark.parametrize("name", ["result", "page", "benchmark"])
def test_what_people_read_does_not_wait_for_torch(name):
    code = f"import sys, harness.benchmark.{name}; assert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
