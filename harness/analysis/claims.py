"""Statements of the literature, as data: one YAML file each in ``claims/``, with the study and the test that decide it.

A verdict is *supported*, *contradicted* or *inconclusive* with the reason, and holds for the data and the budget
that it was measured on. No torch import, but for a claim about cost when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.ablation.manifest import Manifest
from harness.ablation.study import CLAIMS, Study, read_study
from harness.analysis.claim_costs import RUN, Cost, ScalingClaim
from harness.analysis.claim_tests import STUDY_TESTS, Evidence, Finding, StudyTest, Word
from harness.analysis.comparison import data_name
from harness.analysis.scaling import SUITE, Scaling
from harness.analysis.study_result import ArmResult, PartResult
from harness.errors import InputError, unknown
from harness.formatting import listed
from harness.identity import networks
from harness.record import Record
from harness.spec import Frozen
from harness.stats.power import smallest_n
from harness.yaml_file import YamlFile

KINDS = {**STUDY_TESTS, "cost": Cost, "scaling": ScalingClaim}
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
    test: dict[str, Any] = Field(default_factory=dict)       # its kind and that kind's entries
    out_of_reach: str = ""                         # why nothing here can test it


@dataclass(frozen=True)
class Claim:
    name: str
    file: ClaimFile
    test: StudyTest | Cost | ScalingClaim | None   # None where it is out of reach

    @property
    def about_scaling(self) -> bool:
        """Whether records of the efficiency suite decide it, and no study."""
        return isinstance(self.test, ScalingClaim)

    @property
    def of_study(self) -> bool:
        return isinstance(self.test, StudyTest)


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
    """Read a shipped claim by name, or anyone's by path.

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
    if claim.out_of_reach:
        return Claim(path.stem, claim, None)
    kind = str(claim.test.get("kind", ""))
    if kind not in KINDS:
        raise file.error(("test", "kind"), unknown("kind of test", kind, KINDS))
    test = file.validate(KINDS[kind], claim.test, ("test",))
    if isinstance(test, ScalingClaim):
        for subject, entry in test.subjects():
            try:
                networks.check(subject.variant)
            except InputError as error:
                raise file.error(("test", entry, "variant"), error) from None
    elif isinstance(test, StudyTest):
        try:
            study, _, designs = read_study(claim.study)
        except InputError as error:
            raise file.error(("study",), error) from None
        for place, what, its, known in _names(claim, test, study, [design.name for design in designs]):
            if its not in known:
                raise file.error(place, unknown(what, its, known))
    return Claim(path.stem, claim, test)


def _names(claim: ClaimFile, test: StudyTest, study: Study, arms: Sequence[str]) -> Iterator[tuple]:
    """Yield (place, what it is, name, names that exist) of whatever a claim names in its study."""
    of_study = f"of the study {claim.study!r}:"
    yield ("suite",), f"suite {of_study}", claim.suite, study.suites
    if claim.matching:
        yield ("matching",), f"matching {of_study}", claim.matching, study.match
    for arm, place in test.arms():
        yield ("test", *place), f"arm {of_study}", arm, arms
    part = study.suites[claim.suite]
    for metric, place in test.metrics():
        yield ("test", *place), "metric", metric, (part.outcome, *part.also, *COSTS)
    for axis, level in getattr(test, "effect", {}).items():
        yield ("test", "effect", axis), "axis", axis, study.axes
        yield ("test", "effect", axis), f"level of {axis}", level, study.axes[axis]


def is_relevant(claim: Claim, manifest: Manifest) -> bool:
    """Whether a study that was run can decide the claim."""
    return claim.of_study and (claim.file.study == manifest.name or claim.name in manifest.study.claims)


def verdicts_for(out: Path, manifest: Manifest, results: Sequence[PartResult]) -> list[Verdict]:
    """Evaluate every shipped claim that the study in the folder ``out`` bears on."""
    found = (read_claim(name) for name in claim_names())
    return [evaluate_claim(claim, manifest, results, out) for claim in found if is_relevant(claim, manifest)]


def evaluate_claim(claim: Claim, manifest: Manifest, results: Sequence[PartResult], out: Path | None = None) -> Verdict:
    """The verdict of one study's results. ``out`` is its folder, for the link into its report."""
    file = claim.file
    part = next((one for one in results if one.part.suite == file.suite
                 and file.matching in ("", one.part.matching)), None)
    if part is None:
        return unevaluated(claim, f"the study that was run has no part for the suite {file.suite!r}"
                               + (f" at equal {file.matching}" if file.matching else ""))
    names = {arm for arm, _ in claim.test.arms()}  # none of a factorial effect, which is about all
    arms = [arm for arm in part.arms if not names or arm.arm.name in names]
    return _verdict(claim, _finding(claim, manifest, part, arms), _measured(part, arms), out)


def scaling_verdict(claim: Claim, scaling: Scaling, out: Path | None = None) -> Verdict:
    """The verdict of the efficiency runs in the results folder ``out`` on a claim about how cost grows."""
    devices = listed(list(dict.fromkeys(condition.device for condition in scaling.conditions)))
    sides = scaling.sides
    measured = f"images of {sides[0]} to {sides[-1]} px, {devices}" if sides else ""
    finding = claim.test.find(scaling)
    run = not finding.why.startswith("not run")    # the report shows claims about networks that were run
    return _verdict(claim, finding, measured, out if run else None)


def unevaluated(claim: Claim, why: str = "") -> Verdict:
    """The verdict on a claim that nothing here has measured, or that is counted exactly."""
    if isinstance(claim.test, Cost):
        return _verdict(claim, claim.test.find())
    command = RUN if claim.about_scaling else f"python bench.py ablate {claim.file.study}"
    reason = why or (f"not run, because it is out of reach: {claim.file.out_of_reach}" if claim.test is None else
                     f"not run: {command}")
    return _verdict(claim, Finding("inconclusive", reason.rstrip(".")))


def _verdict(claim: Claim, finding: Finding, measured: str = "", out: Path | None = None) -> Verdict:
    file, link = claim.file, "" if out is None else f"{out}/report.html#claim-{claim.name}"
    return Verdict(claim.name, file.statement, file.source, finding.verdict, finding.why, finding.numbers,
                   claim.test.asked() if claim.test else "", file.study, SUITE if claim.about_scaling else file.suite,
                   file.scale, measured, finding.n, link, file.number)


def _finding(claim: Claim, manifest: Manifest, part: PartResult, arms: Sequence[ArmResult]) -> Finding:
    """What the test finds, where scale and seeds allow one and no run of the ``arms`` ended badly."""
    early = _too_early(claim, manifest, part, arms)
    try:
        finding = Finding("inconclusive", early, n=part.seeds) if early else \
            claim.test.find(Evidence(part, 1 - part.alpha))
    except InputError as missing:                  # or measured in ways that cannot be compared
        return Finding("inconclusive", str(missing))
    bad = [f"{arm.arm.name}, seed {seed} ({run.record.status})" for arm in arms
           for seed, run in arm.runs.items() if run.record.status != "ok"]
    if bad:                                        # the seeds that are left do not speak for those that failed
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        finding = replace(finding, verdict="inconclusive", why=f"a run of the arm failed: {', '.join(bad[:3])}{more}")
    counts = [str(count) for count in manifest.earlier_counts if count >= smallest_n()]
    if counts and finding.numbers:
        finding = replace(finding, numbers=f"{finding.numbers}; seeds were added after the results of {listed(counts)} "
                                           "were seen, which no interval is corrected for")
    return finding


def _too_early(claim: Claim, manifest: Manifest, part: PartResult, arms: Sequence[ArmResult]) -> str:
    """Why scale or seeds are too few to say anything, where they are."""
    needs = claim.file.needs
    steps = min((arm.arm.spec.train.steps for arm in arms), default=0)
    images = min((record.data["splits"]["train"] for record in _with_data(arms)), default=None)
    if steps < needs.steps:
        return f"wrong scale: {steps:,} steps of training, and the claim needs {needs.steps:,}"
    if images is not None and images < needs.train_images:
        return f"wrong scale: {images:,} training images, and the claim is about {needs.train_images:,} and more"
    if not part.alpha:                             # with --seeds auto, claims are evaluated at analyses only
        return f"too few seeds: the first analysis is at {manifest.interim_analyses.counts[0]}"
    return ""


def _with_data(arms: Sequence[ArmResult]) -> list[Record]:
    return [run.record for arm in arms for run in arm.runs.values() if "splits" in run.record.data]


def _measured(part: PartResult, arms: Sequence[ArmResult]) -> str:
    """Data and budget, in words."""
    what = part.part.suite
    if known := _with_data(arms):
        size = known[0].data.get("image_size")
        pixels = f" of {' x '.join(map(str, size))} pixels" if size else ""
        what = f"{data_name(known[0])} ({known[0].data['splits']['train']:,} training images{pixels})"
    budgets = sorted({(arm.arm.spec.train.steps, arm.arm.spec.train.batch_size) for arm in arms})
    each = [f"{steps:,} steps of {batch}" for steps, batch in budgets]
    equal = "" if part.part.matching == "none" else f", equal {part.part.matching}"
    return f"{what}, {each[0]}{' to ' + each[-1] if len(each) > 1 else ''} images{equal}"
