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
from harness.analysis.arm_change import ArmChange, ArmPair, Seed, with_verdicts
from harness.analysis.comparison import data_name, differences, group_runs
from harness.errors import InputError
from harness.run_files import Run, read_runs
from harness.spec import Seeds

Families = list[tuple[str, list[ArmPair]]]         # title, arms


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


def read_set(path: Path) -> ResultSet:
    return ResultSet(path, *read_runs(path), read_manifest(path))


def compare_sets(a: ResultSet, b: ResultSet, min_effect: float = 0.0) -> Comparison:
    """What moved from ``a`` to ``b``. ``min_effect``: a headline that moved by less is not called better or worse.

    Raises InputError where the sets have no arm in common, saying what differs, and where an arm's numbers
    were measured in different ways.
    """
    families, unmatched = [], []
    for title, pairs in pair_arms(a, b):
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


def pair_arms(a: ResultSet, b: ResultSet) -> Families:
    """Find which runs of either set are of which arm.

    The arms that either set's study names are one family per suite and data content, with their names; runs of no
    study are one per comparison.
    """
    planned: dict[str, tuple[str, ArmPair]] = {}   # arm key -> suite, its arm without runs
    for manifest in (a.manifest, b.manifest):
        for part in manifest.parts if manifest else ():
            for arm in part.arms:
                matched = f" (equal {part.matching})" if part.matching != "none" and arm.match else ""
                planned.setdefault(arm.key, (part.suite, ArmPair(arm.name + matched, part.outcome)))
    contents: dict[str, str] = {}                  # comparison -> its data, for runs that ended before they read any
    for run in (*a.runs, *b.runs):
        if "fingerprint" in run.record.data:
            contents.setdefault(run.record.spec.group_id(), run.record.data["fingerprint"])
    studies: dict[str, dict[tuple, ArmPair]] = defaultdict(dict)
    rest: dict[str, list[Run]] = {"a": [], "b": []}
    for side, runs in (("a", a.runs), ("b", b.runs)):
        for run in runs:
            spec, key = run.record.spec, arm_key(run.record.spec) if planned else ""
            if key not in planned:
                rest[side].append(run)
                continue
            suite, arm = planned[key]
            content = run.record.data.get("fingerprint") or contents.get(spec.group_id(), "")
            pair = studies[f"{suite.capitalize()} on {data_name(run.record)}"].setdefault(
                (key, content), ArmPair(arm.label, arm.outcome))
            getattr(pair, side)[_seed(run)] = run
    return [*((title, list(pairs.values())) for title, pairs in studies.items()), *_comparisons(rest["a"], rest["b"])]


def _comparisons(a: list[Run], b: list[Run]) -> Families:
    ours, families = {id(run) for run in a}, []
    for group in group_runs([*a, *b]):
        pairs = []
        for arm in group.arms:
            pair = ArmPair(arm.label)
            for run in sorted((*arm.runs, *arm.superseded), key=lambda run: run.record.started):
                (pair.a if id(run) in ours else pair.b)[_seed(run)] = run
            pairs.append(pair)
        families.append((group.title, pairs))
    return families


def _seed(run: Run) -> Seed:
    return tuple(run.record.spec.seeds.model_dump().values())


def _alone(pairs: list[ArmPair]) -> list[str]:
    """A line for each arm that one set has; for two of one name, what differs between them."""
    lines, by_label = [], defaultdict(list)
    for pair in pairs:
        by_label[pair.label].append(pair)
    for label, its in by_label.items():
        sides = ["A" if pair.a else "B" for pair in its]
        if len(its) == 1:
            lines.append(f"{label}: only in {sides[0]}")
            continue
        firsts = [next(iter((pair.a or pair.b).values())).record for pair in its]
        notes = differences([{**one.spec.model_copy(update={"seeds": Seeds()}).complete(),
                              "data content": one.data.get("fingerprint")} for one in firsts])
        lines.append(f"{label}: not compared, since it differs: " + " / ".join(
            f"{side}: {note}" for side, note in zip(sides, notes, strict=True)))
    return lines


def _compare(pairs: list[ArmPair], min_effect: float) -> list[ArmChange]:
    """Every arm of one family, and the verdicts, which depend on how many were tested."""
    headlines, others = {}, {}
    for i, pair in enumerate(pairs):
        for key, change in pair.changes().items():
            (headlines if key == pair.headline else others)[i, key] = change
    headlines, others = with_verdicts(headlines, min_effect), with_verdicts(others)
    return [ArmChange(pair.label, headlines.get((i, pair.headline)),
                      [change for (at, _), change in others.items() if at == i],
                      pair.exact_costs(), pair.cost_ratios(), *pair.runs_moved()) for i, pair in enumerate(pairs)]
