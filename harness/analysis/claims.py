"""Statements of the literature, as data: one YAML file each in ``claims/``, with the study and the test that decide it.

A verdict is *supported*, *contradicted* or *inconclusive* with the reason, and holds for the data and the budget
that it was measured on. Claims are tested one by one, each at 5 %. No torch import, but for a claim about cost
when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.ablation.manifest import Manifest, Part
from harness.ablation.study import CLAIMS, read_study
from harness.analysis.claim_cost import Cost
from harness.analysis.claim_scaling import RUN, ScalingClaim
from harness.analysis.claim_tests import KINDS, Evidence
from harness.analysis.claim_verdict import Finding, Missing, Word
from harness.analysis.comparison import Run, data_name
from harness.analysis.scaling import SUITE, Scaling
from harness.analysis.study_result import PartResult
from harness.errors import InputError, unknown
from harness.formatting import listed
from harness.identity import networks
from harness.spec import Frozen
from harness.stats.power import smallest_n
from harness.yaml_file import YamlFile

COSTS = ("parameters", "macs", "flops", "step_ms", "train_images_per_s", "sampling_images_per_s",
         "inference_images_per_s", "peak_memory_bytes")
FAMILY = ("Each claim is tested by itself at 5 %, whatever the number of claims: of twenty false ones, one may look "
          "supported or contradicted by chance. A verdict holds for the data and the budget it was measured on.")


class Needs(Frozen):
    """The least scale at which a run says anything about the claim."""

    steps: int = 100                               # of training; the smoke profile has fewer
    train_images: int = 0


class ClaimFile(Frozen):
    """One claim as its file has it."""

    statement: str
    source: str                                    # paper, with page, table or section
    number: int | None = None                      # of the twelve statements that overviews of U-Nets make
    scale: str                                     # what data and size the source measured, and what is measured here
    study: str = ""
    suite: str = ""
    matching: str = ""                             # of the study's part; "" = its first
    needs: Needs = Needs()
    test: dict[str, Any] = Field(default_factory=dict)       # its kind and that kind's entries (claim_tests.py)
    out_of_reach: str = ""                         # why nothing here can test it


@dataclass(frozen=True)
class Claim:
    name: str
    file: ClaimFile
    test: Any                                      # one of KINDS, Cost or ScalingClaim; None where it is out of reach

    @property
    def exact(self) -> bool:
        return isinstance(self.test, Cost)

    @property
    def about_scaling(self) -> bool:
        """Whether records of the efficiency suite decide it, and no study."""
        return isinstance(self.test, ScalingClaim)


@dataclass(frozen=True)
class Verdict:
    """What is known about one claim."""

    claim: str
    statement: str
    source: str
    verdict: Word
    why: str                                       # always where inconclusive
    numbers: str
    asked: str                                     # the smallest effect that matters, in words
    study: str
    suite: str
    scale: str                                     # the source's and this one's, from the claim's file
    measured: str = ""                             # data and budget of the runs
    n: int = 0                                     # seeds; 0 = not measured, or exact
    link: str = ""                                 # into the report
    number: int | None = None

    @property
    def sentence(self) -> str:
        """The verdict with everything it depends on, in one paragraph."""
        on = f" on {self.measured}" if self.measured else ""
        parts = [f"{self.verdict.capitalize()}{on}{': ' + self.why if self.why else ''}.", f"{self.numbers}."
                 if self.numbers else "", f"Asked: {self.asked}." if self.asked else "", f"Scale: {self.scale}",
                 f"Report: {self.link}" if self.link else ""]
        return " ".join(part for part in parts if part)


def claim_names() -> list[str]:
    return sorted(path.stem for path in CLAIMS.glob("*.yaml"))


def read_claim(name: str) -> Claim:
    """A shipped claim by name, or anyone's by path.

    Raises InputError with file, line and nearest valid name for an unknown claim, entry, kind of test, study,
    suite, arm or metric.
    """
    path = CLAIMS / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif not path.exists():
        raise unknown("claim", name, claim_names())
    file = YamlFile(path)
    claim = file.validate(ClaimFile)
    if bool(claim.test) == bool(claim.out_of_reach):
        raise file.error((), "a claim has either a test, or says by out_of_reach why it has none")
    test = _test(claim, file) if claim.test else None
    if isinstance(test, ScalingClaim):
        for subject, place in test.subjects():
            try:
                networks.check(subject.variant)
            except InputError as error:
                raise file.error(("test", place, "variant"), error) from None
    elif test is not None and not isinstance(test, Cost):
        _check_study(claim, test, file)
    return Claim(path.stem, claim, test)


def _test(claim: ClaimFile, file: YamlFile):
    kinds = {**KINDS, "cost": Cost, "scaling": ScalingClaim}
    kind = claim.test.get("kind", "")
    if kind not in kinds:
        raise file.error(("test", "kind"), unknown("kind of test", str(kind), kinds))
    return file.validate(kinds[kind], claim.test, ("test",))


def _check_study(claim: ClaimFile, test, file: YamlFile) -> None:
    try:
        study, _, designs = read_study(claim.study)
    except InputError as error:
        raise file.error(("study",), error) from None
    if claim.suite not in study.suites:
        raise file.error(("suite",), unknown(f"suite of the study {claim.study!r}:", claim.suite, study.suites))
    if claim.matching and claim.matching not in study.match:
        raise file.error(("matching",), unknown(f"matching of the study {claim.study!r}:", claim.matching, study.match))
    arms = [design.name for design in designs]
    for arm, place in test.arms():
        if arm not in arms:
            raise file.error(("test", *place), unknown(f"arm of the study {claim.study!r}:", arm, arms))
    part = study.suites[claim.suite]
    for metric, place in test.metrics():
        known = (part.outcome, *part.also, *COSTS)
        if metric not in known:
            raise file.error(("test", *place), unknown("metric", metric, known))
    for axis, level in getattr(test, "effect", {}).items():
        known = study.axes.get(axis)
        if known is None:
            raise file.error(("test", "effect", axis), unknown("axis", axis, study.axes))
        if level not in known:
            raise file.error(("test", "effect", axis), unknown(f"level of {axis}", level, known))


def is_relevant(claim: Claim, manifest: Manifest) -> bool:
    """Whether a study that was run can decide the claim."""
    of_study = claim.test is not None and not claim.exact and not claim.about_scaling
    return of_study and (claim.file.study == manifest.name or claim.name in manifest.study.claims)


def verdicts_for(out: Path, manifest: Manifest, results: Sequence[PartResult]) -> list[Verdict]:
    """Verdicts on every shipped claim that the study in the folder ``out`` bears on."""
    found = (read_claim(name) for name in claim_names())
    return [evaluate_claim(claim, manifest, results, out) for claim in found if is_relevant(claim, manifest)]


def evaluate_claim(claim: Claim, manifest: Manifest, results: Sequence[PartResult], out: Path | None = None) -> Verdict:
    """The verdict of one study's results. ``out`` is its folder, for the link into its report."""
    part = next((result for result in results if _is_of(claim, result.part)), None)
    if part is None:
        return unevaluated(claim, f"the study that was run has no part for the suite {claim.file.suite!r}"
                               + (f" at equal {claim.file.matching}" if claim.file.matching else ""))
    involved = _involved(claim, part)
    runs = [run for arm in involved for run in arm.runs.values()]
    link = f"{out}/report.html#claim-{claim.name}" if out is not None else ""
    try:
        finding = (_scale(claim, part, involved, runs) or _before_the_first_analysis(manifest, part)
                   or claim.test.find(Evidence(part, 1 - part.alpha)))
        finding = _uncorrected(manifest, _failed(involved, finding))
    except Missing as missing:
        finding = Finding("inconclusive", str(missing), "", 0)
    except InputError as error:                    # measured in ways that cannot be compared
        finding = Finding("inconclusive", str(error), "", 0)
    return _verdict(claim, finding, measured=_measured(part, involved, runs), link=link)


def scaling_verdict(claim: Claim, scaling: Scaling, out: Path | None = None) -> Verdict:
    """The verdict of the efficiency runs in the results folder ``out`` on a claim about how cost grows."""
    devices = listed(list(dict.fromkeys(condition.device for condition in scaling.conditions)))
    sides = scaling.sides
    measured = f"images of {sides[0]} to {sides[-1]} px, {devices}" if sides else ""
    finding = claim.test.find(scaling)
    run = not finding.why.startswith("not run")    # the report shows claims about networks that were run
    return _verdict(claim, finding, measured, f"{out}/report.html#claim-{claim.name}" if out and run else "")


def unevaluated(claim: Claim, why: str = "") -> Verdict:
    """The verdict on a claim that nothing here has measured, or that is counted exactly."""
    if claim.exact:
        return _verdict(claim, claim.test.find())
    command = RUN if claim.about_scaling else f"python bench.py ablate {claim.file.study}"
    reason = why or (f"not run, because it is out of reach: {claim.file.out_of_reach}" if claim.test is None else
                     f"not run: {command}")
    return _verdict(claim, Finding("inconclusive", reason.rstrip("."), "", 0))


def _verdict(claim: Claim, finding: Finding, measured: str = "", link: str = "") -> Verdict:
    file = claim.file
    return Verdict(claim.name, file.statement, file.source, finding.verdict, finding.why, finding.numbers,
                   claim.test.asked() if claim.test else "", file.study, SUITE if claim.about_scaling else file.suite,
                   file.scale, measured, finding.n, link, file.number)


def _is_of(claim: Claim, part: Part) -> bool:
    return part.suite == claim.file.suite and claim.file.matching in ("", part.matching)


def _involved(claim: Claim, part: PartResult) -> list:
    """The arms that the claim is about; all of a factorial effect's."""
    names = {arm for arm, _ in claim.test.arms()}
    return [arm for arm in part.arms if not names or arm.arm.name in names]


def _before_the_first_analysis(manifest: Manifest, part: PartResult) -> Finding | None:
    """With --seeds auto a claim is evaluated at analyses only, like everything else."""
    if part.alpha:
        return None
    first = manifest.interim_analyses.counts[0]
    return Finding("inconclusive", f"too few seeds: the first analysis is at {first}", "", part.seeds)


def _uncorrected(manifest: Manifest, finding: Finding) -> Finding:
    """The finding, with what its interval cannot know: that seeds were added after an analysis that could decide."""
    counts = [str(count) for count in manifest.earlier_counts if count >= smallest_n()]
    if not counts or not finding.numbers:
        return finding
    return replace(finding, numbers=f"{finding.numbers}; seeds were added after the results of {listed(counts)} were "
                                    "seen, which no interval is corrected for")


def _scale(claim: Claim, part: PartResult, involved: Sequence, runs: Sequence[Run]) -> Finding | None:
    """Why the scale is too small to say anything, where it is."""
    needs = claim.file.needs
    steps = min((arm.arm.spec.train.steps for arm in involved), default=0)
    images = min((run.record.data["splits"]["train"] for run in runs if "splits" in run.record.data), default=None)
    if steps < needs.steps:
        return Finding("inconclusive", f"wrong scale: {steps:,} steps of training, and the claim needs {needs.steps:,}",
                       "", part.seeds)
    if images is not None and images < needs.train_images:
        return Finding("inconclusive", f"wrong scale: {images:,} training images, and the claim is about "
                       f"{needs.train_images:,} and more", "", part.seeds)
    return None


def _failed(involved: Sequence, finding: Finding) -> Finding:
    """A finding of the seeds that are left is none of an arm whose other runs ended badly."""
    bad = [f"{arm.arm.name}, seed {seed} ({run.record.status})" for arm in involved
           for seed, run in arm.runs.items() if run.record.status != "ok"]
    if not bad:
        return finding
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return Finding("inconclusive", f"a run of the arm failed: {', '.join(bad[:3])}{more}", finding.numbers, finding.n)


def _measured(part: PartResult, involved: Sequence, runs: Sequence[Run]) -> str:
    """Data and budget, in words."""
    known = [run.record for run in runs if "splits" in run.record.data]
    what = part.part.suite
    if known:
        size = known[0].data.get("image_size")
        pixels = f" of {' x '.join(map(str, size))} pixels" if size else ""
        what = f"{data_name(known[0])} ({known[0].data['splits']['train']:,} training images{pixels})"
    budgets = sorted({(arm.arm.spec.train.steps, arm.arm.spec.train.batch_size) for arm in involved})
    each = [f"{steps:,} steps of {batch}" for steps, batch in budgets]
    equal = "" if part.part.matching == "none" else f", equal {part.part.matching}"
    return f"{what}, {each[0]}{' to ' + each[-1] if len(each) > 1 else ''} images{equal}"
