"""Two results folders -> what moved between them beyond noise: ``python bench.py compare A B``. No torch import.

Two runs are of one arm where their specs differ in nothing but seeds and their data have the same content. An arm
that both sets have is compared seed by seed where they share seeds: exact sign-flip test, Holm over the arms for
the headline, and over arms and metrics for the others; where they share none, Welch's t test. Parameters and MACs
must be equal. Times and memory come from two sessions, so they are shown as ratios and decide nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from harness.ablation.manifest import Manifest, arm_key, read_manifest
from harness.analysis.arm_change import ArmChange, changes_of, cost_ratios, exact_costs, runs_moved, with_verdicts
from harness.analysis.comparison import data_name, differences, group_runs
from harness.errors import InputError
from harness.record import Record
from harness.run_files import Run, read_runs
from harness.spec import Seeds


@dataclass(frozen=True)
class ResultSet:
    """One results folder."""

    path: Path
    runs: list[Run]
    problems: list[str]                            # records that could not be read, one line each
    manifest: Manifest | None                      # of a study


@dataclass(frozen=True)
class FamilyChange:
    """The arms of one comparison, or of one suite of a study, that both sets have."""

    title: str
    arms: list[ArmChange]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    a: Path
    b: Path
    families: list[FamilyChange]
    unmatched: list[str]                           # what only one set has, one line each
    problems: list[str]

    @property
    def worse(self) -> list[str]:
        return [words for family in self.families for arm in family.arms for words in arm.worse]


@dataclass
class Pair:
    """One arm before it is compared: its latest run of each seed in either set."""

    label: str
    a: dict[tuple, Run]                            # (init, data, sampling) -> run
    b: dict[tuple, Run]
    headline: str = ""                             # metric key; "" = the first metric of its runs


def read_set(path: Path) -> ResultSet:
    return ResultSet(path, *read_runs(path), read_manifest(path))


def compare_sets(a: ResultSet, b: ResultSet, min_effect: float = 0.0) -> Comparison:
    """What moved from ``a`` to ``b``. ``min_effect``: a headline that moved by less is not called better or worse.

    Raises InputError where the sets have no arm in common, saying what differs, and where an arm's numbers
    were measured in different ways.
    """
    families, unmatched = [], []
    for title, pairs in (*_studies(a, b), *_groups(a, b)):
        both = [pair for pair in pairs if pair.a and pair.b]
        alone = _alone([pair for pair in pairs if not (pair.a and pair.b)])
        if both:
            families.append(FamilyChange(title, _compare(both, min_effect), alone))
        else:
            sides = {"A" if pair.a else "B" for pair in pairs}
            unmatched += [f"only in {sides.pop()}: {title}"] if len(sides) == 1 else [f"{title}: {'; '.join(alone)}"]
    if not families:
        raise InputError(f"{a.path} and {b.path} have no arm in common: {'; '.join(unmatched[:4])}"
                         + (f" and {len(unmatched) - 4} more" if len(unmatched) > 4 else ""))
    return Comparison(a.path, b.path, families, unmatched, [*a.problems, *b.problems])


def _studies(a: ResultSet, b: ResultSet) -> list[tuple[str, list[Pair]]]:
    """One family per suite and data content: the arms that either set's study names, by their names."""
    planned: dict[str, tuple[str, str, str]] = {}  # arm key -> suite, label, outcome
    for manifest in (a.manifest, b.manifest):
        for part in manifest.parts if manifest else ():
            for arm in part.arms:
                matched = f" (equal {part.matching})" if part.matching != "none" and arm.match else ""
                planned.setdefault(arm.key, (part.suite, arm.name + matched, part.outcome))
    found: dict[str, dict[tuple, Pair]] = defaultdict(dict)
    for side, runs in (("a", a.runs), ("b", b.runs)):
        for run in runs:
            key = arm_key(run.record.spec)
            if key in planned:
                suite, label, outcome = planned[key]
                title = f"{suite.capitalize()} on {data_name(run.record)}"
                arm = (key, run.record.data.get("fingerprint", _content(run, (a, b))))
                pair = found[title].setdefault(arm, Pair(label, {}, {}, outcome))
                getattr(pair, side)[_seeds(run.record)] = run
    return [(title, list(pairs.values())) for title, pairs in found.items()]


def _content(run: Run, sets: tuple[ResultSet, ...]) -> str:
    """The data of a run that ended before it read any: that of another run of its comparison."""
    group = run.record.spec.group_id()
    return next((other.record.data["fingerprint"] for one in sets for other in one.runs
                 if "fingerprint" in other.record.data and other.record.spec.group_id() == group), "")


def _groups(a: ResultSet, b: ResultSet) -> list[tuple[str, list[Pair]]]:
    """One family per comparison, of the runs that belong to no study."""
    planned = {arm.key for manifest in (a.manifest, b.manifest) if manifest
               for part in manifest.parts for arm in part.arms}
    mine, theirs = ([run for run in one.runs if not planned or arm_key(run.record.spec) not in planned]
                    for one in (a, b))
    ours, families = {id(run) for run in mine}, []
    for group in group_runs([*mine, *theirs]):
        pairs = []
        for arm in group.arms:
            pair = Pair(arm.label, {}, {})
            for run in sorted((*arm.runs, *arm.superseded), key=lambda run: run.record.started):
                (pair.a if id(run) in ours else pair.b)[_seeds(run.record)] = run
            pairs.append(pair)
        families.append((group.title, pairs))
    return families


def _seeds(record: Record) -> tuple:
    return tuple(record.spec.seeds.model_dump().values())


def _alone(pairs: list[Pair]) -> list[str]:
    """A line for each arm that one set has; for two of one name, what differs between them."""
    lines, by_label = [], defaultdict(list)
    for pair in pairs:
        by_label[pair.label].append(pair)
    for label, its in by_label.items():
        if len(its) == 1:
            lines.append(f"{label}: only in {'A' if its[0].a else 'B'}")
            continue
        firsts = [next(iter((pair.a or pair.b).values())).record for pair in its]
        notes = differences([{**one.spec.model_copy(update={"seeds": Seeds()}).complete(),
                              "data content": one.data.get("fingerprint")} for one in firsts])
        lines.append(f"{label}: not compared, since it differs: " + " / ".join(
            f"{'A' if pair.a else 'B'}: {note}" for pair, note in zip(its, notes, strict=True)))
    return lines


def _compare(pairs: list[Pair], min_effect: float) -> list[ArmChange]:
    """Every arm of one family, and the verdicts, which depend on how many were tested."""
    found = [(pair, changes_of(pair.a, pair.b)) for pair in pairs]
    headlines = [pair.headline or _first_metric(pair) for pair in pairs]
    tested = with_verdicts([changes[key] for (_, changes), key in zip(found, headlines, strict=True) if key in changes],
                   min_effect)
    others = with_verdicts([change for (_, changes), key in zip(found, headlines, strict=True)
                    for change in changes.values() if change.key != key])
    arms = []
    for (pair, changes), key in zip(found, headlines, strict=True):
        arms.append(ArmChange(
            pair.label, tested.pop(0) if key in changes else None,
            [others.pop(0) for change in changes.values() if change.key != key],
            exact_costs(pair.a, pair.b), cost_ratios(pair.a, pair.b), *runs_moved(pair.a, pair.b, key)))
    return arms


def _first_metric(pair: Pair) -> str:
    return next((key for runs in (pair.a, pair.b) for run in runs.values() for key in run.record.metrics), "")
