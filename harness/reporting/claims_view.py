"""``python bench.py claims``: every claim with what the results here say about it. No torch, but for claims of cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.ablation.manifest import FILE, Manifest, read_manifest
from harness.analysis.claims import (
    FAMILY,
    Claim,
    Verdict,
    claim_names,
    evaluate_claim,
    is_relevant,
    read_claim,
    scaling_verdict,
    unevaluated,
)
from harness.analysis.scaling import TABLE, Scaling, scaling_of
from harness.analysis.study_analysis import analyse
from harness.analysis.study_result import PartResult
from harness.errors import InputError
from harness.run_files import Run, read_runs

WHERE = ("results/*", "results/local/*")
STYLES = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}


@dataclass(frozen=True)
class StudyFolder:
    """A folder with a study that was run."""

    out: Path
    manifest: Manifest

    @cached_property
    def runs(self) -> list[Run]:
        return runs_of(self.out)

    @cached_property
    def results(self) -> tuple[PartResult, ...]:
        return analyse(self.manifest, self.runs)

    @cached_property
    def newest(self) -> str:
        """When its last run started."""
        return max((run.record.started for run in self.runs), default="")

    def is_relevant(self, claim: Claim) -> bool:
        return is_relevant(claim, self.manifest)

    def evaluate(self, claim: Claim) -> Verdict:
        try:
            return evaluate_claim(claim, self.manifest, self.results, self.out)
        except InputError as error:                # its runs were measured in ways that cannot be compared
            return unevaluated(claim, f"{self.out}: {error}")


@dataclass(frozen=True)
class EfficiencyFolder:
    """A folder with runs of the efficiency suite."""

    out: Path
    scaling: Scaling
    newest: str                                    # when its last run started

    def is_relevant(self, claim: Claim) -> bool:
        return claim.about_scaling

    def evaluate(self, claim: Claim) -> Verdict:
        return scaling_verdict(claim, self.scaling, self.out)


def find_results(folders: Sequence[Path]) -> tuple[list[StudyFolder | EfficiencyFolder], list[str]]:
    """The studies and efficiency runs in ``folders`` (none = those of WHERE), and a line for what cannot be read.

    Raises InputError for a folder that was given and holds neither.
    """
    found, problems = [], []
    for out in folders or sorted({path.parent for where in WHERE for name in (FILE, TABLE)
                                  for path in Path().glob(f"{where}/{name}")}):
        try:
            manifest = read_manifest(out)
        except InputError as error:
            if folders:
                raise
            problems.append(str(error))
            continue
        measured = find_measured(out) if manifest is None or (out / TABLE).exists() else None
        if manifest is None and measured is None and folders:
            raise InputError(f"{out} holds no study (expected {out / FILE}, which python bench.py ablate writes) and "
                             "no efficiency runs")
        found += [StudyFolder(out, manifest)] if manifest is not None else []
        found += [measured] if measured is not None else []
    return found, problems


def find_measured(out: Path) -> EfficiencyFolder | None:
    """The efficiency runs in the folder ``out``; None where there are none."""
    runs = runs_of(out)
    scaling = scaling_of(runs)
    return scaling and EfficiencyFolder(out, scaling, max(run.record.started for run in runs))


def runs_of(out: Path) -> list[Run]:
    """Read the runs of a folder; none where it has none."""
    try:
        return read_runs(out)[0]
    except InputError:
        return []


def verdict_on(claim: Claim, results: Sequence[StudyFolder | EfficiencyFolder]) -> tuple[Verdict, list[Verdict]]:
    """The verdict of the results with most seeds, the newest among equals; and those of the others."""
    found = [(one, one.evaluate(claim)) for one in results if one.is_relevant(claim)]
    if not found:
        return unevaluated(claim), []
    found.sort(key=lambda pair: (pair[1].n, pair[0].newest), reverse=True)
    return found[0][1], [verdict for _, verdict in found[1:]]


def show(names: Sequence[str], folders: Sequence[Path], *, as_json: bool = False, verbose: bool = False) -> None:
    """Print the claims ``names`` (none = all shipped). Raises InputError for an unknown claim or a broken file."""
    claims = [read_claim(name) for name in dict.fromkeys(names) or claim_names()]
    claims = claims if names else sorted(claims, key=lambda claim: (claim.file.number or 99, claim.name))
    results, problems = find_results(folders)
    verdicts = [verdict_on(claim, results) for claim in claims]
    if as_json:
        print(json.dumps([{**asdict(verdict), "sentence": verdict.sentence} for verdict, _ in verdicts], indent=1))
        return
    console = Console()
    console.print(table([verdict for verdict, _ in verdicts]))
    for verdict, others in verdicts if verbose or names else ():
        console.print(paragraph(verdict, others))
    for problem in problems:
        console.print(Text(f"left out: {problem}", style="red"))
    counts = [f"{sum(verdict.verdict == word for verdict, _ in verdicts)} {word}" for word in STYLES]
    console.print(Text(f"{', '.join(counts)}. {FAMILY}"))


def table(verdicts: Sequence[Verdict]) -> Table:
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("claim", "verdict", "n", "why, or the numbers"):
        grid.add_column(title, overflow="fold", justify="right" if title == "n" else "left",
                        no_wrap=title in ("claim", "verdict"))
    for verdict in verdicts:
        told = verdict.why if verdict.verdict == "inconclusive" else verdict.numbers
        name = Text(verdict.claim) + Text(f" ({verdict.number})" if verdict.number else "", style="dim")
        grid.add_row(name, Text(verdict.verdict, style=STYLES[verdict.verdict]), str(verdict.n or "-"), Text(told))
    return grid


def paragraph(verdict: Verdict, others: Sequence[Verdict]) -> Text:
    """Statement, verdict, source; and what other results say."""
    text = Text(f"\n{verdict.claim}: {verdict.statement}\n", style="bold")
    text.append(f"{verdict.sentence}\n", style="not bold")
    text.append(f"Source: {verdict.source}", style="not bold")
    for other in others:
        text.append(f"\nAlso: {other.verdict}, n = {other.n}, {other.link}", style="not bold")
    return text
