"""The same plan on Ray: the scores of runs in this process, whatever becomes of a worker."""

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import InputError
from harness.execute import execute
from harness.execution import Execution
from harness.record import read_records

ray = pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
executor = pytest.importorskip("harness.executors.ray")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A Ray of two processors on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def plan(tiny_spec, count):
    return [tiny_spec("segmentation", seeds={"init": seed, "data": seed, "sampling": seed}) for seed in range(count)]


def scores(records):
    return [(record.status, {name: metric.value for name, metric in record.metrics.items()}) for record in records]


def workers():
    """Processes of Ray that make runs."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_scores_are_those_of_runs_made_here_though_a_worker_is_killed(tiny_data, tiny_spec, tmp_path):
    data, runs = tiny_data("segmentation"), plan(tiny_spec, 2)
    here = execute(runs, data, tmp_path / "here", how=Execution(in_process=True))
    heard, lock = [], threading.Lock()

    def listen(spec, *, stage, error=None, **event):
        with lock:
            if stage == "training" and not any(known == "killed" for known, _ in heard):
                os.kill(workers()[0], signal.SIGKILL)
                heard.append(("killed", None))
            heard.append((stage, error))

    there = execute(runs, data, tmp_path / "ray", how=Execution(executor="ray", checkpoint_every_s=1e-9),
                    listener=listen)
    assert scores(there) == scores(here) and [status for status, _ in scores(here)] == ["ok"] * 2
    assert ("note", "its worker was lost; the run is taken up again") in heard
    assert len(read_records(tmp_path / "ray" / "runs")[0]) == 2
    assert not list((tmp_path / "ray").glob(".seen-by-ray-*"))


def test_results_are_sent_back_where_the_folder_is_not_shared(tiny_spec, tmp_path, monkeypatch):
    """Workers that do not see the driver's folder open the data by themselves, and send back what they made."""
    from harness.plan import load_data
    spec = tiny_spec("segmentation", data={"name": "cells", "options": {"train": 8, "validation": 2, "test": 2,
                                                                        "image_size": 32}})
    data = load_data(spec.data, "segmentation", tmp_path / "out" / "cache")
    real = executor.Worker.options

    def blind(**options):
        made = real(**options)
        return SimpleNamespace(remote=lambda token, inbox: made.remote(f"{token}-elsewhere", inbox))

    monkeypatch.setattr(executor.Worker, "options", blind)
    [record] = execute([spec], data, tmp_path / "out", how=Execution(executor="ray", checkpoint_every_s=1e-9))
    assert record.status == "ok" and record.metrics
    kept, problems = read_records(tmp_path / "out" / "runs")
    assert [one.run_id for one in kept] == [record.run_id] and not problems
    assert (tmp_path / "out" / "runs" / record.run_id / "model.safetensors").is_file()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_that_does_not_answer_is_one_line(address):
    with pytest.raises(InputError, match=f"--executor ray: nothing answers at {address}: "):
        Execution(executor=f"ray:{address}").check()


def test_a_folder_arrives_whole_and_replaces_an_earlier_one(tmp_path):
    (tmp_path / "from" / "run").mkdir(parents=True)
    (tmp_path / "from" / "run" / "a.txt").write_text("new")
    (tmp_path / "to" / "run").mkdir(parents=True)
    (tmp_path / "to" / "run" / "old.txt").write_text("old")
    executor.unpack(executor.pack(tmp_path / "from" / "run"), tmp_path / "to")
    assert [path.name for path in (tmp_path / "to" / "run").iterdir()] == ["a.txt"]
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["run"]
    assert executor.pack(tmp_path / "nothing") is None
