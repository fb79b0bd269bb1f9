"""A study's folder -> what a report says of it: the parts' answers, tables and runs, claims, certificate.

The records of a study's arms are shown in its parts, where budgets and settings may differ between arms because
the study varies them; every other record goes into ordinary comparisons. No torch import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.ablation.manifest import Manifest, Part
from harness.analysis.certificate import Statement, certificate
from harness.analysis.claims import Verdict, read_claim, verdicts_for
from harness.analysis.comparison import Arm, Column, Group, Run, data_name, require_one_protocol
from harness.analysis.study_analysis import PartResult, analyse
from harness.analysis.study_runs import by_arm, collect, treated
from harness.errors import InputError
from harness.record import Metric
from harness.reporting.grid import Grid
from harness.reporting.study_tables import arms_grid, effects_grid, raw_grid, secondary_grid, speed_grid
from harness.spec import digest
from harness.stats.intervals import mean_interval

EQUAL = {"none": "", "params": "equal parameters", "macs": "equal MACs", "latency": "equal step time"}


@dataclass(frozen=True)
class StudyColumn(Column):
    """A column whose protocol differs between arms in entries that the study varies, and in no other."""

    fingerprints: frozenset[str] = frozenset()

    def of(self, run: Run) -> Metric | None:
        found = getattr(run.record, self.kind).get(self.key)
        return found if found is not None and found.fingerprint in self.fingerprints else None


@dataclass(frozen=True)
class StudyPart:
    """One part. ``result`` is None where it could not be analysed; ``problem`` says why."""

    part: Part
    title: str
    ident: str                                     # of its section in a page
    group: Group | None                            # its runs; None where there are none
    result: PartResult | None
    problem: str = ""

    @property
    def answer(self) -> str:
        return self.result.answer if self.result else f"{self.title}: {self.problem}"


@dataclass(frozen=True)
class StudyView:
    """A study as a report shows it. ``others`` are the runs that belong to none of its arms."""

    manifest: Manifest
    parts: tuple[StudyPart, ...]
    statements: tuple[Statement, ...]
    claims: tuple[Verdict, ...]
    others: tuple[Run, ...]
    problems: tuple[str, ...] = ()

    @property
    def groups(self) -> list[Group]:
        return [part.group for part in self.parts if part.group is not None]


def view_study(out: Path, manifest: Manifest, runs: Sequence[Run]) -> StudyView:
    """Analyse each part by itself: one that is refused (numbers measured in several ways) leaves the others."""
    keyed = by_arm(runs)
    parts = []
    for part, group in zip(manifest.parts, study_groups(manifest, keyed), strict=True):
        mine = [run for key in dict.fromkeys(arm.key for arm in part.arms) for run in keyed.get(key, ())]
        result, problem = None, "no run of it is here yet" if group is None else ""
        if group is not None:
            try:
                (result,) = analyse(manifest.model_copy(update={"parts": (part,)}), mine)
            except InputError as error:
                problem = str(error)
        title = group.title if group else _title(part, None)
        parts.append(StudyPart(part, title, f"part-{_ident(manifest, part)}", group, result, problem))
    results = [part.result for part in parts if part.result is not None]
    known = {arm.key for part in manifest.parts for arm in part.arms}
    others = tuple(run for key, found in keyed.items() if key not in known for run in found)
    statements = tuple(certificate(manifest, results)) if results else ()
    try:
        claims, problems = tuple(verdicts_for(out, manifest, results)), ()
    except InputError as error:                    # a broken claim takes no report of measured runs with it
        claims, problems = (), (f"claims not judged: {error}",)
    return StudyView(manifest, tuple(parts), statements, claims, others, problems)


def study_groups(manifest: Manifest, keyed: Mapping[str, list[Run]]) -> list[Group | None]:
    """For each part its runs as one comparison, the base first; None where there are none.

    ``keyed`` as from :func:`harness.analysis.study_runs.by_arm`.
    """
    groups = []
    for part in manifest.parts:
        collected = collect(part, keyed, manifest.seeds).arms
        arms = []
        for planned in part.arms:
            kept = list(collected[planned.name].values())
            ids = {id(run) for run in kept}
            arms.append(Arm(planned.name, kept, [run for run in keyed.get(planned.key, ()) if id(run) not in ids]))
        arms = [arm for arm in arms if arm.runs]
        groups.append(_group(manifest, part, arms) if arms else None)
    return groups


def _group(manifest: Manifest, part: Part, arms: list[Arm]) -> Group:
    columns = _columns(part, arms)
    intervals = {(arm.label, column): mean_interval(arm.values(column)) for arm in arms for column in columns}
    return Group(_ident(manifest, part), _title(part, arms[0].runs[0]), arms, columns, intervals, [])


def _ident(manifest: Manifest, part: Part) -> str:
    return digest([manifest.name, part.title])[:8]


def _title(part: Part, run: Run | None) -> str:
    where = f"{part.suite.capitalize()} on {data_name(run.record)}" if run else part.suite.capitalize()
    return ", ".join(filter(None, [where, EQUAL[part.matching]]))


def _columns(part: Part, arms: Sequence[Arm]) -> list[Column]:
    """Outcome first, the study's other metrics next, then the rest as the records have them."""
    found: dict[tuple[str, str], dict[str, Metric]] = {}
    for kind in ("metrics", "cost"):
        for run in (run for arm in arms for run in arm.finished):
            for key, metric in getattr(run.record, kind).items():
                found.setdefault((kind, key), {}).setdefault(metric.fingerprint, metric)
    wanted = [part.outcome, *part.also]
    order = sorted(found, key=lambda at: (at[0] != "metrics", wanted.index(at[1]) if at[1] in wanted else len(wanted)))
    return [column for kind, key in order for column in _of_metric(part, kind, key, found[kind, key])]


def _of_metric(part: Part, kind: str, key: str, metrics: dict[str, Metric]) -> list[Column]:
    first, allowed = next(iter(metrics.values())), treated(part, metrics.values())
    try:
        require_one_protocol(metrics, allowed)
    except InputError:                             # several columns, as in any other comparison
        return [Column(kind, key, fingerprint, metric, f"[{i}]", "measured under another protocol")
                for i, (fingerprint, metric) in enumerate(metrics.items(), 1)]
    note = f"differs between arms in what the study varies ({', '.join(sorted(allowed))})" if len(metrics) > 1 else ""
    return [StudyColumn(kind, key, first.fingerprint, first, "", note, frozenset(metrics))]


def part_grids(view: StudyView, part: StudyPart, colours: Mapping[str, str]) -> dict[str, Grid | None]:
    """The part's tables: "arms", "effects", "speed", "secondary", "raw"; None where there is nothing to show."""
    result, group = part.result, part.group
    if result is None or group is None:
        return dict.fromkeys(("arms", "effects", "speed", "secondary", "raw"))
    return {"arms": arms_grid(result, group, colours),
            "effects": effects_grid(result), "speed": speed_grid(result),
            "secondary": secondary_grid(result), "raw": raw_grid(result, group)}


def commands(view: StudyView) -> list[tuple[str, str]]:
    """(what it does, command line): how to get each number of the report again."""
    command = view.manifest.command
    return [("all runs and this report; what is finished is not run again", command),
            ("one number: remove its run (the raw numbers name it) and repeat the command; only that run is made",
             f"rm -r DIR/runs/RUN && {command}"),
            ("this report from the records", "python bench.py report DIR"),
            ("check: every number here, computed again from records and cases", "python bench.py verify DIR")]


def claim_facts(claim: Verdict) -> list[tuple[str, str]]:
    """What a verdict rests on, and what it does not reach."""
    facts = {"why": claim.why, "numbers": claim.numbers, "asked": claim.asked, "measured on": claim.measured,
             "scale": claim.scale, "source": claim.source}
    return [(name, text) for name, text in facts.items() if text]


def smallest_that_matters(view: StudyView) -> dict[str, float]:
    """Part's ident -> the least difference in its outcome that a claim on it asks for, in the metric's unit."""
    found: dict[str, list[float]] = {}
    for claim in (read_claim(verdict.claim) for verdict in view.claims):
        test = claim.test
        for part in view.parts:
            about = claim.file.suite == part.part.suite and claim.file.matching in ("", part.part.matching)
            if part.result is None or not about or getattr(test, "kind", "") not in ("ratio", "difference"):
                continue
            if test.metric in ("", part.part.outcome):
                mean = {arm.arm.name: arm.interval.mean for arm in part.result.arms}.get(test.reference, math.nan)
                least = abs(test.at_least if test.kind == "difference" else test.at_least / 100 * mean)
                found.setdefault(part.ident, []).extend([least] if least > 0 else [])
    return {ident: min(values) for ident, values in found.items() if values}
