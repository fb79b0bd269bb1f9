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
from harness.identity import building, networks
from harness.measurement import costs
from harness.measurement.lease import MachineLease
from harness.record import FINAL, Metric, Record, atomic_directory, capture_environment, write_record
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
            metrics=outcome.metrics if status == "ok" else {}, assumed=tuple(outcome.assumed),
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
    inputs = suite.example_inputs(data, settings, 1, "meta")
    network = building.adaptation(spec.variant, arguments, inputs)
    counted, uncounted = count(network.build, arguments["out_channels"], inputs)
    outcome.cost.update(counted)
    outcome.assumed = [*network.assumed, *uncounted]
    if prepares and hasattr(suite, "prepare"):
        suite.prepare(spec, settings, data, runtime, cache)
    memory = costs.PeakMemory(device)
    torch.manual_seed(spec.seeds.init)
    model = network.build().to(device, memory_format=torch.channels_last)
    torch.manual_seed(spec.seeds.data)                 # dropout draws from here, alike in every arm
    with compilation(cache) if spec.train.compile else nullcontext():
        done = suite.run(Job(spec=spec, settings=settings, data=data, model=model, runtime=runtime, memory=memory,
                             folder=folder, cache=cache))
    done.cost, done.data, done.assumed = {**outcome.cost, **done.cost}, outcome.data, outcome.assumed
    return done


def count(build: Callable, out_channels: int, inputs: tuple) -> tuple[dict[str, Metric], list[str]]:
    """Count parameters and MACs; say, in a line, why MACs could not be counted, where they could not.

    On the meta device, where nothing is computed; a network that computes with values is counted on the CPU, on an
    image of zeros. ``inputs`` are on the meta device. Raises ValueError for a network that breaks the contract in
    ``variants``.
    """
    try:
        with torch.device("meta"):
            model = networks.require_module(build()).to("meta").eval()
            check_output(model, out_channels, inputs)
        return {"parameters": costs.count_parameters(model), **costs.count_macs(model, *inputs)}, []
    except Exception:                              # of the contract, or of values that are not there
        model = networks.require_module(build()).eval()
    inputs = tuple(x if x is None else torch.zeros_like(x, device="cpu") for x in inputs)
    check_output(model, out_channels, inputs)
    found = {"parameters": costs.count_parameters(model)}
    try:
        return {**found, **costs.count_macs(model, *inputs)}, []
    except Exception as problem:                   # the counter's own trouble is none of the network's
        return {**found, **costs.uncounted_macs(*inputs)}, [f"MACs could not be counted: {one_line(problem)}"]


def check_output(model: torch.nn.Module, out_channels: int, inputs: tuple) -> None:
    """Raise ValueError where ``model`` does not return a tensor (N, out_channels, H, W)."""
    with torch.no_grad():
        out = model(*inputs)
    expected = (len(inputs[0]), out_channels, *inputs[0].shape[2:])
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != expected:
        shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(f"the network must return a tensor of shape {expected}, not {shape}")


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
