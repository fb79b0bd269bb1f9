"""What a benchmark leaves: ``benchmark.json``, one versioned file. No torch import."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from harness.errors import InputError
from harness.spec import Frozen
from harness.stats.median import median_ratio

SCHEMA = 1
FILE = "benchmark.json"
Kind = Literal["speedup", "overhead", "share"]


class Contestant(Frozen):
    """One that was timed, and every time."""

    label: str                                     # "diffusers, bf16 autocast"
    seconds: list[float]                           # of one call, round by round
    first_s: float | None = None                   # of the first call, which allocates, chooses kernels and compiles
    parameters: int | None = None
    macs: int | None = None                        # of one image through the network, forward
    images: int | None = None                      # per call
    flops: int | None = None                       # per call; a training step counts as three forward passes

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


class Comparison(Frozen):
    """A number made of the rounds' ratios, with its interval.

    ``speedup``: how many times as fast ``subject`` is as ``other``. ``overhead``: the share by which ``subject``
    takes longer. ``share``: the part of ``other`` that ``subject`` is.
    """

    kind: Kind
    subject: str                                   # names of contestants
    other: str
    value: float
    low: float | None                              # None where there is no interval
    high: float | None
    n: int                                         # rounds
    method: str                                    # of the interval
    per_mac: bool = False                          # are the times divided by the networks' MACs first?
    goal: float | None = None                      # at least, for a speedup; at most, for the others

    @property
    def verdict(self) -> str:
        """"met" or "missed"; "open" where the interval holds values on both sides of the goal; "" without a goal."""
        if self.goal is None:
            return ""
        ends = [self.value] if self.low is None or self.high is None else [self.low, self.high]
        met = {end >= self.goal if self.kind == "speedup" else end <= self.goal for end in ends}
        return "open" if len(met) == 2 else "met" if met.pop() else "missed"


class Check(Frozen):
    """Did the contestants compute the same? ``value`` must be at most ``limit``."""

    what: str
    value: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.value <= self.limit


class Trial(Frozen):
    """One thing that was timed: a training step, say."""

    name: str
    contestants: dict[str, Contestant]
    comparisons: list[Comparison]
    calls_per_turn: int = 1


class Contest(Frozen):
    """One file of this folder, run."""

    name: str
    setting: str                                   # networks, sizes and batch, in a sentence or two
    trials: list[Trial] = Field(default_factory=list)
    checks: list[Check] = Field(default_factory=list)
    absent: list[str] = Field(default_factory=list)  # libraries that are not installed, each with what to do
    error: str | None = None                       # one line, where the contest did not end


class Benchmark(Frozen):
    """Everything that ``benchmark.json`` holds."""

    schema_version: int = Field(SCHEMA, alias="schema")
    started: str                                   # UTC, ISO 8601
    duration_s: float
    device: str
    precision: str                                 # ours
    compiled: bool = False                         # were compiled networks timed, too?
    env: dict[str, Any]                            # harness.record.capture_environment, and the peers' versions
    contests: list[Contest]

    model_config = Frozen.model_config | {"populate_by_name": True}


def compared(kind: Kind, subject: str, other: str, contestants: dict[str, Contestant], *, per_mac: bool = False,
             goal: float | None = None) -> Comparison:
    """The rounds' ratios of two contestants -> their median and its interval (:mod:`harness.stats.median`)."""
    a, b = (_times(contestants[name], per_mac) for name in (subject, other))
    found = median_ratio(b, a) if kind == "speedup" else median_ratio(a, b)
    value, low, high = ((x - 1 if kind == "overhead" else x) for x in (found.value, found.low, found.high))
    return Comparison(kind=kind, subject=subject, other=other, value=value, low=_or_none(low), high=_or_none(high),
                      n=found.n, method=found.method, per_mac=per_mac, goal=goal)


def _times(contestant: Contestant, per_mac: bool) -> Sequence[float]:
    return [s / contestant.macs for s in contestant.seconds] if per_mac else contestant.seconds


def _or_none(x: float) -> float | None:
    return x if math.isfinite(x) else None


def write(folder: Path, benchmark: Benchmark) -> None:
    """Write ``benchmark.json`` into ``folder``."""
    (folder / FILE).write_text(benchmark.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Benchmark:
    """What :func:`write` wrote. Raises InputError, naming the file and what is wrong with it."""
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise InputError(f"{path} is not a benchmark of schema {SCHEMA}, the one that this version reads; "
                             "run the benchmark again")
        return Benchmark.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
