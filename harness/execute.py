"""A plan -> its records: what is finished is kept, what another command makes is waited for, the rest is made."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.dataset import Dataset
from harness.errors import DiskFull, InputError, is_disk_full
from harness.execution import LOCAL, Assignment, Execution
from harness.executors import registry
from harness.identity.sources import code_fingerprint
from harness.record import FINAL, Record, alive, read_record
from harness.spec import RunSpec

LOOK_AGAIN_S = 0.5                                 # between two looks at runs that another command makes
CACHE = "UNET_BENCH_CACHE"                         # names a folder that takes the place of OUT/cache

Listener = Callable[..., None]                     # listener(spec, **event)


@dataclass
class Place:
    """One run of the plan, and how far it is."""

    index: int
    assignment: Assignment
    claim: FileLock                                # held by the command that makes the run
    waits: bool = False                            # for another command

    @property
    def folder(self) -> Path:
        return self.assignment.runs / self.assignment.run_id


def execute(plan: list[RunSpec], data: Dataset, out: Path, *, how: Execution = LOCAL,
            listener: Listener = lambda spec, **event: None) -> list[Record]:
    """Make every run of ``plan`` that is not finished yet under ``out/runs``; return the records of all, in order.

    ``listener`` hears what is running: ``stage`` ("start", "training", "sampling", ..., "kept", "done"). A run whose
    record is there but cannot be read is neither made again nor among the records: stage "left alone". Several
    commands on one ``out`` share the work. Raises InputError where ``out`` cannot be written or its disk is full.
    """
    from harness.datasets.parts.store import keep
    runs, cache = prepare(out)
    data = keep(data, cache)
    begun, one_at_a_time = datetime.now(UTC).timestamp(), threading.Lock()
    module = registry.load(how.executor.partition(":")[0])
    executor = module.Executor(how, runs=len(plan), device=plan[0].device if plan else "cpu")

    def tell(spec: RunSpec, **event: Any) -> None:
        with one_at_a_time:                        # runs side by side report from threads of their own
            listener(spec, **event)

    def place(index: int, spec: RunSpec) -> Place:
        assignment = Assignment(spec=spec, code=code_fingerprint(spec.variant, spec.suite), data=data.fingerprint,
                                out=out, cache=cache, threads=executor.threads,
                                checkpoint_every_s=how.checkpoint_every_s, processes=how.processes)
        return Place(index, assignment, FileLock(claims / f"{assignment.run_id}.lock", thread_local=False))

    claims = out / ".claims"
    claims.mkdir(exist_ok=True)
    waiting = [place(index, spec) for index, spec in enumerate(plan)]
    running: dict[Future, Place] = {}
    records: dict[int, Record] = {}
    cancel = True
    try:
        while waiting or running:
            for one in list(waiting):
                if len(running) >= executor.jobs:
                    break
                if settled(one, begun, records, tell):
                    waiting.remove(one)
                elif claimed(one, tell):
                    waiting.remove(one)
                    if settled(one, begun, records, tell):     # by the command that had the claim until now
                        one.claim.release()
                    else:
                        begin(one, executor, running, tell)
            if waiting and not running:
                time.sleep(LOOK_AGAIN_S)
                continue
            room = len(running) < executor.jobs    # but another command has what waits
            done, _ = wait(running, timeout=LOOK_AGAIN_S if waiting and room else None, return_when=FIRST_COMPLETED)
            for future in done:
                one = running.pop(future)
                one.claim.release()
                records[one.index] = future.result()
                tell(one.assignment.spec, stage="done", record=records[one.index])
        cancel = False
    except OSError as error:
        raise InputError(str(DiskFull(out) if is_disk_full(error) else error)) from error
    finally:
        executor.close(cancel=cancel)
        for one in running.values():
            one.claim.release()
    return [records[index] for index in sorted(records)]


def settled(one: Place, begun: float, records: dict[int, Record], tell: Listener) -> bool:
    """Take the run's record where it need not be made: it is final, or another command made it meanwhile.

    One that is there but corrupt is left alone.
    """
    spec, path = one.assignment.spec, one.folder / "record.json"
    if not one.folder.exists():
        return False
    try:
        record = read_record(one.folder)
        if record.status not in FINAL and path.stat().st_mtime < begun:
            return False
    except FileNotFoundError:                      # replaced at this moment
        return False
    except ValueError as error:
        tell(spec, stage="left alone", error=f"{error}; move or delete {one.folder} to run it again")
        return True
    records[one.index] = record
    shutil.rmtree(one.assignment.checkpoints, ignore_errors=True)
    tell(spec, stage="kept", record=record)
    return True


def claimed(one: Place, tell: Listener) -> bool:
    """Claim the run for this command; False while another one has it."""
    try:
        one.claim.acquire(blocking=False)
    except Timeout:
        if not one.waits:
            tell(one.assignment.spec, stage="made elsewhere")
        one.waits = True
        return False
    return True


def begin(one: Place, executor: Any, running: dict[Future, Place], tell: Listener) -> None:
    spec = one.assignment.spec
    tell(spec, stage="start")
    try:
        assignment = one.assignment.model_copy(update={"prepares": bool(running)})
        running[executor.submit(assignment, lambda **event: tell(spec, **event))] = one
    except BaseException:
        one.claim.release()
        raise


def prepare(out: Path) -> tuple[Path, Path]:
    """Make the folders of runs and cache, prove them writable, and remove the leftovers of dead runs.

    The cache is ``out/cache``, or where the environment's UNET_BENCH_CACHE says. Raises InputError.
    """
    runs, cache = out / "runs", cache_folder(out)
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


def cache_folder(out: Path) -> Path:
    """Find where data, trained extractors and kernels are kept between runs."""
    return Path(os.environ.get(CACHE) or out / "cache")


def finished(folder: Path) -> Record | None:
    """Read the record of a run that need not be made again. Raises ValueError where it is there but corrupt."""
    if not folder.exists():
        return None
    record = read_record(folder)
    return record if record.status in FINAL else None
