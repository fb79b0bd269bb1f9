"""A part of a study -> its tables: arms against the base, factorial effects, time to quality. No torch import."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.analysis.comparison import Column, Group
from harness.analysis.comparison_tables import ARROWS
from harness.analysis.study_parts import StudyPart, change_words, made_equal
from harness.analysis.study_result import ArmResult, PartResult
from harness.analysis.table import Cell, Heading, Table
from harness.formatting import (
    DASH,
    bounds,
    fixed,
    format_cost,
    format_p,
    format_value,
    listed,
    plus_minus,
    shared_decimals,
)

VERDICTS = {"base": "base", "better": "▲ better", "worse": "▼ worse", "undecided": "undecided"}
COSTS = ("parameters", "macs", "step_ms", "peak_memory_bytes")
MATCHED = {"params": "parameters", "macs": "macs", "latency": "step_ms"}


def arms_table(result: PartResult, group: Group | None, colours: Mapping[str, str]) -> Table:
    """One row per arm, the base first: outcome, difference to the base, p, verdict, ties, what n can see, cost."""
    costs = [] if group is None else [column for key in COSTS for column in group.select("cost") if column.key == key]
    metric, analyses = result.metric, any(arm.decision for arm in result.arms)
    unit = f" ({metric.unit})" if metric.unit else ""
    headings = (
        Heading("arm", words=True), Heading("verdict", words=True, choose=True), Heading("change", words=True),
        Heading("seeds"), Heading(f"{metric.label}{unit}{ARROWS[metric.direction]}", "mean ± 95 %"),
        Heading("difference", "to the base"), Heading("interval", f"{100 * result.level:.3g} %"),
        Heading("p", "one analysis, not corrected" if analyses else f"Holm, {_tests(result.comparisons)}"),
        Heading("ties", words=True, choose=True), Heading("detectable", "at this n"),
        Heading("seeds needed", "for this gap"),
        *(Heading(cost.label, _cost_unit(cost), edge=i == 0) for i, cost in enumerate(costs)))
    outcome = shared_decimals(arm.interval for arm in result.arms)
    gap = shared_decimals(arm.comparison.interval for arm in result.arms if arm.comparison)
    rows = tuple((*_arm_cells(arm, outcome, gap, colours), *(_cost_cell(arm, cost, group) for cost in costs))
                 for arm in result.arms)
    return Table(result.part.title, headings, rows, tuple(_notes(result))).pruned()


def _arm_cells(arm: ArmResult, outcome: int, gap: int, colours: Mapping[str, str]) -> list[Cell]:
    planned, done = len(arm.runs), arm.interval.n
    entries = [
        Cell(arm.arm.name, strong=arm.comparison is None, colour=colours.get(arm.arm.name, "")),
        Cell(VERDICTS[arm.verdict], tokens=(arm.verdict,), tone=arm.verdict),
        Cell(change_words(arm.arm), small=made_equal(arm.arm)),
        Cell(str(done) if done == planned else f"{done}/{planned}", done),
        Cell(plus_minus(arm.interval, outcome), arm.interval.mean)]
    if arm.comparison is None:
        nothing = Cell(DASH, math.nan)
        return [*entries, nothing, nothing, nothing, _letters(arm), nothing, nothing]
    found = arm.comparison.interval
    paired = "" if found.n == done else f"{found.n} pairs"
    decided = arm.verdict in ("better", "worse")
    p = arm.decision.p if arm.decision else arm.adjusted_p
    return [*entries, Cell(fixed(found.mean, gap, sign=True), found.mean, paired, strong=decided),
            Cell(bounds(found, gap), found.low), Cell(format_p(p), p), _letters(arm),
            Cell("none" if math.isinf(arm.detectable) else fixed(arm.detectable, gap), arm.detectable),
            Cell(_count(arm.needed), arm.needed)]


def _letters(arm: ArmResult) -> Cell:
    return Cell(arm.letters or DASH, tokens=tuple(arm.letters) if arm.letters.isalpha() else (arm.letters,))


def _count(seeds: float) -> str:
    return DASH if math.isnan(seeds) else ">1000" if math.isinf(seeds) else f"{seeds:.0f}"


def _cost_cell(arm: ArmResult, column: Column, group: Group) -> Cell:
    interval = group.intervals.get((arm.arm.name, column))
    if interval is None or not interval.n:
        return Cell(DASH, math.nan)
    match = arm.arm.match
    matched = match is not None and MATCHED[match.quantity] == column.key and match.error is not None
    return Cell(format_cost(interval, column.metric.unit), interval.mean,
                 f"{fixed(100 * match.error, 1, sign=True)} % to base" if matched else "")


def _cost_unit(column: Column) -> str:
    return "" if column.metric.unit in ("", "B", "MAC", "FLOP") else column.metric.unit


def _tests(count: int) -> str:
    return f"{count} test{'s' * (count != 1)}"


def _notes(result: PartResult) -> list[str]:
    metric, analyses = result.metric, any(arm.decision for arm in result.arms)
    turned = "the base minus the arm" if metric.direction == "lower" else "the arm minus the base"
    methods = {arm.comparison.interval.method for arm in result.arms if arm.comparison and
               arm.comparison.interval.exists}
    notes = ["mean ± 95 %: half-width of the Student-t interval over seeds. "
             f"difference: {turned}, paired by seed, so that positive is better"
             + (f"; interval: {listed(sorted(methods), None)}." if methods else "; too few seeds for an interval."),
             "p: exact two-sided sign-flip test over paired seeds"
             + (", of the last analysis alone." if analyses else ".")
             + f" Decisions about {metric.label}: {result.correction}."]
    if any(math.isinf(arm.detectable) for arm in result.arms):
        notes.append("detectable none: with so few seeds no difference, however large, could be decided.")
    notes.append("detectable: the smallest true difference that this many seeds find with 80 % chance under the "
                 "correction; seeds needed: how many would find a difference as large as the one seen.")
    share = f", at the {100 * result.alpha:.2g} % error that this analysis adds" if analyses else ""
    notes.append(f"ties: two arms share a letter where no test of all pairs (Holm{share}) tells them apart."
                 if any(arm.letters for arm in result.arms) else
                 "ties: not shown; over all pairs of arms, these seeds are too few to tell any two apart (Holm)."
                 if not result.ties.decidable and result.ties.groups else "")
    if result.missing:
        notes.append(f"{result.missing} planned run{'s are' if result.missing > 1 else ' is'} not here.")
    return [note for note in notes if note] + [f"not counted: {line}" for line in result.excluded]


def effects_table(result: PartResult) -> Table | None:
    """Main effects and interactions, where the study's design has them."""
    found = result.effects
    if found is None or not found.effects:
        return None
    decimals = shared_decimals(effect.interval for effect in found.effects)
    aliased, level = any(effect.aliases for effect in found.effects), 1 - result.alpha if result.alpha else 0.95
    headings = (Heading("effect", words=True), Heading("of", words=True, choose=True), Heading("size"),
                Heading("interval", f"{100 * level:.3g} %"), Heading("in SDs"), Heading("p"), Heading("p", "Holm"),
                *([Heading("not told apart from", words=True)] if aliased else []))
    rows = tuple((Cell(effect.label, strong=len(effect.term) == 1), _order(len(effect.term)),
                  Cell(fixed(effect.interval.mean, decimals, sign=True), effect.interval.mean,
                        strong=effect.adjusted_p <= result.alpha),
                  Cell(bounds(effect.interval, decimals), effect.interval.low),
                  Cell(fixed(effect.effect_size, 2, sign=True), effect.effect_size),
                  Cell(format_p(effect.p), effect.p), Cell(format_p(effect.adjusted_p), effect.adjusted_p),
                  *([Cell(", ".join(effect.aliases) or DASH)] if aliased else [])) for effect in found.effects)
    better = "raises" if result.metric.direction == "higher" else "lowers"
    notes = [f"Positive {better} {result.metric.label}. A main effect is the change from the factor's first level, "
             "averaged over the settings of the others; an interaction is how much one's effect changes with the "
             "other. Sign-flip test over seeds; Holm over this table."]
    if any(arm.decision for arm in result.arms):
        notes.append(f"This analysis tests them at the {100 * result.alpha:.2g} % error that it adds, so that 5 % "
                     "holds over all analyses.")
    if found.fraction < 1:
        notes.append(f"A fraction of {found.fraction:.3g} of all combinations was run.")
    if found.inestimable:
        notes.append(f"Confounded with the mean: {', '.join(found.inestimable)}.")
    if found.incomplete:
        notes.append(f"Seeds left out because a run is missing or undefined: {', '.join(map(str, found.incomplete))}.")
    return Table("Effects of the factors", headings, rows, tuple(notes)).pruned()


def _order(factors: int) -> Cell:
    words = "one factor" if factors == 1 else f"{factors} factors"
    return Cell(words, tokens=(words,))


def speed_table(result: PartResult) -> Table | None:
    """When each arm first reaches the base's final quality, in units of the base's own time."""
    arms = [arm for arm in result.arms if arm.speed is not None]
    if not arms:
        return None
    headings = (Heading("arm", words=True), Heading("steps", "ratio to the base"), Heading("interval", "95 %"),
                Heading("p", "not corrected"), Heading("steps", "median ratio"), Heading("never reached", "seeds"),
                Heading("time", "ratio to the base", edge=True), Heading("interval", "95 %"),
                Heading("time", "median ratio"))
    rows = []
    for arm in arms:
        speed, seeds = arm.speed, len(arm.speed.targets)
        rows.append((Cell(arm.arm.name), *_speed_cells(speed.steps, speed.never),
                     Cell(format_p(speed.steps.p), speed.steps.p), _median(speed.steps),
                     Cell(f"{speed.never} of {seeds}", speed.never), *_speed_cells(speed.seconds, speed.never),
                     _median(speed.seconds)))
    notes = (f"Until the curve {result.part.curve or 'of validation'} first is where the base's ends, seed by seed. "
             "Below 1 is faster than the base; mean: geometric, over seeds.",
             "Where an arm never got there on some seeds, only the median counts them (as infinitely slow); no "
             "interval and no test exists then.")
    return Table("Time to the base's final quality", headings, tuple(rows), notes).pruned()


def _speed_cells(speed, never: int) -> list[Cell]:
    ratio = speed.ratio
    if never:                                      # a mean over the seeds that did reach would flatter the arm
        return [Cell(DASH, math.nan), Cell(DASH, math.nan)]
    return [Cell(fixed(ratio.mean, 2), ratio.mean), Cell(bounds(ratio, 2, sign=False), ratio.low)]


def _median(speed) -> Cell:
    return Cell("never" if math.isinf(speed.median) else fixed(speed.median, 2), speed.median)


def secondary_table(result: PartResult) -> Table | None:
    """The study's other metrics: difference to the base, interval, p; for no number of tests corrected."""
    keys = [key for key in result.also if result.also[key]]
    if not keys:
        return None
    headings = [Heading("arm", words=True)]
    for key in keys:
        metric = result.also_metrics[key]
        unit = f" ({metric.unit})" if metric.unit else ""
        headings.append(Heading(f"{metric.label}{unit}{ARROWS[metric.direction]}", "difference, interval, p"))
    decimals = {key: shared_decimals(c.interval for c in result.also[key].values()) for key in keys}
    rows = []
    for arm in result.arms[1:]:
        row = [Cell(arm.arm.name)]
        for key in keys:
            found = result.also[key].get(arm.arm.name)
            if found is None:
                row.append(Cell(DASH, math.nan))
                continue
            small = f"{bounds(found.interval, decimals[key])} p {format_p(found.test.p)}"
            row.append(Cell(fixed(found.interval.mean, decimals[key], sign=True), found.interval.mean, small))
        rows.append(tuple(row))
    notes = ("Not corrected for the number of tests: these numbers explain, they decide nothing. Positive is better "
             "in every column.",)
    return Table("Other metrics (not corrected)", tuple(headings), tuple(rows), notes)


def raw_table(result: PartResult, group: Group) -> Table:
    """Every run of the part: its numbers at six digits, its identity and where it lies."""
    part = result.part
    columns = [column for key in (part.outcome, *part.also) for column in group.select("metrics") if column.key == key]
    headings = (Heading("arm", words=True, choose=True), Heading("seed"), Heading("status", words=True, choose=True),
                *(Heading(column.label) for column in columns), Heading("duration", "s"), Heading("run", words=True))
    rows = []
    for arm in group.arms:
        for run in arm.runs:
            record, seed = run.record, run.record.spec.seeds.init
            values = [column.of(run) for column in columns]
            rows.append((Cell(arm.label, tokens=(arm.label,)), Cell(str(seed), seed),
                         Cell(record.status, tokens=(record.status,), tone="" if record.status == "ok" else "worse"),
                         *(Cell(DASH, math.nan) if m is None else Cell(f"{m.value:.6g}", m.value) for m in values),
                         Cell(format_value(record.duration_s), record.duration_s), Cell(record.run_id)))
    return Table("Raw numbers", headings, tuple(rows))


def part_tables(part: StudyPart, colours: Mapping[str, str] | None = None) -> list[Table]:
    """Make the tables that a part of a study leads with: arms, effects, time to quality, other metrics."""
    if part.result is None or part.group is None:
        return []
    result = part.result
    made = (arms_table(result, part.group, colours or {}), effects_table(result), speed_table(result),
            secondary_table(result))
    return [table for table in made if table is not None]
