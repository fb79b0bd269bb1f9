"""``bench.py benchmark``: the contests one after the other, each written down as soon as it has ended."""

from __future__ import annotations

import importlib
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.benchmark import CONTESTS
from harness.benchmark.page import show, write_page
from harness.benchmark.result import FILE, Benchmark, Contest, write
from harness.errors import InputError, unknown
from harness.plan import DEVICES, PRECISIONS

PEER_PACKAGES = ("segmentation-models-pytorch", "timm")      # besides those of every record


def chosen(only: str | None) -> list[str]:
    """Contests by name, in their own order. Raises InputError for a name that is none."""
    asked = [name.strip() for name in (only or "").split(",") if name.strip()]
    for name in asked:
        if name not in CONTESTS:
            raise unknown("contest", name, CONTESTS)
    return [name for name in CONTESTS if not asked or name in asked]


def check_names(device: str, precision: str) -> None:
    """Raises InputError for names that no machine has; imports no torch."""
    for kind, name, known in (("device", device, DEVICES), ("precision", precision, PRECISIONS)):
        if name not in known:
            raise unknown(kind, name, known)


def benchmark(only: str | None, *, rounds: int | None, device: str, precision: str, compile: bool, out: Path,
              console: Console) -> int:
    """Run the contests, print and write what they found; the exit code.

    0; 2 where a contest did not end or outputs that should agree differ; 130 where it was interrupted. Raises
    InputError for wrong names, a device or precision that is not to be had, and a folder that cannot be written.
    """
    names = chosen(only)
    check_names(device, precision)
    from harness.benchmark.contest import BenchmarkOptions
    from harness.training.device import check_precision, default_precision, keep_freed_memory, resolve_device
    device = resolve_device(device)
    precision = default_precision(device) if precision == "auto" else precision
    check_precision(device, precision)
    writable(out)
    keep_freed_memory()
    console.print(f"{len(names)} contests on {device}, ours in {precision}, results in {out}", soft_wrap=True)
    asked = BenchmarkOptions(device, precision, rounds, compile, out / "cache")
    started, clock, contests = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter(), []
    for name in names:
        try:
            contests.append(run(name, replace(asked, say=lambda line, name=name: console.print(f"{name}: {line}"))))
        except KeyboardInterrupt:
            console.print(f"interrupted; {len(contests)} of {len(names)} contests have ended" +
                          (f" and are in {out / FILE}" if contests else ""), soft_wrap=True)
            return 130
        show(contests[-1], console)
        found = Benchmark(started=started, duration_s=round(time.perf_counter() - clock, 1), device=device,
                          precision=precision, compiled=compile, env=environment(device), contests=contests)
        write(out, found)
        write_page(out, found)
    bad = [contest for contest in contests if contest.error or not all(check.ok for check in contest.checks)]
    return 2 if bad else 0


def run(name: str, asked: Any) -> Contest:
    """One contest; what it raises becomes its ``error``, so that the others go on."""
    try:
        return importlib.import_module(f"harness.benchmark.{name}").run(asked)
    except InputError:
        raise
    except Exception as problem:
        from harness.run import classify
        status, reason = classify(problem)
        return Contest(name=name, setting=CONTESTS[name], error=f"{status}: {reason}")


def environment(device: str) -> dict[str, Any]:
    """As in every record, with the versions of the peers."""
    from harness.record import capture_environment
    env = capture_environment(device)
    for name in PEER_PACKAGES:
        try:
            env["packages"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return env


def writable(out: Path) -> None:
    """Make the folder. Raises InputError where it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"the results folder {out} cannot be written: {error.strerror}") from None
