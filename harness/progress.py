"""What is running, at which step, with which loss, how long it will take. Quiet when not on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness import suites
from harness.data_notes import warnings
from harness.record import Record
from harness.spec import RunSpec, canonical_json

if TYPE_CHECKING:                                  # displays must not wait for numpy
    from harness.dataset import Dataset


def say_of_data(console: Console, plan: Sequence[RunSpec], data: Dataset) -> None:
    """Print what must be known of ``data`` before the numbers of ``plan`` are read. Imports torch."""
    lines: dict[str, None] = {}
    for spec in {canonical_json(spec.settings): spec for spec in plan}.values():
        suite = suites.registry.load(spec.suite)
        facts = suite.data_facts(data, suite.Settings(**spec.settings)) if hasattr(suite, "data_facts") else {}
        lines |= dict.fromkeys(warnings({**data.describe(), **facts}))
    for line in lines:
        console.print(f"{data.name}: {line}", highlight=False, markup=False)


class Display:
    """A listener for :func:`harness.execute.execute`: one bar for all runs, one for each that is being made.

    Off a terminal it prints one line per finished run instead.
    """

    def __init__(self, console: Console, total: int):
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            console=console, disable=not console.is_terminal, transient=True)
        self.all = self.bars.add_task("all runs", total=total, note="")
        self.tasks: dict[str, int] = {}            # by spec: the bars of runs that are being made

    def __enter__(self) -> Display:
        self.bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self.bars.stop()

    def __call__(self, spec: RunSpec, *, stage: str, step: int = 0, total: int | None = None,
                 loss: float | None = None, record: Record | None = None, error: str | None = None,
                 name: str | None = None) -> None:
        key, name = spec.model_dump_json(), f"{name or spec.variant}, seed {spec.seeds.init}"
        if stage in ("done", "kept", "left alone"):
            self.bars.advance(self.all)
            if key in self.tasks:
                self.bars.remove_task(self.tasks.pop(key))
            self.say(f"{name}: {error}" if record is None else summary(name, record, kept=stage == "kept"))
        elif stage == "made elsewhere":
            self.say(f"{name}: another command is making it; its record will be waited for")
        elif stage == "note":
            self.say(f"{name}: {error}")
        else:
            note = "" if loss is None else f"loss {loss:.4f}"
            if key not in self.tasks:
                self.tasks[key] = self.bars.add_task("", total=None, note="")
            self.bars.update(self.tasks[key], description=f"{name}: {'starting' if stage == 'start' else stage}",
                             completed=step, total=total, note=note)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.console.print(line, highlight=False, markup=False)


def summary(name: str, record: Record, *, kept: bool) -> str:
    """Describe in one line a run that has ended."""
    if record.status != "ok":
        return f"{name}: {record.status}: {record.error}"
    when = "kept from an earlier call" if kept else f"{record.duration_s:.0f} s"
    if not record.metrics:                         # a trial for tuning is not evaluated on the test split
        return f"{name}: trained ({when})"
    headline = next(iter(record.metrics.values()))
    value = f"{headline.value:.4g} {headline.unit}".rstrip()
    return f"{name}: {headline.label} {value} ({when})"
