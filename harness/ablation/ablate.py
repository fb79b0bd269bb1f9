"""``python bench.py ablate``: a study -> its runs, seed by seed -> ``study.json`` and the report.

What is finished is kept: a second call runs nothing, one more seed runs only that seed, and a sweep that was
killed goes on where it was. Torch is imported only once every name has been checked.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.ablation.manifest import InterimAnalyses, Manifest, Part, arm_key, read_manifest, write_manifest
from harness.ablation.study import MATCHES, Study, read_study
from harness.errors import InputError, unknown
from harness.execution import Execution
from harness.plan import Request

AUTO_MAX_SEEDS = 20
ANALYSES = 4                                          # of --seeds auto, from the fewest that can decide to the most

Report = Callable[[Path, Console], list[str]]


@dataclass(frozen=True)
class AblateOptions:
    """Hold what the person asked for; None = the study's file decides."""

    name: str
    request: Request                               # data, profile, device; its suite is one of the study's, or ""
    seeds: str | None = None                       # a number, or "auto"
    max_seeds: int | None = None                   # with auto
    match: str | None = None                       # e.g. "none,params"
    tune: int | None = None
    dry_run: bool = False
    out: Path | None = None
    how: Execution = Execution()                   # where runs happen, and how many at a time
    track: tuple[str, ...] = ()                    # names of trackers


def ablate(asked: AblateOptions, console: Console, report: Report | None = None) -> int:
    """Plan, run, report; return 2 where a run did not end well or a record could not be read, otherwise 0.

    ``report`` writes and prints the report of a folder, and lists what could not be read; None: there is none.
    Raises InputError, before anything is run, for what is wrong with the study or the request.
    """
    study, file, designs = read_study(asked.name)
    names = _suites(asked, study)
    matchings = _matchings(asked, study)
    seeds, most = _seeds(asked, study)
    tune = study.tune if asked.tune is None else asked.tune
    if tune < 0:
        raise InputError(f"--tune takes a number of trials per arm, 0 or more, not {tune}")
    out = asked.out or Path("results") / "local" / f"ablate-{Path(asked.name).stem}-{Path(asked.request.profile).stem}"

    analyses = interim_analyses_for(most, len(designs) - 1) if most else None
    if not asked.dry_run:
        from harness.executors.local import start_server
        start_server(asked.how, names[0])
    from harness.ablation.study_plan import plan_suite
    plans = [plan_suite(study, file, designs, replace(asked.request, suite=name), out / "cache", matchings)
             for name in names]
    if analyses:
        seeds = tuple(range(analyses.counts[0]))
    manifest = Manifest(name=Path(asked.name).stem, study=study, profile=asked.request.profile, seeds=seeds,
                        interim_analyses=analyses, parts=tuple(part for plan in plans for part in plan.parts),
                        command=_command(asked))
    data = {plan.suite: plan.data for plan in plans}
    if asked.dry_run:
        return dry_run(manifest, data, out, tune, console)

    from harness.execute import prepare
    prepare(out)                                   # only now: a study that is refused leaves no folder behind
    from harness.ablation.study_plan import runs_of
    from harness.progress import say_of_data
    for plan in plans:
        say_of_data(console, [spec for _, spec in runs_of(plan.parts, seeds[0]).values()], plan.data)
    manifest = continued(manifest, out)
    sweep = Sweep(manifest, data, out, console, how=asked.how, track=asked.track)
    if tune:
        sweep.tune(tune)
    sweep.run()
    problems = report(out, console) if report else []
    return 2 if sweep.bad or problems else 0


def continued(manifest: Manifest, out: Path) -> Manifest:
    """``manifest`` with what an earlier call left: its seeds stay, and earlier analyses are remembered.

    Raises InputError where the folder holds another study, or this one with other arms: their runs would be mixed.
    """
    earlier = read_manifest(out)
    if earlier is None:
        return manifest
    if earlier.name != manifest.name:
        raise InputError(f"{out} holds the study {earlier.name!r}; give --out another folder")
    if manifest.interim_analyses:
        if earlier.interim_analyses != manifest.interim_analyses:
            raise InputError(f"{out} was run with {_how(earlier)}, not with {_how(manifest)}: the analyses of "
                             "--seeds auto are fixed before the first; give --out another folder")
        return manifest
    if earlier.interim_analyses:
        raise InputError(f"{out} was run with {_how(earlier)}: go on with --seeds auto, or give --out another folder")
    seeds = tuple(sorted({*earlier.seeds, *manifest.seeds}))
    before = (*earlier.earlier_counts, *([len(earlier.seeds)] if seeds != earlier.seeds else []))
    return manifest.model_copy(update={"seeds": seeds, "earlier_counts": before})


def _how(manifest: Manifest) -> str:
    analyses = manifest.interim_analyses
    return f"--seeds auto, at most {analyses.max_seeds}" if analyses else f"{len(manifest.seeds)} seeds"


class Sweep:
    """The runs of a study. ``bad`` are those that did not end well."""

    def __init__(self, manifest: Manifest, data: dict[str, Any], out: Path, console: Console, *, how: Execution,
                 track: tuple[str, ...] = ()):
        self.manifest, self.data, self.out, self.console = manifest, data, out, console
        self.how, self.track = how, track
        self.bad: list = []

    def tune(self, trials: int) -> None:
        """Give every arm its learning rate by equally many trials on validation data."""
        from harness.ablation.tuning import tune_arms
        from harness.suites import registry
        parts, tuned = [], {}
        for part in self.manifest.parts:
            if not part.curve:
                raise InputError(f"--tune: the study names no validation curve for the suite {part.suite!r}")
            new = [arm for arm in part.arms if arm.key not in tuned]
            arms = tune_arms(new, self.data[part.suite], self.out, trials=trials, curve=part.curve,
                             direction=registry.constant(part.suite, "CURVES")[part.curve],
                             how=self.how, console=self.console)
            tuned |= {old.key: arm for old, arm in zip(new, arms, strict=True)}
            # an arm that two matchings share was tuned once; the match stays each part's own
            parts.append(part.model_copy(update={"arms": tuple(
                arm.model_copy(update={"spec": tuned[arm.key].spec, "tuning": tuned[arm.key].tuning})
                for arm in part.arms)}))
        self.manifest = self.manifest.model_copy(update={"parts": tuple(parts)})

    def run(self) -> None:
        """All seeds; with analyses, as many as it takes to decide the primary questions."""
        self.write()
        self.run_seeds(self.manifest.seeds)
        analyses = self.manifest.interim_analyses
        if analyses is None:
            return
        for count in analyses.counts[1:]:
            open_arms = self.undecided()
            if not open_arms:
                self.console.print(f"decided after {len(self.manifest.seeds)} seeds")
                return
            self.console.print(f"after {len(self.manifest.seeds)} seeds still open: {', '.join(open_arms)}",
                               highlight=False, markup=False)
            more = tuple(range(len(self.manifest.seeds), count))
            self.manifest = self.manifest.model_copy(update={"seeds": (*self.manifest.seeds, *more)})
            self.write()
            self.run_seeds(more)

    def undecided(self) -> list[str]:
        """Arms whose question is open at this analysis, as suite: arm."""
        from harness.analysis.comparison import Run
        from harness.analysis.study_analysis import analyse
        from harness.record import read_records
        records, _ = read_records(self.out / "runs")
        runs = [Run(record, self.out / "runs" / record.run_id) for record in records]
        return [f"{result.part.title}: {arm.arm.name}" for result in analyse(self.manifest, runs)
                for arm in result.arms if arm.verdict == "undecided"]

    def run_seeds(self, seeds: tuple[int, ...]) -> None:
        from harness.ablation.study_plan import runs_of
        from harness.execute import execute
        from harness.progress import Display
        from harness.tracking import Tracking
        suites: dict[str, list[Part]] = {}
        for part in self.manifest.parts:
            suites.setdefault(part.suite, []).append(part)
        plans = {suite: [runs_of(tuple(parts), seed) for seed in seeds] for suite, parts in suites.items()}
        with Display(self.console, sum(len(seed) for plan in plans.values() for seed in plan)) as display:
            listener = Tracking(self.track, self.out, display)
            for suite, plan in plans.items():
                names = {key: f"{suite}: {name}" for seed in plan for key, (name, _) in seed.items()}

                def listen(spec, names=names, **event):
                    listener(spec, name=names[arm_key(spec)], **event)

                records = execute([spec for seed in plan for _, spec in seed.values()], self.data[suite], self.out,
                                  how=self.how, listener=listen)
                self.bad += [record for record in records if record.status != "ok"]

    def write(self) -> None:
        from harness.ablation.study_plan import portable
        parts = tuple(portable(part) for part in self.manifest.parts)
        try:
            write_manifest(self.out, self.manifest.model_copy(update={"parts": parts}))
        except OSError as error:
            raise InputError(f"cannot write {self.out}: {error.strerror}") from None


def dry_run(manifest: Manifest, data: dict[str, Any], out: Path, tune: int, console: Console) -> int:
    """Print the runs, their number and an estimate of their time from short probes."""
    from harness.ablation.estimate import estimate, show
    from harness.ablation.study_plan import runs_of
    table = Table("suite", "matched", "arm", "change", "size", box=None, header_style="bold")
    names = {}
    for part in manifest.parts:
        for arm in part.arms:
            names.setdefault(arm.key, arm.name if part.matching == "none" or arm.key in names
                             else f"{arm.name} ({part.matching})")
            words = ", ".join(f"{key} = {value}" for key, value in arm.difference.items()) or "(the base)"
            size = "" if arm.match is None or arm.match.error is None else f"{arm.match.error:+.2%} of {part.matching}"
            table.add_row(part.suite, part.matching, arm.name, words, size)
    console.print(table)
    specs = [spec for seed in manifest.seeds for suite in data
             for _, spec in runs_of(tuple(p for p in manifest.parts if p.suite == suite), seed).values()]
    more = f", and {tune} tuning trials for each arm" if tune else ""
    analyses = f" (up to {manifest.interim_analyses.max_seeds})" if manifest.interim_analyses else ""
    console.print(f"{len(specs)} runs: {len(manifest.seeds)} seeds{analyses}{more}; results would go to {out}",
                  highlight=False, markup=False)
    show(estimate(specs, data, out / "runs", trials=tune, names=names), console)
    return 0


def _suites(asked: AblateOptions, study: Study) -> list[str]:
    request = asked.request
    if request.suite and request.suite not in study.suites:
        raise unknown("suite of this study", request.suite, study.suites)
    names = [request.suite] if request.suite else list(study.suites)
    if len(names) > 1 and (request.dataset or request.data):
        raise InputError(f"this study runs in {' and '.join(names)}: choose one with --suite to give it data")
    return names


def _matchings(asked: AblateOptions, study: Study) -> tuple:
    if asked.match is None:
        return study.match
    names = tuple(dict.fromkeys(name.strip() for name in asked.match.split(",") if name.strip()))
    for name in names or ("",):
        if name not in MATCHES:
            raise unknown("quantity to match", name, MATCHES)
    return names


def _seeds(asked: AblateOptions, study: Study) -> tuple[tuple[int, ...], int | None]:
    """The seeds, and with ``auto`` the most there may be."""
    if asked.seeds == "auto":
        return (), AUTO_MAX_SEEDS if asked.max_seeds is None else asked.max_seeds
    if asked.max_seeds is not None:
        raise InputError("--max-seeds goes with --seeds auto")
    if asked.seeds is None:
        return study.seed_list, None
    if not asked.seeds.isdecimal() or int(asked.seeds) < 1:
        raise InputError(f"--seeds takes a number of at least 1, or auto, not {asked.seeds!r}")
    return tuple(range(int(asked.seeds))), None


def interim_analyses_for(most: int, comparisons: int) -> InterimAnalyses:
    """Evenly spread, from the first at which what may be spent by then can decide anything."""
    from harness.stats.power import smallest_n
    from harness.stats.sequential import SequentialPlan

    def can_decide(first: int) -> bool:            # seeds that all say the same
        return bool(SequentialPlan(first, most, (first, most), comparisons=comparisons).decide([1.0] * first).side)

    fewest = next(filter(can_decide, range(smallest_n(comparisons=comparisons), most)), most)
    plan = SequentialPlan(fewest, most, analyses=ANALYSES, comparisons=comparisons)
    return InterimAnalyses(min_seeds=fewest, max_seeds=most, counts=plan.counts)


def _command(asked: AblateOptions) -> str:
    """The command line again; of files and folders their names, since paths are this machine's."""
    request = asked.request
    name = Path(asked.name).name if asked.name.endswith((".yaml", ".yml")) else asked.name
    words = ["python", "bench.py", "ablate", name]
    for flag, value in (("--suite", request.suite), ("--dataset", request.dataset), ("--data", request.data),
                        ("--profile", request.profile), ("--seeds", asked.seeds), ("--max-seeds", asked.max_seeds),
                        ("--match", asked.match), ("--tune", asked.tune)):
        if value:
            words += [flag, Path(value).name if isinstance(value, Path) else str(value)]
    return shlex.join(words)
