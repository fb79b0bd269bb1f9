"""What is running, at which step, with which loss, how long it will take. Quiet when not on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.record import Record
from harness.spec import RunSpec


class Display:
    """A listener for :func:`harness.execute.execute`: one bar for all runs, one for the run in hand.

    Off a terminal it prints one line per finished run instead.
    """

    def __init__(self, console: Console, total: int):
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            console=console, disable=not console.is_terminal, transient=True)
        self.all = self.bars.add_task("all runs", total=total, note="")
        self.one = self.bars.add_task("", total=None, note="", visible=False)

    def __enter__(self) -> Display:
        self.bars.start()
        return self

    def __exit__(self, *exception) -> None:
        self.bars.stop()

    def __call__(self, spec: RunSpec, *, stage: str, step: int = 0, total: int | None = None,
                 loss: float | None = None, record: Record | None = None, error: str | None = None,
                 name: str | None = None) -> None:
        name = f"{name or spec.variant}, seed {spec.seeds.init}"
        if stage in ("done", "kept"):
            self.bars.advance(self.all)
            self.bars.update(self.one, visible=False)
            self.console.print(summary(name, record, kept=stage == "kept"), highlight=False, markup=False)
        elif stage == "left alone":
            self.bars.advance(self.all)
            self.console.print(f"{name}: {error}", highlight=False, markup=False)
        elif stage == "start":
            self.bars.reset(self.one, description=f"{name}: starting", total=None, note="", visible=True)
        else:
            note = "" if loss is None else f"loss {loss:.4f}"
            self.bars.update(self.one, description=f"{name}: {stage}", completed=step, total=total, note=note)


def summary(name: str, record: Record, *, kept: bool) -> str:
    """One line for a run that has ended."""
    if record.status != "ok":
        return f"{name}: {record.status}: {record.error}"
    when = "kept from an earlier call" if kept else f"{record.duration_s:.0f} s"
    if not record.metrics:                         # a trial for tuning is not judged
        return f"{name}: trained ({when})"
    headline = next(iter(record.metrics.values()))
    value = f"{headline.value:.4g} {headline.unit}".rstrip()
    return f"{name}: {headline.label} {value} ({when})"
