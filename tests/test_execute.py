"""Runs in fresh processes: a crash is a row, a finished run is not made again, a killed one leaves nothing."""

import os
import signal
import time
from pathlib import Path

import pytest

from harness import execute as execute_module
from harness.errors import InputError
from harness.execute import execute
from harness.execution import Execution
from harness.executors import local
from harness.record import read_records

# Networks that misbehave while they are being built: the harness must outlive each of them.
MISBEHAVING = """
import os, signal, time
from torch import nn
from variants import plain

def killed(**kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def leaves(**kwargs):
    os._exit(7)

def raises(**kwargs):
    raise RuntimeError("no such\\nluck")

def sleeps(**kwargs):
    time.sleep(60)

def fine(**kwargs):
    return plain.build(**kwargs)
"""


@pytest.fixture
def network(tmp_path):
    file = tmp_path / "networks.py"
    file.write_text(MISBEHAVING)
    return lambda name: f"{file}:{name}"


class Heard:
    def __init__(self):
        self.events = []

    def __call__(self, spec, **event):
        self.events.append((spec.variant.rpartition(":")[2], event["stage"]))


def test_a_dead_child_is_a_row_and_the_rest_goes_on(network, tiny_data, tiny_spec, tmp_path):
    plan = [tiny_spec("segmentation", variant=network(name)) for name in ("killed", "leaves", "raises", "fine")]
    heard = Heard()
    records = execute(plan, tiny_data("segmentation"), tmp_path / "out", listener=heard)
    assert [record.status for record in records] == ["failed", "failed", "failed", "ok"]
    assert [record.error for record in records[:3]] == [
        "the process was killed by SIGKILL", "the process ended with exit code 7 before its record was written",
        "RuntimeError: no such luck"]
    assert {("fine", "start"), ("fine", "training"), ("fine", "done")} <= set(heard.events)
    kept, problems = read_records(tmp_path / "out" / "runs")
    assert len(kept) == 4 and not problems
    assert not list((tmp_path / "out" / "runs").glob(".*"))


def test_finished_runs_are_not_made_again_but_failed_ones_are(network, tiny_data, tiny_spec, tmp_path):
    data, out = tiny_data("segmentation"), tmp_path / "out"
    plan = [tiny_spec("segmentation", variant=network(name)) for name in ("fine", "raises")]
    first = execute(plan, data, out, how=Execution(in_process=True))
    heard = Heard()
    again = execute(plan, data, out, how=Execution(in_process=True), listener=heard)
    assert again[0] == first[0] and ("fine", "kept") in heard.events
    assert ("raises", "start") in heard.events


def test_both_ways_give_the_same_run(tiny_data, tiny_spec, tmp_path):
    spec, data = tiny_spec("segmentation"), tiny_data("segmentation")
    [here], [there] = (execute([spec], data, tmp_path / str(here), how=Execution(in_process=here))
                       for here in (True, False))
    assert here.run_id == there.run_id
    assert here.metrics["dice_macro"] == there.metrics["dice_macro"]


def test_interrupted_run_leaves_nothing_that_looks_finished(network, tiny_data, tiny_spec, tmp_path):
    def interrupt(spec, **event):
        if event["stage"] == "start":
            signal.setitimer(signal.ITIMER_REAL, 4)

    def alarm(*_):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, alarm)
    try:
        with pytest.raises(KeyboardInterrupt):
            execute([tiny_spec("segmentation", variant=network("sleeps"))], tiny_data("segmentation"),
                    tmp_path / "out", listener=interrupt)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert list((tmp_path / "out" / "runs").iterdir()) == []


def test_leftovers_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path):
    runs = tmp_path / "runs"
    host = os.uname().nodename
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    for name in (f"a-{host}-{pid}", f"b-{host}-{os.getpid()}", f"c-elsewhere-{pid}"):
        (runs / f".unfinished-{name}").mkdir(parents=True)
    execute_module.prepare(tmp_path)
    assert sorted(path.name for path in runs.iterdir()) == sorted(
        [f".unfinished-b-{host}-{os.getpid()}", f".unfinished-c-elsewhere-{pid}"])


def test_results_folder_that_cannot_be_written(tmp_path, tiny_data, tiny_spec):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        execute([tiny_spec("segmentation")], tiny_data("segmentation"), blocked / "out")


def test_corrupt_record_is_named_and_left_alone_and_the_rest_goes_on(tiny_data, tiny_spec, tmp_path):
    spec, data, out = tiny_spec("segmentation"), tiny_data("segmentation"), tmp_path / "out"
    [record] = execute([spec], data, out, how=Execution(in_process=True))
    path = out / "runs" / record.run_id / "record.json"
    path.write_text("{")
    heard, other = {}, tiny_spec("segmentation", variant="no_skip")

    def listen(spec, **event):
        heard.setdefault(spec.variant, []).append((event["stage"], event.get("error")))

    records = execute([spec, other], data, out, how=Execution(in_process=True), listener=listen)
    assert [one.spec.variant for one in records] == ["no_skip"]
    [(stage, error)] = heard["plain"]
    assert stage == "left alone" and f"corrupt record {path}" in error
    assert path.read_text() == "{"


@pytest.mark.parametrize("exitcode, by_oom, status", [
    (-9, True, "oom"), (-9, False, "failed"), (-11, False, "failed"), (1, False, "failed")])
def test_what_a_death_means(exitcode, by_oom, status):
    assert local.exit_status(exitcode, by_oom)[0] == status


def test_progress_is_heard_while_the_run_is_going(network, tiny_data, tiny_spec, tmp_path):
    times = {}

    def listen(spec, **event):
        times.setdefault(event["stage"], time.monotonic())

    execute([tiny_spec("segmentation")], tiny_data("segmentation"), tmp_path / "out", listener=listen)
    assert times["start"] < times["training"] < times["evaluating"] < times["done"]
    assert Path(tmp_path / "out" / "cache").is_dir()


def test_a_run_that_starts_beside_another_prepares_what_they_share(tiny_data, tiny_spec, tmp_path, monkeypatch):
    """The first one trains at once; whoever starts while it trains makes the feature extractor first."""
    seen = []
    made = local.Executor.submit

    def submit(self, assignment, listener):
        seen.append(assignment.prepares)
        return made(self, assignment, listener)

    monkeypatch.setattr(local.Executor, "submit", submit)
    plan = [tiny_spec("segmentation", seeds={"init": seed}) for seed in range(2)]
    execute(plan, tiny_data("segmentation"), tmp_path / "beside", how=Execution(jobs=2))
    execute(plan, tiny_data("segmentation"), tmp_path / "alone", how=Execution(in_process=True))
    assert seen == [False, True, False, False]
