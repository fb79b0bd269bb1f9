"""The command by hand: names, a contest that fails, one that is interrupted, what is left."""

import importlib
import sys

import pytest
from command_line import bench, refused

from harness.benchmark import CONTESTS
from harness.benchmark.benchmark import chosen
from harness.benchmark.result import Check, Contest, read


@pytest.fixture
def contests(monkeypatch):
    """contests(name=function of BenchmarkOptions, ...): what takes the place of contests; others must not be run."""
    def put(**runs):
        for name in CONTESTS:
            module = importlib.import_module(f"harness.benchmark.{name}")
            monkeypatch.setattr(module, "run", runs.get(name, lambda asked: pytest.fail("was not asked for")))
    return put


def found(name, **more):
    return lambda asked: Contest(name=name, setting="as it was", **more)


@pytest.mark.parametrize("args, words", [
    (("--only", "denoizer"), ("unknown contest", "did you mean 'denoiser'")),
    (("--only", "overhead,sampling"), ("unknown contest 'sampling'", "segmenter")),
    (("--precision", "fp61"), ("unknown precision", "did you mean 'fp16'")),
    (("--device", "cdua"), ("unknown device", "did you mean 'cuda'")),
    (("--precision", "fp16", "--device", "cpu"), ("fp16 needs a GPU",))])
def test_what_it_cannot_take(args, words, tmp_path):
    refused(bench("benchmark", *args, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    refused(bench("benchmark", "--out", tmp_path / "file" / "out"), "cannot be written")


def test_rounds_below_one():
    result = bench("benchmark", "--rounds", "0")
    assert result.exit_code == 2 and "--rounds" in result.stderr


def test_contests_are_run_in_their_own_order_and_once():
    assert chosen("overhead, denoiser,overhead") == ["denoiser", "overhead"]
    assert chosen(None) == chosen("") == list(CONTESTS)
    assert all(importlib.import_module(f"harness.benchmark.{name}").run for name in CONTESTS)


def test_what_was_asked_arrives(contests, tmp_path):
    heard = []
    contests(overhead=lambda asked: heard.append(asked) or Contest(name="overhead", setting="as it was"))
    result = bench("benchmark", "--only", "overhead", "--rounds", 4, "--precision", "fp32", "--device", "cpu",
                   "--compile", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    [asked] = heard
    assert (asked.device, asked.precision, asked.rounds, asked.compile) == ("cpu", "fp32", 4, True)
    written = read(tmp_path)
    assert written.compiled and written.precision == "fp32" and written.env["packages"]["diffusers"]
    assert "as it was" in (tmp_path / "README.md").read_text()


def test_a_contest_that_fails_does_not_end_the_others(contests, tmp_path):
    def broken(asked):
        raise RuntimeError("no luck\ntoday")

    contests(denoiser=broken, overhead=found("overhead"))
    result = bench("benchmark", "--only", "denoiser,overhead", "--out", tmp_path)
    assert result.exit_code == 2 and "failed: RuntimeError: no luck today" in result.output
    failed, other = read(tmp_path).contests
    assert failed.error == "failed: RuntimeError: no luck today" and (other.name, other.error) == ("overhead", None)


def test_a_contest_whose_library_is_broken_does_not_end_the_others(contests, tmp_path, monkeypatch):
    contests(overhead=found("overhead"))
    monkeypatch.setitem(sys.modules, "harness.benchmark.transformer", None)       # as where an import fails
    result = bench("benchmark", "--only", "transformer,overhead", "--out", tmp_path)
    assert result.exit_code == 2
    assert [bool(contest.error) for contest in read(tmp_path).contests] == [True, False]


def test_outputs_that_differ_are_a_failure(contests, tmp_path):
    contests(denoiser=found("denoiser", checks=[Check(what="output", value=1.0, limit=0.1)]))
    result = bench("benchmark", "--only", "denoiser", "--out", tmp_path)
    assert result.exit_code == 2 and "THEY DIFFER" in result.output


def test_an_absent_peer_is_said_and_is_no_failure(contests, tmp_path):
    contests(segmenter=found("segmenter", absent=["smp is not installed; pip install -e '.[peers]'"]))
    result = bench("benchmark", "--only", "segmenter", "--out", tmp_path)
    assert result.exit_code == 0 and ".[peers]" in result.output


def test_what_has_ended_before_an_interruption_is_kept(contests, tmp_path):
    def interrupted(asked):
        raise KeyboardInterrupt

    contests(denoiser=found("denoiser"), overhead=interrupted)
    result = bench("benchmark", "--only", "denoiser,overhead", "--out", tmp_path)
    assert result.exit_code == 130 and "1 of 2 contests have ended" in result.output
    assert [contest.name for contest in read(tmp_path).contests] == ["denoiser"]
