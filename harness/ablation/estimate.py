"""How long a study will take, before it is run: ``ablate --dry-run``. Rough, and says how rough.

What an arm's finished runs took is the best guess for the next one; where there are none, a probe
(:mod:`harness.ablation.probe`) is scaled up. No torch import until MACs are needed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness import execute as execution
from harness.ablation.manifest import arm_key
from harness.ablation.probe import Probe, Prober, losses
from harness.dataset import Dataset
from harness.execute import finished
from harness.identity.sources import code_fingerprint
from harness.record import Record
from harness.spec import RunSpec

# Actual time over estimate, for the range that is printed: that of a probe as it was measured (see `estimate`),
# the others guessed from it.
SPREAD = {"runs": (0.8, 1.5), "probe": (0.7, 2.0), "macs": (0.4, 3.0)}


@dataclass(frozen=True)
class Row:
    """One arm. Seconds are of one run, from the start of its process to its record."""

    suite: str
    arm: str
    runs: int                                      # of the plan
    finished: int                                  # of those, that will not be made again
    seconds: float | None                          # of one run; None = not known
    trial_seconds: float | None                    # of one tuning trial, which is trained and validated only
    kind: str                                      # key of SPREAD: where the seconds come from; "" = not known
    source: str                                    # the same in words
    trials: int = 0

    @property
    def total(self) -> float:
        """Seconds of what is left to run; an arm that is not known counts as 0."""
        return (self.runs - self.finished) * (self.seconds or 0.0) + self.trials * (self.trial_seconds or 0.0)


@dataclass(frozen=True)
class Estimate:
    rows: tuple[Row, ...]
    once: float                                    # seconds for what is kept between runs, such as a feature extractor
    probing: float                                 # seconds that the probes themselves took

    @property
    def total(self) -> float:
        """Seconds, of the rows that are known."""
        return self.once + sum(row.total for row in self.rows)

    @property
    def range(self) -> tuple[float, float]:
        """The total if every row is off in the same direction: a machine that is busy is busy for all."""
        low, high = (self.once + sum(row.total * SPREAD[row.kind][end] for row in self.rows if row.kind)
                     for end in (0, 1))
        return low, high

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(row.arm for row in self.rows if row.seconds is None and row.runs > row.finished)


def estimate(specs: Sequence[RunSpec], data_by_suite: Mapping[str, Dataset], runs: Path, *, trials: int = 0,
             names: Mapping[str, str] | None = None, max_seconds: float = 60.0, execute=execution.execute,
             clock: Callable[[], float] = time.monotonic) -> Estimate:
    """The time that ``specs`` will take here, one after the other, without those finished under ``runs``.

    ``trials`` tuning trials per arm are added; ``names`` says what arms are called, by
    :func:`harness.ablation.manifest.arm_key`, where the variant's name will not do. Probes stop after ``max_seconds``
    (each suite's first arm goes first); arms that were not reached get the mean of those probed in their suite,
    scaled by MACs x steps x batch size. An arm of which nothing is known has no seconds and is named.

    How rough: on two cores that others were using more and more, `quick` runs took 1.4 to 1.8 times what their
    probes had said (segmentation plain 206 s for 147 s, no_skip 204 for 112; generation plain 111 for 69). A probe
    knows how busy the machine is for a minute; the range that is printed is no more than that experience.
    Probes see the test split as their runs will, and their scores are not read.
    """
    codes = {(spec.variant, spec.suite): "" for spec in specs}
    codes = {pair: code_fingerprint(*pair) for pair in codes}
    arms: dict[str, dict[str, RunSpec]] = {}       # key -> run_id -> spec
    for spec in specs:
        run_id = spec.run_id(code=codes[spec.variant, spec.suite], data=data_by_suite[spec.suite].fingerprint)
        arms.setdefault(arm_key(spec), {})[run_id] = spec
    rows, open_arms = {}, {}
    for key, planned in arms.items():
        spec = next(iter(planned.values()))
        done = [_finished(runs / run_id) for run_id in planned]
        row = Row(spec.suite, (names or {}).get(key, spec.variant), len(planned),
                  sum(one is not None for one in done), None, None, "", "", trials)
        rows[key] = _from_runs(row, [one for one in done if isinstance(one, Record) and one.status == "ok"], runs)
        if rows[key].seconds is None and (row.runs > row.finished or trials):
            open_arms[key] = spec

    started = clock()
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        prober = Prober(Path(folder), data_by_suite, execute, clock, started + max_seconds, runs.parent / "cache")
        for key in _alternating(open_arms):
            probe = prober.probe(open_arms[key])
            if isinstance(probe, Probe):
                rows[key] = replace(rows[key], seconds=probe.run, trial_seconds=probe.trial, kind="probe",
                                    source="probe")
            else:
                rows[key] = replace(rows[key], source=probe)
    probing = clock() - started
    for key, spec in open_arms.items():
        if rows[key].seconds is None:
            rows[key] = _from_macs(rows[key], spec, prober.found, data_by_suite)
    overhead = prober.overhead
    rows = [replace(row, seconds=row.seconds + overhead, trial_seconds=row.trial_seconds + overhead)
            if row.seconds is not None else row for row in rows.values()]
    return Estimate(tuple(rows), prober.once, probing)


def _finished(folder: Path) -> Record | str | None:
    """The record of a run that will not be made again; a word where it cannot be read, for it is left alone."""
    try:
        return finished(folder)
    except ValueError:
        return "unreadable"


def _from_runs(row: Row, records: Sequence[Record], runs: Path) -> Row:
    """``row`` with the median of finished runs, where there are any."""
    if not records:
        return row
    trained = [max((seconds for _, seconds in losses(runs / record.run_id)), default=record.duration_s)
               for record in records]
    return replace(row, seconds=statistics.median(record.duration_s for record in records),
                   trial_seconds=statistics.median(trained), kind="runs",
                   source=f"{len(records)} finished run{'s' if len(records) > 1 else ''}")


def _alternating(arms: Mapping[str, RunSpec]) -> list[str]:
    """Keys: the first arm of each suite, the second of each, ..."""
    place, count = {}, {}
    for key, spec in arms.items():
        place[key] = count[spec.suite] = count.get(spec.suite, -1) + 1
    return sorted(arms, key=place.__getitem__)     # stable: suites stay in their order


def _from_macs(row: Row, spec: RunSpec, found: Sequence[tuple[RunSpec, Probe]], data: Mapping[str, Dataset]) -> Row:
    """``row`` from the probes of other arms in its suite, by MACs x steps x batch size."""
    others = [(other, probe) for other, probe in found if other.suite == spec.suite]
    reason = row.source
    if not others:
        return row
    try:
        own = count_macs(spec, data[spec.suite])
    except Exception as error:                     # a network that cannot be built: its runs will say the same
        return replace(row, source=f"{reason}; its MACs cannot be counted: {' '.join(str(error).split())}")
    work = _work(spec, own)
    seconds, trial_seconds = (work * statistics.mean(getattr(probe, name) / _work(other, probe.macs)
                                                     for other, probe in others) for name in ("run", "trial"))
    return replace(row, seconds=seconds, trial_seconds=trial_seconds, kind="macs",
                   source=f"MACs of {len(others)} probed ({reason})")


def _work(spec: RunSpec, macs: float) -> float:
    return macs * spec.train.steps * spec.train.batch_size


def count_macs(spec: RunSpec, data: Dataset) -> float:
    """Of one forward pass of one image. Raises whatever building the network raises."""
    from harness.identity import building
    from harness.run import count
    from harness.suites import registry
    suite = registry.load(spec.suite)
    settings = suite.Settings(**spec.settings)
    arguments = {**suite.network_arguments(data, settings), **spec.options}
    inputs = suite.example_inputs(data, settings, 1, "meta")
    build = partial(building.build, spec.variant, inputs, **arguments)
    return count(build, arguments["out_channels"], inputs)[0]["macs"].value


def show(estimate: Estimate, console: Console) -> None:
    """The estimate as a table, and what it is worth in a line."""
    left = sum(row.runs - row.finished for row in estimate.rows)
    trials = sum(row.trials for row in estimate.rows)
    table = Table("suite", "arm", "runs", "finished", "one run", *(["one trial"] if trials else []), "left", "from",
                  box=None, header_style="bold")
    for row in estimate.rows:
        table.add_row(row.suite, row.arm, str(row.runs), str(row.finished), duration(row.seconds),
                      *([duration(row.trial_seconds)] if trials else []),
                      duration(row.total if row.seconds is not None or not row.total else None), row.source)
    console.print(table)
    low, high = estimate.range
    text = f"{left} runs to make" + (f" and {trials} tuning trials" if trials else "")
    if estimate.total:
        once = f", {duration(estimate.once)} of it once for what runs share" if estimate.once >= 1 else ""
        text += (f": about {duration(estimate.total)} on this machine as busy as it was now, perhaps {duration(low)} "
                 f"to {duration(high)}{once} (probing took {duration(estimate.probing)})")
    if estimate.unknown:
        text += f"; how long is not known of {', '.join(estimate.unknown)}"
    console.print(text, highlight=False, markup=False)


def duration(seconds: float | None) -> str:
    """Two digits of it in words: 4 s, 12 min, 1 h 05 min."""
    if seconds is None:
        return "?"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
