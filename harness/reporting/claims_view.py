"""``python bench.py claims``: every claim with what the results here say about it. No torch, but for claims of cost."""

from __future__ import annotations

import json
from collections import Counter
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
class ResultsFolder:
    """A folder with a study that was run, runs of the efficiency suite, or both."""

    out: Path
    manifest: Manifest | None = None

    @cached_property
    def runs(self) -> list[Run]:
        """None of a folder that holds none."""
        try:
            return read_runs(self.out)[0]
        except InputError:
            return []

    @cached_property
    def results(self) -> tuple[PartResult, ...]:
        return analyse(self.manifest, self.runs)

    @cached_property
    def scaling(self) -> Scaling | None:
        """Of a study's folder, only where a report has found some: most have none, and are slow to read."""
        return scaling_of(self.runs) if self.manifest is None or (self.out / TABLE).exists() else None

    @property
    def newest(self) -> str:
        """When its last run started."""
        return max((run.record.started for run in self.runs), default="")

    def evaluate(self, claim: Claim) -> Verdict | None:
        """None where the folder has nothing to say about it."""
        if claim.about_scaling and self.scaling:
            return scaling_verdict(claim, self.scaling, self.out)
        if self.manifest is None or not is_relevant(claim, self.manifest):
            return None
        try:
            return evaluate_claim(claim, self.manifest, self.results, self.out)
        except InputError as error:                # its runs were measured in ways that cannot be compared
            return unevaluated(claim, f"{self.out}: {error}")


def find_results(folders: Sequence[Path]) -> tuple[list[ResultsFolder], list[str]]:
    """The studies and efficiency runs in ``folders`` (none = those of WHERE), and a line for what cannot be read.

    Raises InputError for a folder that was given and holds neither.
    """
    found, problems = [], []
    for out in folders or sorted({path.parent for where in WHERE for name in (FILE, TABLE)
                                  for path in Path().glob(f"{where}/{name}")}):
        try:
            folder = ResultsFolder(out, read_manifest(out))
        except InputError as error:
            if folders:
                raise
            problems.append(str(error))
            continue
        if folders and folder.manifest is None and folder.scaling is None:
            raise InputError(f"{out} holds no study (expected {out / FILE}, which python bench.py ablate writes) and "
                             "no efficiency runs")
        found.append(folder)
    return found, problems


def verdicts_on(claim: Claim, results: Sequence[ResultsFolder]) -> list[Verdict]:
    """All verdicts on a claim, that of the results with most seeds first, of the newest among equals."""
    found = [(verdict.n, folder.newest, verdict) for folder in results if (verdict := folder.evaluate(claim))]
    return [verdict for *_, verdict in sorted(found, key=lambda one: one[:2], reverse=True)] or [unevaluated(claim)]


def show(names: Sequence[str], folders: Sequence[Path], *, as_json: bool = False, verbose: bool = False) -> None:
    """Print the claims ``names`` (none = all shipped). Raises InputError for an unknown claim or a broken file."""
    claims = [read_claim(name) for name in dict.fromkeys(names) or claim_names()]
    claims = claims if names else sorted(claims, key=lambda claim: (claim.file.number or 99, claim.name))
    results, problems = find_results(folders)
    found = [verdicts_on(claim, results) for claim in claims]
    verdicts = [verdict for verdict, *_ in found]
    if as_json:
        print(json.dumps([{**asdict(verdict), "sentence": verdict.sentence} for verdict in verdicts], indent=1))
        return
    console = Console()
    console.print(table(verdicts))
    for verdict, *others in found if verbose or names else ():
        console.print(paragraph(verdict, others))
    for problem in problems:
        console.print(Text(f"left out: {problem}", style="red"))
    counts = Counter(verdict.verdict for verdict in verdicts)
    console.print(Text(f"{', '.join(f'{counts[word]} {word}' for word in STYLES)}. {FAMILY}"))


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
