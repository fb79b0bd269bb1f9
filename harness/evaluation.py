"""Evaluation without training: predictions that any tool has written, and a run's own weights again.

Predictions become a record for each tool, over the cases that all of them have, with the metrics, the per-case values
and the report of the segmentation suite.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model

from harness.dataset import Dataset, Split, item_digest
from harness.datasets.parts.predictions import prediction_files, read_prediction
from harness.errors import InputError
from harness.identity import building
from harness.identity.sources import code_fingerprint
from harness.measurement import costs
from harness.measurement.lease import MachineLease
from harness.measurement.processor import most_threads
from harness.metrics.masks import MaskScores
from harness.record import Metric, Record, atomic_directory, capture_environment, write_record
from harness.run import write_files
from harness.spec import DataSpec, RunSpec, TrainSpec, digest
from harness.suites import Job, Outcome, registry
from harness.suites.segmentation import draw
from harness.training.train import Runtime, make_accelerator

PICTURES = 6            # cases that are drawn
PORTION = 32            # cases that a process scores at a time; the store is opened once for each


def evaluate_predictions(data: Dataset, spec: DataSpec, folders: Mapping[str, Path], out: Path, *, split: str = "test",
                         reopen: Callable[[], Dataset] | None = None) -> list[Record]:
    """Score the predictions in ``folders`` (tool -> folder) on a split of ``data``, a record for each tool.

    Cases are those of which every tool has a prediction; how many each lacks stands in the records. ``reopen`` opens
    the data in another process; without it, all is done in this one. Raises InputError where they have no case in
    common, and for a prediction that does not fit.
    """
    part: Split = getattr(data, split)
    files = {name: prediction_files(folder, part.names) for name, folder in folders.items()}
    cases = [i for i, case in enumerate(part.names) if all(case in found for found in files.values())]
    if not cases:
        lacking = next((name for name, found in files.items() if not found), None)
        where = f"{folders[lacking]} has no prediction of a" if lacking else "the tools have no prediction of the same"
        raise InputError(f"{where} {split} image of {data.name}; their names are e.g. {', '.join(part.names[:3])}")
    facts = {"split": split, "cases": len(cases), "of": len(part),
             "missing": {name: len(part) - len(found) for name, found in files.items() if len(found) < len(part)}}
    records = []
    for name, found in files.items():
        began, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
        chosen = [(i, found[part.names[i]]) for i in cases]
        scores = score(data, split, chosen, reopen)
        run_spec = RunSpec(suite="segmentation", variant=name, data=spec, train=TrainSpec())
        code = digest([scored_by(), [item_digest(np.fromfile(path, np.uint8)).hex() for _, path in chosen]])
        outcome = Outcome(model=None, metrics=scores.metrics(), cases=scores.cases())
        with atomic_directory(out / "runs", run_spec.run_id(code=code, data=data.fingerprint)) as folder:
            drawn = [(np.asarray(part.images[i]), np.asarray(part.masks[i]), ids(data, part, i, path))
                     for i, path in chosen[:PICTURES]]
            pictures = draw(folder, drawn, scores.names, data.ignore)
            record = Record(
                run_id=run_spec.run_id(code=code, data=data.fingerprint), spec=run_spec.portable(), status="ok",
                started=started, duration_s=round(time.perf_counter() - began, 3), code=code,
                env=capture_environment("cpu"), metrics=outcome.metrics, pictures=pictures,
                data={**data.describe(), **left_out_of(data), "evaluated": facts})
            write_files(folder, outcome)
            write_record(folder, record)
        records.append(record)
    return records


def left_out_of(data: Dataset) -> dict[str, str]:
    """Return the fact which class means over classes leave out."""
    return {} if data.background is None else {"left_out_of_means": data.class_names[data.background]}


def scored_by() -> str:
    """Return the fingerprint of the code that scores masks."""
    return code_fingerprint("plain", "segmentation")


def ids(data: Dataset, part: Split, i: int, path: Path) -> np.ndarray:
    return read_prediction(path, part.masks[i].shape, len(data.class_names))


def score(data: Dataset, split: str, chosen: list[tuple[int, Path]],
          reopen: Callable[[], Dataset] | None = None) -> MaskScores:
    """Score (index, file) of a split's predictions, by as many processes as there are cores and portions."""
    portions = [chosen[start:start + PORTION] for start in range(0, len(chosen), PORTION)]
    workers = min(most_threads(), len(portions))
    if reopen is None or workers < 2:
        return score_portion(lambda: data, split, chosen)
    scores = MaskScores(data.class_names, data.background, data.ignore)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for portion in pool.map(score_portion, [reopen] * len(portions), [split] * len(portions), portions):
            scores.extend(portion)
    return scores


def score_portion(opened: Callable[[], Dataset], split: str, chosen: list[tuple[int, Path]]) -> MaskScores:
    """Score (index, file) of a split's predictions in this process. Raises InputError naming a file that is bad."""
    data = opened()
    part, scores = getattr(data, split), MaskScores(data.class_names, data.background, data.ignore)
    for i, path in chosen:
        scores.add(part.names[i], ids(data, part, i, path), np.asarray(part.masks[i]))
    return scores


def evaluate_run(record: Record, data: Dataset, weights: Path, cache: Path, folder: Path,
                 variant: str | None = None) -> dict[str, Metric]:
    """Evaluate a run's weights again on the test split of ``data``; return its metrics.

    ``folder`` receives pictures and predictions. ``variant`` is the network where the record does not say where its
    file lies. Raises InputError for other data than the run's, and what the network raises.
    """
    spec = record.spec if variant is None else record.spec.model_copy(update={"variant": variant})
    if record.data.get("fingerprint") != data.fingerprint:
        raise InputError(f"the data are not those of the run: their content is {data.fingerprint}, not "
                         f"{record.data.get('fingerprint')}")
    suite = registry.load(spec.suite)
    if not hasattr(suite, "evaluate"):
        raise InputError(f"the {spec.suite} suite trains nothing, so there are no weights to evaluate")
    settings = suite.Settings(**spec.settings)
    runtime = Runtime(make_accelerator(spec.device, spec.train.precision), lambda **event: None, MachineLease())
    device = runtime.accelerator.device
    arguments = {**suite.network_arguments(data, settings), **spec.options}
    model = building.build(spec.variant, suite.example_inputs(data, settings, 1, "meta"), **arguments)
    try:
        load_model(model, str(weights))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{weights} does not fit {spec.variant}: {str(error).splitlines()[0]}") from None
    model = model.to(device, memory_format=torch.channels_last).eval()
    outcome = Outcome(model=model)
    suite.evaluate(Job(spec=spec, settings=settings, data=data, model=model, runtime=runtime,
                       memory=costs.PeakMemory(device), folder=folder, cache=cache), outcome)
    return outcome.metrics
