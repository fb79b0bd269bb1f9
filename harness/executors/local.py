"""Runs on this machine, several at a time, each in a fresh process (or in this one, for debugging)."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue

from harness.errors import InputError, is_disk_full
from harness.execution import Assignment, Execution, Listener
from harness.measurement.processor import most_threads, usable_cores
from harness.record import Record, atomic_directory, capture_environment, read_record, write_record

GPU_LOADERS = 4                                    # processes that make batches for a run on a GPU, at most


class Executor:
    """Runs side by side: as many as there are GPUs, or on a CPU as many as have a core each, up to eight."""

    def __init__(self, how: Execution, *, runs: int, device: str = "cpu"):
        cores, gpus = usable_cores(), gpu_count() if device.startswith("cuda") else 0
        if gpus and how.processes > gpus:
            raise InputError(f"--processes {how.processes} needs a GPU each; this machine has {gpus}")
        side_by_side = max(1, (gpus or min(cores, 8)) // how.processes)
        self.in_process = how.in_process
        self.jobs = 1 if how.in_process else min(how.jobs or side_by_side, max(1, runs))
        # A run's share of the machine follows from the machine and the plan, not from --jobs: sums over other numbers
        # of threads differ in their last digits, and a score must not depend on what ran beside it.
        self.threads = how.threads or max(1, most_threads() // min(side_by_side, max(1, runs)))
        self.loader_workers = min(GPU_LOADERS, max(0, cores // self.jobs - 1)) if gpus else 0
        self.gpus: SimpleQueue = SimpleQueue()     # of as many at a time as a run takes
        for index in range(self.jobs if gpus else 0):
            self.gpus.put([(index * how.processes + k) % gpus for k in range(how.processes)])
        self.children: set = set()
        self.cancelled = False
        self.pool = ThreadPoolExecutor(self.jobs, thread_name_prefix="run")

    def submit(self, assignment: Assignment, listener: Listener) -> Future:
        """Begin the run; its record is the future's result."""
        if self.in_process:
            future: Future = Future()
            future.set_result(make(assignment, listener))
            return future
        return self.pool.submit(self._make, assignment, listener)

    def close(self, cancel: bool = False) -> None:
        """Wait for the runs, or end them."""
        self.cancelled = cancel
        for child in list(self.children) if cancel else ():
            end(child)
        self.pool.shutdown(wait=True, cancel_futures=cancel)

    def _make(self, assignment: Assignment, listener: Listener) -> Record:
        gpus = self.gpus.get() if assignment.spec.device == "cuda" else []
        try:
            return in_fresh_process(assignment.model_copy(update={"loader_workers": self.loader_workers}), listener,
                                    gpus=gpus, children=self.children, cancelled=lambda: self.cancelled)
        finally:
            if gpus:
                self.gpus.put(gpus)


def in_fresh_process(assignment: Assignment, listener: Listener, *, gpus: Sequence[int] = (),
                     children: set | None = None, cancelled: Callable[[], bool] = lambda: False) -> Record:
    """Make the run in a child that has done nothing before; a child that dies becomes a row, too.

    Raises InputError where the disk is full: the row could not be written, either.
    """
    children = set() if children is None else children
    runs, run_id = assignment.runs, assignment.run_id
    context = process_context(assignment.spec.suite)
    ours, theirs = context.Pipe(duplex=False)
    before, started = oom_kills(), datetime.now(UTC)
    child = context.Process(target=child_main, args=(assignment.model_dump_json(), gpus, theirs))
    children.add(child)
    recorded, full = False, None
    try:
        child.start()
        theirs.close()
        if cancelled():
            end(child)
        for event in events(ours, child.sentinel):
            recorded = recorded or event["stage"] == "recorded"
            full = event["error"] if event["stage"] == "disk full" else full
            if event["stage"] not in ("recorded", "disk full"):
                listener(**event)
        child.join()
    finally:
        if child.is_alive():                           # interrupted: nothing of the run is kept but its checkpoint
            end(child)
        for leftover in runs.glob(f".unfinished-{run_id}-*-{child.pid}"):
            shutil.rmtree(leftover, ignore_errors=True)
        ours.close()
        children.discard(child)
    if full:
        raise InputError(full)
    if recorded and child.exitcode == 0:
        return read_record(runs / run_id)

    from harness.datasets.parts.store import open_stored
    status, error = exit_status(child.exitcode, oom_kills() > before)
    record = Record(run_id=run_id, spec=assignment.spec.portable(), status=status, error=error,
                    started=started.isoformat(timespec="seconds"),
                    duration_s=(datetime.now(UTC) - started).total_seconds(), code=assignment.code,
                    env=capture_environment(assignment.spec.device),
                    data=open_stored(assignment.cache, assignment.data).describe())
    if not cancelled():
        with atomic_directory(runs, run_id) as folder:
            write_record(folder, record)
    return record


def process_context(suite: str):
    """Children fork from a server that has imported what the suite needs and done nothing with it.

    Their OpenMP threads are told to sleep soon instead of spinning while they wait for each other: on a machine
    that does other things too, spinning made training steps of 25 ms take over a second.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")    # PyTorch's profiler remarks on stderr, amid the results
    if "forkserver" not in multiprocessing.get_all_start_methods():    # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.run", f"harness.suites.{suite}"])
    return context


def start_server(how: Execution, suite: str) -> None:
    """Start the server that children fork from: it imports what the suite needs while this process plans.

    Does nothing where ``how`` makes runs elsewhere, or in this process.
    """
    here = how.executor == "local" and not how.in_process
    if here and process_context(suite).get_start_method() == "forkserver":
        from multiprocessing import forkserver  # which Windows lacks
        forkserver.ensure_running()


def settle_in(gpus: Sequence[int]) -> None:
    """Make a new process ready for a run: it ends with its parent, has its GPUs, and keeps the memory that it frees."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()                                   # with the processes that make its batches
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)       # Ctrl-C is the parent's to handle
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(allowed[k] if k < len(allowed) and allowed[k] else str(k)
                                                      for k in gpus)
    from harness.training.device import keep_freed_memory
    keep_freed_memory()


def child_main(assignment: str, gpus: Sequence[int], events_to: Connection) -> None:
    """Make a run in a process of its own, with others where they share it; it ends with the one that asked for it."""
    settle_in(gpus)

    def report(**event) -> None:
        try:
            events_to.send(event)
        except OSError:                                # nobody listens any more
            os._exit(1)

    run = Assignment.model_validate_json(assignment)
    try:
        with partners(run, gpus):
            make(run, report)
    except OSError as error:
        if not is_disk_full(error):
            raise
        report(stage="disk full", error=str(error))
    else:
        report(stage="recorded")


def make(assignment: Assignment, listener: Listener, runs: Path | None = None) -> Record:
    """Open the data and make the run in this process, under ``runs`` or where the assignment says.

    Raises OSError where the results cannot be written.
    """
    import torch

    from harness.datasets.parts.store import open_stored
    from harness.measurement.lease import MachineLease
    from harness.run import run
    from harness.training.state import Checkpoints
    lease, before = MachineLease(), torch.get_num_threads()
    if runs is None:                                   # a partner works while the first process is alone
        lease.join()
    torch.set_num_threads(assignment.threads)
    try:
        checkpoints = Checkpoints(assignment.checkpoints, assignment.run_id, assignment.checkpoint_every_s,
                                  say=lambda line: listener(stage="note", error=line))
        return run(assignment.spec, open_stored(assignment.cache, assignment.data), runs or assignment.runs,
                   assignment.cache,
                   code=assignment.code, progress=listener, checkpoints=checkpoints, lease=lease,
                   loader_workers=assignment.loader_workers, prepares=assignment.prepares)
    finally:
        torch.set_num_threads(before)
        lease.leave()


@contextmanager
def partners(run: Assignment, gpus: Sequence[int]) -> Iterator[None]:
    """Have the other processes that share the run's batches, until it has ended."""
    if run.processes == 1:
        yield
        return
    from harness.training.parallel import free_port, meet
    port, context = free_port(), process_context(run.spec.suite)
    others = [context.Process(target=partner_main, args=(run.model_dump_json(), tuple(gpus), rank, port))
              for rank in range(1, run.processes)]
    for other in others:
        other.start()
    meet(0, run.processes, port)
    try:
        yield
    finally:
        for other in others:
            other.terminate()
            other.join()


def partner_main(assignment: str, gpus: Sequence[int], rank: int, port: int) -> None:
    """Take part in the training of a run that another process makes and writes down."""
    settle_in(gpus)
    from harness.training.parallel import meet
    run = Assignment.model_validate_json(assignment)
    meet(rank, run.processes, port)
    with tempfile.TemporaryDirectory() as elsewhere:
        make(run, lambda **event: None, runs=Path(elsewhere))


def end_with_parent() -> None:
    """Wait until the process that started this one is gone; then end this one, and those that it started."""
    wait([multiprocessing.parent_process().sentinel])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def end(child) -> None:
    """End a child and the processes that it started, and wait for it."""
    if child.pid is None:                              # not started yet: whoever starts it looks
        return
    try:
        os.killpg(child.pid, signal.SIGTERM)
    except (AttributeError, OSError):                  # it has not made a group yet, or there are none
        child.terminate()
    child.join()


def events(connection: Connection, sentinel: int) -> Iterator[dict]:
    """What the child reports, until it is gone."""
    while True:
        ready = wait([connection, sentinel])
        if connection in ready:
            try:
                yield connection.recv()
            except EOFError:
                return
        elif sentinel in ready:
            return


def oom_kills() -> int:
    """Count how often this machine's kernel has killed a process for memory (Linux; 0 elsewhere)."""
    try:
        fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(fields.get("oom_kill", 0))


def exit_status(exitcode: int, by_oom_killer: bool) -> tuple[str, str]:
    """Give status and reason of a child that ended without a record."""
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        if by_oom_killer:
            return "oom", f"the process was killed ({name}) by the system, which was out of memory"
        return "failed", f"the process was killed by {name}"
    return "failed", f"the process ended with exit code {exitcode} before its record was written"


def gpu_count() -> int:
    """Count the CUDA devices."""
    import torch
    return torch.cuda.device_count()
