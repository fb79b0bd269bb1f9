"""Where runs happen: one after the other, each in a fresh process (or in this one, for debugging)."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pathlib import Path

from harness.dataset import Dataset
from harness.errors import InputError
from harness.record import Record, capture_environment, read_record, whole_or_nothing, write_record
from harness.sources import code_fingerprint
from harness.spec import RunSpec

# A run that ended in one of these says the same again; the others may have been the machine's fault.
FINAL = ("ok", "diverged")

Listener = Callable[..., None]      # listener(spec, **event)


def execute(plan: list[RunSpec], data: Dataset, out: Path, *, fresh_process: bool = True,
            listener: Listener = lambda spec, **event: None) -> list[Record]:
    """Make every run of ``plan`` that is not finished yet under ``out/runs``; the records of all, in order.

    ``listener`` hears what is running: ``stage`` ("start", "training", "sampling", ..., "kept", "done"). A run
    whose record is there but cannot be read is neither made again nor among the records: stage "left alone".
    Raises InputError where ``out`` cannot be written.
    """
    runs, cache = prepare(out)
    records = []
    for spec in plan:
        code = code_fingerprint(spec.variant, spec.suite)
        run_id = spec.run_id(code=code, data=data.fingerprint)
        try:
            record = finished(runs / run_id)
        except ValueError as error:
            listener(spec, stage="left alone", error=f"{error}; move or delete {runs / run_id} to run it again")
            continue
        if record is not None:
            listener(spec, stage="kept", record=record)
        else:
            listener(spec, stage="start")
            make = in_fresh_process if fresh_process else in_this_process
            record = make(spec, code, data, runs, cache, listener)
            listener(spec, stage="done", record=record)
        records.append(record)
    return records


def prepare(out: Path) -> tuple[Path, Path]:
    """The folders ``runs`` and ``cache`` in ``out``, made and proved writable; leftovers of dead runs removed."""
    runs, cache = out / "runs", out / "cache"
    try:
        for folder in (runs, cache):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise InputError(f"the results folder {out} cannot be written: {error.strerror}") from None
    for leftover in runs.glob(f".unfinished-*-{socket.gethostname()}-*"):
        if not alive(int(leftover.name.rpartition("-")[2])):
            shutil.rmtree(leftover, ignore_errors=True)
    return runs, cache


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def finished(folder: Path) -> Record | None:
    """The record of a run that need not be made again. Raises ValueError where it is there but corrupt."""
    if not folder.exists():
        return None
    record = read_record(folder)
    return record if record.status in FINAL else None


def in_this_process(spec: RunSpec, code: str, data: Dataset, runs: Path, cache: Path,
                    listener: Listener) -> Record:
    from harness.run import run
    return run(spec, data, runs, cache, code=code, progress=lambda **event: listener(spec, **event))


def in_fresh_process(spec: RunSpec, code: str, data: Dataset, runs: Path, cache: Path,
                     listener: Listener) -> Record:
    """Make the run in a child that has done nothing before; a child that dies becomes a row, too."""
    run_id = spec.run_id(code=code, data=data.fingerprint)
    context = process_context(spec.suite)
    ours, theirs = context.Pipe(duplex=False)
    before, started = oom_kills(), datetime.now(UTC)
    child = context.Process(target=child_main, args=(spec, code, data, runs, cache, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        for event in events(ours, child.sentinel):
            listener(spec, **event)
        child.join()
    finally:
        if child.is_alive():                           # interrupted: nothing of the run is kept
            child.terminate()
            child.join()
        for leftover in runs.glob(f".unfinished-{run_id}-*-{child.pid}"):
            shutil.rmtree(leftover, ignore_errors=True)
    if child.exitcode == 0:
        return read_record(runs / run_id)

    status, error = death(child.exitcode, oom_kills() > before)
    record = Record(run_id=run_id, spec=spec.portable(), status=status, error=error,
                    started=started.isoformat(timespec="seconds"),
                    duration_s=(datetime.now(UTC) - started).total_seconds(), code=code,
                    env=capture_environment(spec.device), data=data.describe())
    with whole_or_nothing(runs, run_id) as folder:
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


def child_main(spec: RunSpec, code: str, data: Dataset, runs: Path, cache: Path, events_to: Connection) -> None:
    from harness.device import keep_freed_memory
    from harness.run import run
    signal.signal(signal.SIGINT, signal.SIG_IGN)       # Ctrl-C is the parent's to handle
    keep_freed_memory()
    run(spec, data, runs, cache, code=code, progress=lambda **event: events_to.send(event))


def events(connection: Connection, sentinel: int):
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
    """How often this machine's kernel has killed a process for memory (Linux; 0 elsewhere)."""
    try:
        fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(fields.get("oom_kill", 0))


def death(exitcode: int, by_oom_killer: bool) -> tuple[str, str]:
    """Status and reason of a child that ended without a record."""
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        if by_oom_killer:
            return "oom", f"the process was killed ({name}) by the system, which was out of memory"
        return "failed", f"the process was killed by {name}"
    return "failed", f"the process ended with exit code {exitcode} before its record was written"
