"""RunSpec -> Record: the only place that joins variant, suite, data and metrics."""

from __future__ import annotations

import csv
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import save_model

from harness.dataset import Dataset
from harness.errors import DiskFull, InputError, is_disk_full, one_line
from harness.identity import networks
from harness.measurement import costs
from harness.measurement.lease import MachineLease
from harness.record import FINAL, Record, atomic_directory, capture_environment, write_record
from harness.spec import RunSpec
from harness.suites import Job, Outcome, registry
from harness.training.compilation import compilation
from harness.training.state import Checkpoints
from harness.training.train import Diverged, Runtime, make_accelerator

CURVE_COLUMNS = ("step", "seconds", "name", "value")
CASE_COLUMNS = ("case", "metric", "class", "value")


def run(spec: RunSpec, data: Dataset, runs: Path, cache: Path, *, code: str,
        progress: Callable[..., None] = lambda **event: None, checkpoints: Checkpoints | None = None,
        lease: MachineLease | None = None, loader_workers: int = 0, prepares: bool = False) -> Record:
    """Make one run and leave its folder ``runs/<run_id>``; whatever goes wrong in it becomes its status.

    ``code`` is the fingerprint of the sources (:func:`harness.identity.sources.code_fingerprint`). What was trained is
    kept in ``checkpoints`` until the record is written; what is timed is timed alone by ``lease``. A run that
    ``prepares`` first makes what runs share, while others train. Raises OSError where ``runs`` cannot be written,
    DiskFull where there is no room, and nothing else.
    """
    run_id = spec.run_id(code=code, data=data.fingerprint)
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    lease = lease or MachineLease()

    def runtime() -> Runtime:
        accelerator = make_accelerator(spec.device, spec.train.precision)
        return Runtime(accelerator, progress, lease, checkpoints, loader_workers)

    with room_on_disk(runs), atomic_directory(runs, run_id) as folder:
        outcome, status, error = Outcome(model=None), "ok", None
        try:
            with networks.contained():
                outcome = work(spec, data, folder, cache, outcome, runtime, prepares)
                save_weights(folder, outcome.model)
        except Exception as problem:                   # a run that fails is a row, not the end of the others
            if is_disk_full(problem):                  # but there is no room for rows
                raise
            status, error = classify(problem)
            (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        record = Record(
            run_id=run_id, spec=spec.portable(), status=status, error=error, started=started,
            duration_s=round(time.perf_counter() - clock, 3), code=code, env=capture_environment(spec.device),
            data={**data.describe(), **outcome.data}, cost=outcome.cost,
            metrics=outcome.metrics if status == "ok" else {},
            pictures=outcome.pictures if status == "ok" else {})
        write_files(folder, outcome)
        write_record(folder, record)
    if checkpoints is not None and status in FINAL:
        checkpoints.clear()
    return record


@contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """Raise DiskFull for whatever says that the disk is full."""
    try:
        yield
    except Exception as problem:
        if not is_disk_full(problem):
            raise
        raise DiskFull(folder) from problem


def work(spec: RunSpec, data: Dataset, folder: Path, cache: Path, outcome: Outcome,
         make_runtime: Callable[[], Runtime], prepares: bool = False) -> Outcome:
    """Build, count, train and evaluate. ``outcome`` receives the cost at once, so that it survives a failure."""
    suite = registry.load(spec.suite)
    settings = suite.Settings(**spec.settings)
    if spec.evaluate_on_test and hasattr(suite, "data_facts"):
        outcome.data = suite.data_facts(data, settings)
    runtime = make_runtime()
    device = runtime.accelerator.device
    arguments = {**suite.network_arguments(data, settings), **spec.options}
    factory = networks.factory(spec.variant)

    outcome.cost.update(count(factory, arguments, suite.example_inputs(data, settings, 1, "meta")))
    if prepares and hasattr(suite, "prepare"):
        suite.prepare(spec, settings, data, runtime, cache)
    memory = costs.PeakMemory(device)
    torch.manual_seed(spec.seeds.init)
    model = factory(**arguments).to(device, memory_format=torch.channels_last)
    torch.manual_seed(spec.seeds.data)                 # dropout draws from here, alike in every arm
    with compilation(cache) if spec.train.compile else nullcontext():
        done = suite.run(Job(spec=spec, settings=settings, data=data, model=model, runtime=runtime, memory=memory,
                             folder=folder, cache=cache))
    done.cost, done.data = {**outcome.cost, **done.cost}, outcome.data
    return done


def count(factory: Callable, arguments: dict, inputs: tuple) -> dict:
    """Parameters and MACs, counted on the meta device; checks the output's shape on the way.

    Raises ValueError for a network that breaks the contract in ``variants``.
    """
    with torch.device("meta"):
        model = networks.require_module(factory(**arguments))
    with torch.no_grad():
        out = model.eval()(*inputs)
    expected = (len(inputs[0]), arguments["out_channels"], *inputs[0].shape[2:])
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != expected:
        shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(f"the network must return a tensor of shape {expected}, not {shape}")
    return {"parameters": costs.count_parameters(model), **costs.count_macs(model, *inputs)}


def classify(problem: Exception) -> tuple[str, str]:
    """Status and one-line reason of what was raised."""
    text = one_line(problem)
    if isinstance(problem, InputError):
        return "failed", text
    if isinstance(problem, Diverged):
        return "diverged", text
    # PyTorch's CPU allocator says it in words only.
    if isinstance(problem, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        return "oom", f"out of memory: {text[:200]}"
    return "failed", f"{type(problem).__name__}: {text}"


def write_files(folder: Path, outcome: Outcome) -> None:
    """curves.csv and cases.csv, where there is something to write."""
    if outcome.curves:
        with open(folder / "curves.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(CURVE_COLUMNS)
            writer.writerows(outcome.curves)
    if outcome.cases:
        with open(folder / "cases.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, CASE_COLUMNS)
            writer.writeheader()
            writer.writerows(outcome.cases)


def save_weights(folder: Path, model: torch.nn.Module | None) -> None:
    """model.safetensors. Raises whatever other people's network does in ``state_dict``."""
    if model is not None:
        save_model(model.to(memory_format=torch.contiguous_format), str(folder / "model.safetensors"))
