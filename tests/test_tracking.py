"""When a run is handed to a tracker, what with, and that no tracker can hurt a run."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import bench, refused
from synthetic_runs import write_small_run
from synthetic_study import write_study

import harness.cli
from harness import execute, extras, plan, tracking
from harness.ablation import study_plan
from harness.record import read_record
from harness.trackers import Point
from harness.tracking import Tracking, tracked_run

ROOT = Path(__file__).parents[1]


class Recorder:
    """In place of a tracker's module."""

    def __init__(self, error=None):
        self.runs, self.error = [], error

    def write(self, run, folder):
        if self.error:
            raise self.error
        assert folder.is_dir()
        self.runs.append(run)


@pytest.fixture
def results(tmp_path):
    """results(**changes) -> (out, record) of a run in out/runs; a second call makes the run again."""
    return lambda **changes: write_small_run(tmp_path / "out", **changes)


@pytest.fixture
def tracker(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(tracking.registry, "load", lambda name: recorder)
    return recorder


@pytest.fixture
def heard():
    return []


@pytest.fixture
def hear(heard):
    """hear(out, record, stage, trackers): an event as harness.execute tells it."""
    def tell(out, record, stage="done", trackers=("mine",)):
        listener = Tracking(trackers, out, lambda spec, **event: heard.append(event))
        listener(record.spec, stage=stage, record=record, name="plain, image_size 8")
    return tell


def test_a_tracker_is_told_all_of_a_run_but_what_is_undefined(results):
    out, record = results()
    run = tracked_run(record, out / "runs" / record.run_id, "plain, seed 0")
    start = 1767225600.0                           # 2026-01-01, midnight
    assert run.curves == {"curves/loss": [Point(10, start + 1.5, 0.5), Point(20, start + 3, 0.25)],
                          "curves/validation loss": [Point(20, start + 3, 0.75)]}
    assert run.values == {"metrics/fid": 1.5, "cost/parameters": 1000.0}
    assert run.ended == start + 61.5
    assert run.parameters["options.width"] == 16 and run.parameters["options.mults"] == "[1, 2]"
    assert run.parameters["train.learning_rate"] == 1e-3 and run.parameters["seeds.init"] == 0
    assert "data.root" not in run.parameters       # None
    assert run.tags == {"suite": "generation", "data": "digits", "run_id": record.run_id, "code": "c0de",
                        "profile": "quick", "status": "ok"}
    assert run.pictures == {out / "runs" / record.run_id / "samples.png": "Drawn digits"}


def test_a_run_is_written_once_by_whichever_command(results, tracker, hear, heard):
    out, record = results()
    hear(out, record, "done")
    hear(out, record, "kept")
    assert [run.name for run in tracker.runs] == ["plain, image_size 8, seed 0"]
    assert [event["stage"] for event in heard] == ["done", "kept"]


def test_a_kept_run_that_is_not_written_yet_is_written(results, tracker, hear):
    hear(*results(), "kept")
    assert len(tracker.runs) == 1


def test_a_failed_run_is_written_and_again_when_it_was_made_again(results, tracker, hear):
    hear(*results(status="failed", error="out of luck"))
    hear(*results(minute=5), "done")
    assert [(run.status, run.error) for run in tracker.runs] == [("failed", "out of luck"), ("ok", None)]


def test_a_tracker_that_raises_is_one_line_and_tried_again(results, tracker, hear, heard):
    out, record = results()
    tracker.error = RuntimeError("no such\nserver")
    hear(out, record)
    assert heard[-1] == {"stage": "note", "name": "plain, image_size 8",
                         "error": "not written for mine: no such server"}
    assert read_record(out / "runs" / record.run_id) == record
    tracker.error = None
    hear(out, record, "kept")
    assert len(tracker.runs) == 1


def test_one_tracker_that_raises_does_not_keep_another_from_its_run(results, monkeypatch, hear, heard):
    bad, good = Recorder(ImportError("broken package")), Recorder()
    monkeypatch.setattr(tracking.registry, "load", {"bad": bad, "good": good}.get)
    hear(*results(), trackers=("bad", "good"))
    assert len(good.runs) == 1 and [event["stage"] for event in heard] == ["done", "note"]


def test_corrupt_curves_are_named(results, tracker, hear, heard):
    hear(*results(curves="step,seconds,name,value\n1,2,loss,0.5\nten,2,loss,0.5\n"))
    assert not tracker.runs and "curves.csv" in heard[-1]["error"]


@pytest.mark.parametrize("stage", ["start", "training", "note", "left alone", "made elsewhere"])
def test_what_has_not_ended_is_not_written(stage, results, tracker, heard):
    out, record = results()
    Tracking(("mine",), out, lambda spec, **event: heard.append(event))(record.spec, stage=stage)
    assert not tracker.runs and not (out / "tracking").exists() and len(heard) == 1


def test_an_unknown_tracker():
    for command in (("--suite", "generation"), ("ablate", "skips")):
        refused(bench(*command, "--track", "tensorbord"), "unknown tracker", "did you mean 'tensorboard'")


@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)], ids=["nothing", "a folder of that name"])
def test_an_absent_package(found, monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "find_spec", lambda name: found)
    refused(bench("--suite", "generation", "--track", "wandb", "--out", tmp_path / "out"),
            "--track wandb needs the package wandb", "pip install 'unet-bench[track]'")
    assert not (tmp_path / "out").exists()


def test_trackers_are_checked_without_importing_them_or_torch():
    code = ("import sys; from harness import trackers; from harness.cli import main\n"
            "words = [f'--track={name}' for name in (*trackers.registry.names(), 'absent')]\n"
            "try:\n    main(['--suite', 'generation', *words], prog_name='bench.py')\n"
            "except SystemExit as e:\n    assert e.code == 2\n"
            "heavy = {'torch', 'tensorboard', 'mlflow', 'wandb'} & set(sys.modules)\nassert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def planned(results, tiny_data, monkeypatch, tmp_path):
    """A suite's and a study's plan without runs; every run of it "leaves" the same record."""
    out, record = results()
    parts = write_study(tmp_path / "study", seeds=1, suites=("generation",), pictures=False).parts

    def execute_nothing(specs, data, out, *, how, listener):
        for spec in specs:
            listener(spec, stage="done", record=record)
        return [record]

    monkeypatch.setattr(extras, "find_spec", lambda name: SimpleNamespace(origin="installed"))
    monkeypatch.setattr(plan, "load_data", lambda *asked: tiny_data("generation"))
    monkeypatch.setattr(plan, "make_plan", lambda *asked: [record.spec])
    monkeypatch.setattr(study_plan, "plan_suite", lambda *asked: SimpleNamespace(
        suite="generation", data=tiny_data("generation"), parts=parts))
    monkeypatch.setattr(execute, "execute", execute_nothing)
    monkeypatch.setattr(harness.cli, "show_report", lambda out, console: [])
    return out


@pytest.mark.parametrize("command", [("--suite", "generation"), ("ablate", "skips", "--suite", "generation")],
                         ids=["suite", "ablate"])
def test_commands_hand_over_their_runs(command, planned, tracker):
    result = bench(*command, "--seeds", "1", "--out", planned, "--track", "tensorboard", "--track", "mlflow",
                   "--track", "mlflow")
    assert result.exit_code == 0, result.output
    assert len(tracker.runs) == 2                  # one record, for two trackers
    assert {path.name for path in (planned / "tracking").iterdir()} == {"tensorboard", "mlflow"}
