"""Runs on a Ray cluster: placed by CPU threads and GPU, taken up from their checkpoint where a worker is lost.

Every worker is an actor that makes one run at a time, in a fresh process, as on one machine. Where the results folder
is shared, workers write into it; elsewhere they send back the run's folder, and its checkpoints as they are saved.
Ray: Moritz et al. 2018, arXiv:1712.05889.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import tarfile
import tempfile
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from harness.errors import InputError
from harness.execution import Assignment, Execution, Listener
from harness.record import Record, read_record

NEEDS = {"ray": "cluster"}                         # package -> extra of this project that installs it
# Workers on this machine find the project where it lies; those elsewhere are sent it, see connect.
HERE = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]),
                                                                 os.environ.get("PYTHONPATH")]))}}
POLL_S = 0.2                                       # between two looks at what workers report
TAKEN_UP = 3                                       # times that a run is taken up again after its worker was lost


class Executor:
    """Runs on as many workers as the cluster has room for, or ``--jobs`` of them."""

    def __init__(self, how: Execution, *, runs: int, device: str = "cpu"):
        self.threads = how.threads or 1
        connect(how.executor.partition(":")[2])
        have = ray.cluster_resources()
        self.needs = {"num_cpus": self.threads, "num_gpus": 1 if device.startswith("cuda") else 0}
        room = have.get("CPU", 1) // self.threads if not self.needs["num_gpus"] else have.get("GPU", 0)
        if room < 1:
            raise InputError(f"the Ray cluster has {have.get('CPU', 0):.0f} CPUs and {have.get('GPU', 0):.0f} GPUs: "
                             f"no room for a run on {device} with {self.threads} threads")
        self.jobs = min(how.jobs or int(room), max(1, runs))
        self.workers: SimpleQueue = SimpleQueue()
        self.alive: list = []
        self.inbox = Inbox.options(num_cpus=0, runtime_env=HERE).remote()
        self.pool = ThreadPoolExecutor(self.jobs, thread_name_prefix="ray")
        self.token: Path | None = None
        self.cancelled = threading.Event()

    def submit(self, assignment: Assignment, listener: Listener) -> Future:
        """Begin the run on the next free worker; its record is the future's result."""
        if self.token is None:                     # a worker that sees this file writes to the folder itself
            self.token = assignment.out.resolve() / f".seen-by-ray-{uuid.uuid4().hex}"
            self.token.touch()
        return self.pool.submit(self._make, assignment, listener)

    def close(self, cancel: bool = False) -> None:
        """Wait for the runs, or end them; the cluster stays."""
        if cancel:
            self.cancelled.set()
            for worker in self.alive:
                ray.kill(worker)
        self.pool.shutdown(wait=True, cancel_futures=cancel)
        for worker in () if cancel else self.alive:
            ray.kill(worker)
        ray.kill(self.inbox)
        if self.token is not None:
            self.token.unlink(missing_ok=True)

    def _worker(self) -> Any:
        try:
            return self.workers.get_nowait()
        except Empty:
            worker = Worker.options(**self.needs, runtime_env=HERE).remote(str(self.token), self.inbox)
            self.alive.append(worker)
            return worker

    def _make(self, assignment: Assignment, listener: Listener) -> Record:
        places = {"out": assignment.out.resolve(), "cache": assignment.cache.resolve()}
        assignment = assignment.model_copy(update=places)
        for attempt in range(TAKEN_UP + 1):
            worker = self._worker()
            try:
                packed = self._follow(worker, assignment, listener)
            except RayActorError:
                self.alive.remove(worker)
                if self.cancelled.is_set() or attempt == TAKEN_UP:
                    raise
                listener(stage="note", error="its worker was lost; the run is taken up again")
                continue
            self.workers.put(worker)
            if packed is not None:
                unpack(packed, assignment.runs)
            return read_record(assignment.runs / assignment.run_id)
        raise AssertionError("unreachable")

    def _follow(self, worker: Any, assignment: Assignment, listener: Listener) -> bytes | None:
        """Wait for the run and pass on what it reports; the run's folder, packed, where the worker has it."""
        answer = worker.make.remote(assignment.model_dump_json(), pack(assignment.checkpoints))
        while True:
            done, _ = ray.wait([answer], timeout=POLL_S)
            for event in ray.get(self.inbox.take.remote(assignment.run_id)):
                if event["stage"] == "checkpoint":
                    unpack(event["packed"], assignment.checkpoints.parent)
                else:
                    listener(**event)
            if done:
                try:
                    return ray.get(answer)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, InputError):
                        raise InputError(str(error.cause)) from None
                    raise


@ray.remote
class Inbox:
    """What the runs report, until it is taken."""

    def __init__(self):
        self.events: dict[str, list[dict]] = {}

    def put(self, run_id: str, event: dict) -> None:
        self.events.setdefault(run_id, []).append(event)

    def take(self, run_id: str) -> list[dict]:
        return self.events.pop(run_id, [])


@ray.remote
class Worker:
    """One run at a time. ``token``: a file that is there where the results folder is shared."""

    def __init__(self, token: str, inbox: Any):
        self.shared, self.inbox, self.folder = Path(token).exists(), inbox, None
        os.environ.pop("OMP_NUM_THREADS", None)    # Ray's word on a worker; timings take the whole machine

    def make(self, assignment: str, checkpoint: bytes | None) -> bytes | None:
        """Make a run; return its folder, packed, where it lies on this machine only. Raises InputError."""
        from harness.executors.local import in_fresh_process
        run = Assignment.model_validate_json(assignment)
        if not self.shared:
            self.folder = self.folder or tempfile.TemporaryDirectory(prefix="unet-bench-")
            out = Path(self.folder.name)
            run = run.model_copy(update={"out": out, "cache": out / "cache"})
            prepare_here(run)
            if checkpoint is not None:
                unpack(checkpoint, run.checkpoints.parent)

        def listen(**event: Any) -> None:
            if event["stage"] == "checkpoint":
                if self.shared:
                    return
                event["packed"] = pack(run.checkpoints)
            self.inbox.put.remote(run.run_id, event)

        in_fresh_process(run, listen)
        return None if self.shared else pack(run.runs / run.run_id)


def connect(address: str) -> None:
    """Connect to a cluster, or start one on this machine where ``address`` is "". Raises InputError."""
    if ray.is_initialized():
        return
    source = Path(__file__).parents[1]
    modules = [str(source), str(source.parent / "variants")] if address not in ("", "auto") else []
    try:
        ray.init(address or None, runtime_env={"py_modules": modules} if modules else None, log_to_driver=False,
                 logging_level=logging.WARNING, include_dashboard=None)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"no Ray cluster could be had at {address or 'this machine'}: {reason}") from None


def prepare_here(run: Assignment) -> None:
    """Prepare the data in the worker's own cache. Raises InputError where they are not the driver's."""
    from harness import suites
    from harness.datasets.parts.store import prepare
    data = prepare(run.spec.data, suites.registry.constant(run.spec.suite, "NEEDS"), run.cache)
    if data.fingerprint != run.data:
        raise InputError(f"the data set {run.spec.data.name!r} on {socket.gethostname()} is not the one that the plan "
                         "was made for: its contents differ")


def pack(folder: Path) -> bytes | None:
    """Pack a folder, under its name, as a tar file in memory; None where there is none."""
    if not folder.is_dir():
        return None
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        file.add(folder, folder.name)
    return packed.getvalue()


def unpack(packed: bytes, into: Path) -> None:
    """Unpack a folder beside its place in ``into``, then put it there in one step."""
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".arriving-") as temporary:
        with tarfile.open(fileobj=io.BytesIO(packed)) as file:
            file.extractall(temporary, filter="data")
        for arrived in Path(temporary).iterdir():
            place = into / arrived.name
            if place.exists():
                place.rename(Path(temporary) / f"before-{arrived.name}")
            arrived.rename(place)
