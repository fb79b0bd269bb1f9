"""``bench.py evaluate``: predictions in folders -> records and a report; a run's weights -> its numbers again."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from harness import plan
from harness.errors import InputError
from harness.execute import prepare
from harness.record import read_record
from harness.spec import DataSpec

SUITE = "segmentation"


def parse_predictions(given: Sequence[str]) -> dict[str, Path]:
    """("a=DIR", "b=DIR") -> tool -> folder. Raises InputError for another form, and for a tool given twice."""
    folders: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name.strip() and equals and folder):
            raise InputError(f"--predictions {text}: write it as NAME=DIR")
        if name.strip() in folders:
            raise InputError(f"--predictions: {name.strip()!r} is given twice")
        folders[name.strip()] = Path(folder)
    return folders


def evaluate(predictions: Sequence[str], console: Console, *, data: Path | None, dataset: str | None,
             data_root: Path | None, profile: str, split: str, out: Path | None, local: Path) -> int:
    """Score predictions, write their report into ``out`` or a folder in ``local``, print it; return the exit code.

    Raises InputError for names, folders and predictions that do not fit.
    """
    from harness.analysis.cases import cases_table, read_cases
    from harness.evaluation import evaluate_predictions
    from harness.reporting.report import write_report
    from harness.reporting.table_files import print_table
    folders = parse_predictions(predictions)
    request = plan.Request(suite=SUITE, dataset=dataset, data=data, data_root=data_root, profile=profile)
    plan.check_names(request)
    spec = plan.data_spec(request, plan.read_profile(profile, SUITE))
    if out is None:
        name = Path(spec.root).resolve().name if spec.name == "folder" else spec.name
        out = local / f"evaluation-{name}"
    found = plan.load_data(spec, SUITE, out / "cache")
    prepare(out)
    console.print(f"predictions of {', '.join(folders)} on the {split} images of {found.name}, results in {out}",
                  highlight=False, markup=False)
    evaluate_predictions(found, spec, folders, out, split=split,
                         reopen=partial(plan.load_data, spec, SUITE, out / "cache"))
    report = write_report(out)
    report.print_to(console)
    for cases in filter(None, map(read_cases, report.groups)):
        table = cases_table(cases)
        print_table(console, table)
        for note in table.notes:
            console.print(note, markup=False, highlight=False)
    return 2 if report.problems else 0


def evaluate_again(folder: Path, data: Path | None, data_root: Path | None, variant: str | None,
                   console: Console) -> int:
    """Evaluate the weights in a run's folder and print its numbers beside the record's; 1 where one differs.

    Raises InputError where the folder holds no run with weights, or the data are not the run's.
    """
    from harness.evaluation import evaluate_run
    weights = folder / "model.safetensors"
    try:
        record = read_record(folder)
    except ValueError as error:
        raise InputError(str(error)) from None
    if not weights.is_file():
        raise InputError(f"{folder} holds no weights (model.safetensors)")
    root = data if data is not None else data_root
    spec = record.spec.data
    if spec.root is not None and root is None:
        raise InputError(f"the run's data lay in a folder {spec.root!r}: say where by "
                         f"{'--data' if spec.name == 'folder' else '--data-root'}")
    spec = DataSpec(name=spec.name, root=None if root is None else str(root), options=spec.options)
    cache = folder.parent.parent / "cache"
    found = plan.load_data(spec, record.spec.suite, cache)
    with tempfile.TemporaryDirectory() as pictures:
        again = evaluate_run(record, found, weights, cache, Path(pictures), variant)
    table = Table("metric", "in the record", "again", "", box=box.SIMPLE_HEAD)
    differences = 0
    for key, metric in record.metrics.items():
        value = again[key].value if key in again else math.nan
        same = value == metric.value or math.isnan(value) and math.isnan(metric.value)
        differences += not same
        if "/" not in key or not same:
            table.add_row(metric.label, repr(metric.value), repr(value), "equal" if same else "differs")
    console.print(table)
    console.print(f"{len(record.metrics)} numbers: {f'{differences} differ' if differences else 'all are equal'}")
    return 1 if differences else 0
