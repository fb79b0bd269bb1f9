"""Runs side by side on one machine: as many as fit, each whole, none twice, none left over."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.datasets.parts.store import keep
from harness.errors import InputError
from harness.execute import execute, prepare
from harness.execution import Assignment, Execution
from harness.executors import local
from harness.executors.local import Executor, in_fresh_process
from harness.record import read_records

ROOT = Path(__file__).parents[2]
NETWORKS = """
import os, sys, time
from variants import plain

def leaves_with_zero(**kwargs):
    os._exit(0)

def slow(**kwargs):
    time.sleep(0.3)
    return plain.build(**kwargs)
"""
SWEEP = """
import json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from conftest import split
from harness.dataset import Dataset
from harness.execute import execute
from harness.execution import Execution
from harness.spec import RunSpec

if __name__ == "__main__":
    out, specs = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    data = Dataset("tiny", split(16, "train", 0, "segmentation"), split(6, "val", 1, "segmentation"),
                   split(8, "test", 2, "segmentation"), class_names=("background", "square"), image_size=(16, 16))
    for record in execute([RunSpec(**spec) for spec in specs], data, out,
                          how=Execution(checkpoint_every_s=float(sys.argv[3])),
                          listener=lambda spec, **event: print(event["stage"], spec.seeds.init, flush=True)):
        print("record", record.run_id, record.status, flush=True)
"""


@pytest.fixture
def sweep(tmp_path, tiny_spec):
    """sweep(out): the command that makes two short runs into ``out``, as arguments of subprocess."""
    program, plan = tmp_path / "sweep.py", tmp_path / "plan.json"
    program.write_text(SWEEP.format(root=str(ROOT), tests=str(ROOT / "tests")))
    specs = seeded(tiny_spec, 2)
    plan.write_text(json.dumps([spec.model_dump(mode="json") for spec in specs]))
    return lambda out, every=0.0: [sys.executable, str(program), str(out), str(plan), str(every)]


def seeded(tiny_spec, count, **changes):
    return [tiny_spec("segmentation", seeds={"init": seed, "data": seed, "sampling": seed}, **changes)
            for seed in range(count)]


def scores(out):
    records, problems = read_records(out / "runs")
    assert not problems
    return {record.run_id: {name: metric.value for name, metric in record.metrics.items()} for record in records}


def test_side_by_side_gives_the_scores_of_one_after_the_other(tiny_data, tiny_spec, tmp_path):
    data, plan, most = tiny_data("segmentation"), seeded(tiny_spec, 3), []
    running, lock = set(), threading.Lock()

    def listen(spec, *, stage, **event):
        with lock:
            (running.discard if stage == "done" else running.add)(spec.seeds.init)
            most.append(len(running))

    for jobs in (1, 2):
        execute(plan, data, tmp_path / str(jobs), how=Execution(jobs=jobs), listener=listen)
        assert max(most) == jobs
        most.clear()
    assert scores(tmp_path / "1") == scores(tmp_path / "2") and len(scores(tmp_path / "1")) == 3


def test_a_child_that_ends_well_without_a_record_is_a_failed_row(tiny_data, tiny_spec, tmp_path):
    (tmp_path / "networks.py").write_text(NETWORKS)
    variant = f"{tmp_path / 'networks.py'}:leaves_with_zero"
    out = tmp_path / "out"
    for _ in range(2):                             # the second time, too, when an earlier record lies there
        [record] = execute([tiny_spec("segmentation", variant=variant)], tiny_data("segmentation"), out)
        assert record.status == "failed" and "exit code 0 before its record" in record.error


def test_one_plan_twice_makes_each_run_once(tiny_data, tiny_spec, tmp_path):
    started = []
    plan = seeded(tiny_spec, 1) * 3
    records = execute(plan, tiny_data("segmentation"), tmp_path, how=Execution(jobs=3),
                      listener=lambda spec, *, stage, **event: started.append(1) if stage == "start" else None)
    assert len(records) == 3 and len({record.run_id for record in records}) == 1 and len(started) == 1


def test_several_commands_share_the_work(sweep, tmp_path):
    out = tmp_path / "out"
    commands = [subprocess.Popen(sweep(out), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [command.communicate(timeout=300)[0].splitlines() for command in commands]
    assert [command.returncode for command in commands] == [0, 0]
    starts = [line for lines in said for line in lines if line.startswith("start")]
    assert sorted(starts) == [f"start {seed}" for seed in range(2)]              # none twice
    assert all(sum(line.startswith("record") and line.endswith("ok") for line in lines) == 2 for lines in said)
    assert len(scores(out)) == 2


def children_of(out):
    """Processes that hold something open under ``out`` or have it on their command line; their pids."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and int(entry.name) != os.getpid() and any(
                    str(out) in os.readlink(link) for link in (entry / "fd").iterdir()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes by /proc")
def test_a_killed_command_leaves_no_process_and_goes_on(sweep, tiny_data, tiny_spec, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    execute(seeded(tiny_spec, 2), tiny_data("segmentation"), whole, how=Execution(in_process=True))
    command = subprocess.Popen(sweep(out, 1e-9), stdout=subprocess.PIPE, text=True)
    for line in command.stdout:                    # in the middle of training
        if line.startswith("training"):
            break
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    until = time.monotonic() + 60
    while children_of(out) and time.monotonic() < until:
        time.sleep(0.1)
    assert children_of(out) == []
    done = subprocess.run(sweep(out, 1e-9), check=True, capture_output=True, text=True, timeout=300)
    assert "going on from step" in done.stdout
    assert scores(out) == scores(whole) and len(scores(whole)) == 2
    assert not list((out / "checkpoints").iterdir()) and not list((out / "runs").glob(".*"))


def test_runs_share_the_machine(monkeypatch):
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    monkeypatch.setattr(local, "most_threads", lambda: 8)
    for how, runs, jobs, threads in ((Execution(), 100, 8, 1), (Execution(), 2, 2, 4), (Execution(), 1, 1, 8),
                                     (Execution(jobs=2), 100, 2, 1), (Execution(threads=3), 100, 8, 3),
                                     (Execution(in_process=True), 100, 1, 1)):
        executor = Executor(how, runs=runs)
        assert (executor.jobs, executor.threads) == (jobs, threads), how
        executor.close()
    monkeypatch.setattr(local, "gpu_count", lambda: 4)
    executor = Executor(Execution(processes=2), runs=10, device="cuda")
    assert executor.jobs == 2 and [executor.gpus.get() for _ in range(2)] == [[0, 1], [2, 3]]
    executor.close()
    with pytest.raises(InputError, match="--processes 5 needs a GPU each; this machine has 4"):
        Executor(Execution(processes=5), runs=1, device="cuda")


@pytest.mark.parametrize("how, words", [
    (Execution(jobs=0), "--jobs must be at least 1, not 0"), (Execution(threads=-1), "--threads must be at least 1"),
    (Execution(executor="locol"), "did you mean 'local'"), (Execution(checkpoint_every_s=-1), "--checkpoint-every"),
    (Execution(processes=2, in_process=True), "--processes")])
def test_what_cannot_be_is_refused(how, words):
    with pytest.raises(InputError, match=words):
        how.check()


def test_a_run_shared_by_two_processes_has_the_same_loss_curve(tiny_data, tiny_spec, tmp_path):
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        runs, cache = prepare(out)
        data = keep(tiny_data("segmentation"), cache)
        run = Assignment(spec=tiny_spec("segmentation"), code="c", data=data.fingerprint, out=out, cache=cache,
                         threads=1, processes=processes)
        record = in_fresh_process(run, lambda **event: None)
        assert record.status == "ok", record.error
        lines = (runs / record.run_id / "curves.csv").read_text().splitlines()[1:]
        curves.append([(step, name, float(value)) for step, _, name, value in (line.split(",") for line in lines)])
    one, two = curves
    assert [point[:2] for point in one] == [point[:2] for point in two]
    assert [point[2] for point in two] == pytest.approx([point[2] for point in one], rel=1e-4)
    assert multiprocessing.active_children() == []
