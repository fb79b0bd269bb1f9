"""A short stand-in for a run, to say how long it will take (:mod:`harness.ablation.estimate`). No torch import.

A *probe* makes the real run with a budget of :data:`PROBE_STEPS` steps and :data:`PROBE_SAMPLING` sampling steps,
in a folder that is thrown away; its parts are scaled to the real budget. All else is done in full.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.dataset import Dataset
from harness.record import Record
from harness.spec import RunSpec

PROBE_STEPS = 20             # two looks of the training loop: the second ten steps are timed, warm
PROBE_SAMPLING = 3           # of num_inference_steps, the fewest that every sampler can take


@dataclass(frozen=True)
class Probe:
    """What a probe of an arm says about its real run. Times in seconds."""

    run: float
    trial: float
    macs: float
    overhead: float                                # of the process, outside the run


class OutOfTime(Exception):
    """The probes have used up their time."""


class Prober:
    """Makes probes in ``folder``. ``found`` keeps them with their specs; ``once`` what they paid for all runs."""

    def __init__(self, folder: Path, data: Mapping[str, Dataset], execute, clock, deadline: float, cache: Path):
        self.folder, self.data, self.execute, self.clock, self.deadline = folder, data, execute, clock, deadline
        self.found: list[tuple[RunSpec, Probe]] = []
        self.once = 0.0
        (folder / "cache").mkdir()
        for kept in cache.iterdir() if cache.is_dir() else ():
            (folder / "cache" / kept.name).symlink_to(kept.resolve())

    @property
    def overhead(self) -> float:
        """Of a process, in the median; without the first, which waits for the imports."""
        later = [probe.overhead for _, probe in self.found[1:]]
        return statistics.median(later) if later else 0.0

    def probe(self, spec: RunSpec) -> Probe | str:
        """What the arm of ``spec`` will take; or why that is not known."""
        before = self._cached()
        try:
            probe = self._measure(spec)
        except OutOfTime:
            return "no time left to probe it"
        if not isinstance(probe, Probe):
            return probe
        if self._cached() != before:                   # it paid for something that others will find
            probe = self._again(spec, probe)
        self.found.append((spec, probe))
        return probe

    def _again(self, spec: RunSpec, first: Probe) -> Probe:
        """A second probe, whose difference to the first is paid ``once``; the first where there is no time for it."""
        seeds = spec.seeds.model_copy(update={"sampling": spec.seeds.sampling + 1})
        try:
            second = self._measure(spec.model_copy(update={"seeds": seeds}))
        except OutOfTime:
            return first
        if not isinstance(second, Probe):
            return first
        self.once += max(0.0, first.run - second.run)
        return second

    def _cached(self) -> set[str]:
        return {path.name for path in (self.folder / "cache").iterdir()} - {"data"}      # stored before the run begins

    def _measure(self, spec: RunSpec) -> Probe | str:
        tiny, events = probe_spec(spec), []

        def listen(_: RunSpec, *, stage: str, step: int = 0, **rest) -> None:
            events.append((self.clock(), stage, step))
            if self.clock() > self.deadline and stage != "done":
                raise OutOfTime

        if self.clock() > self.deadline:
            raise OutOfTime
        [record] = self.execute([tiny], self.data[spec.suite], self.folder, listener=listen)
        if record.status != "ok":
            return f"its probe ended as {record.status}: {record.error}"
        return scaled(spec, tiny, record, losses(self.folder / "runs" / record.run_id), events)


def probe_spec(spec: RunSpec) -> RunSpec:
    """``spec`` with the budget of a probe; a run that is as short anyway stays as it is."""
    train, settings = spec.train, dict(spec.settings)
    if train.steps > PROBE_STEPS:
        between = 0 < train.validate_every < train.steps
        train = train.model_copy(update={"steps": PROBE_STEPS, "validate_every": PROBE_STEPS // 2 if between else 0})
    if settings.get("num_inference_steps", 0) > PROBE_SAMPLING:
        settings["num_inference_steps"] = PROBE_SAMPLING
    return spec.model_copy(update={"train": train, "settings": settings})


def losses(folder: Path) -> list[tuple[int, float]]:
    """(step, seconds of training so far) of every look at the loss; [] where there are none."""
    try:
        with (folder / "curves.csv").open(newline="", encoding="utf-8") as file:
            return [(int(row["step"]), float(row["seconds"])) for row in csv.DictReader(file) if row["name"] == "loss"]
    except (OSError, KeyError, ValueError):
        return []


def scaled(spec: RunSpec, tiny: RunSpec, record: Record, looks: Sequence[tuple[int, float]],
           events: Sequence[tuple[float, str, int]]) -> Probe:
    """The real run of ``spec`` from its probe ``tiny``: its parts, each times how often it comes.

    ``looks`` are (step, seconds of training), ``events`` (time, stage, step) as they were heard. Training time
    in the curves leaves validation out, the time between two looks does not: the difference is one validation.
    """
    duration, step_s, validation_s = record.duration_s, 0.0, 0.0
    training = [at for at, stage, _ in events if stage == "training"]
    if len(looks) > 1:
        (before, so_far), (last, seconds) = looks[-2:]
        step_s = (seconds - so_far) / (last - before)
        if tiny.train.validate_every and len(training) > 1:
            validation_s = max(0.0, training[-1] - training[-2] - (seconds - so_far))
    after = events[-1][0] - training[-1] if training else 0.0      # the last validation, sampling, evaluation
    more = ((spec.train.steps - tiny.train.steps) * step_s
            + (validations(spec) - validations(tiny)) * validation_s)
    sampling = [i for i, (_, stage, _) in enumerate(events) if stage == "sampling"]
    sampling_s = events[sampling[-1] + 1][0] - events[sampling[0]][0] if sampling else 0.0
    ratio = spec.settings.get("num_inference_steps", 1) / tiny.settings.get("num_inference_steps", 1)
    return Probe(run=duration + more + sampling_s * (ratio - 1), trial=duration - after + validation_s + more,
                 macs=record.cost["macs"].value, overhead=max(0.0, events[-1][0] - events[0][0] - duration))


def validations(spec: RunSpec) -> int:
    """How often a run is validated: as often as it says, and at its end."""
    every, steps = spec.train.validate_every, spec.train.steps
    return 1 + ((steps - 1) // every if every else 0)
