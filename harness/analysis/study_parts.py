"""A study's folder -> its parts, each a comparison with its result; its claims; its certificate; other runs. No torch.

The records of a study's arms belong to its parts, where budgets and settings may differ between arms because the
study varies them; every other record goes into ordinary comparisons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.ablation.manifest import Manifest, Part, PlannedArm
from harness.analysis.certificate import Statement, certificate
from harness.analysis.claims import Verdict, read_claim, verdicts_for
from harness.analysis.comparison import Arm, Column, Group, data_name, group_runs, require_one_protocol
from harness.analysis.study_analysis import analyse
from harness.analysis.study_result import PartResult
from harness.analysis.study_runs import by_arm, collect, treated
from harness.errors import InputError
from harness.formatting import DASH
from harness.record import Metric
from harness.run_files import Run
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
    def conclusion(self) -> str:
        return self.result.conclusion if self.result else f"{self.title}: {self.problem}"


@dataclass(frozen=True)
class StudyFindings:
    """What is known of a study. ``others`` are the runs that belong to none of its arms."""

    manifest: Manifest
    parts: tuple[StudyPart, ...]
    statements: tuple[Statement, ...]
    claims: tuple[Verdict, ...]
    others: tuple[Run, ...]
    problems: tuple[str, ...] = ()

    @property
    def groups(self) -> list[Group]:
        return [part.group for part in self.parts if part.group is not None]


def study_findings(out: Path, manifest: Manifest, runs: Sequence[Run]) -> StudyFindings:
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
        claims, problems = (), (f"claims not evaluated: {error}",)
    return StudyFindings(manifest, tuple(parts), statements, claims, others, problems)


def study_and_groups(out: Path, manifest: Manifest | None,
                     runs: Sequence[Run]) -> tuple[StudyFindings | None, list[Group]]:
    """The study of a results folder, None without ``manifest``, and the comparisons of the runs that are not its."""
    study = study_findings(out, manifest, runs) if manifest else None
    return study, group_runs(list(study.others) if study else runs)


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


def change_words(arm: PlannedArm) -> str:
    """What the arm changes in the base, as the study's file says it."""
    words = [f"{key.removeprefix('options.')} = {_plain(value)}" for key, value in arm.difference.items()]
    return ", ".join(words) or DASH


def made_equal(arm: PlannedArm) -> str:
    """What was set for the arm so that the comparison is fair: its matched size, its tuned learning rate."""
    words = []
    if arm.match is not None and arm.match.options:
        words.append("matched: " + ", ".join(f"{key} = {_plain(value)}" for key, value in arm.match.options.items()))
    if arm.tuning is not None:
        words.append(f"tuned: learning rate {arm.tuning.learning_rate:.2g}")
    return "; ".join(words)


def _plain(value) -> str:
    if value is None:
        return "default"
    return value if isinstance(value, str) else json.dumps(value)


def smallest_that_matters(study: StudyFindings) -> dict[str, float]:
    """Part's ident -> the least difference in its outcome that a claim on it asks for, in the metric's unit."""
    found: dict[str, list[float]] = {}
    for claim in (read_claim(verdict.claim) for verdict in study.claims):
        test = claim.test
        for part in study.parts:
            about = claim.file.suite == part.part.suite and claim.file.matching in ("", part.part.matching)
            if part.result is None or not about or getattr(test, "kind", "") not in ("ratio", "difference"):
                continue
            if test.metric in ("", part.part.outcome):
                mean = {arm.arm.name: arm.interval.mean for arm in part.result.arms}.get(test.reference, math.nan)
                least = abs(test.at_least if test.kind == "difference" else test.at_least / 100 * mean)
                found.setdefault(part.ident, []).extend([least] if least > 0 else [])
    return {ident: min(values) for ident, values in found.items() if values}
