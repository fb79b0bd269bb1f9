"""The finding of a study's part in a few plain sentences, each number with interval, n, p and unit. No torch import."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from harness.ablation.manifest import Manifest
from harness.analysis.study_result import ALPHA, ArmResult, PartResult
from harness.analysis.study_runs import STATUS
from harness.formatting import decimals_of, listed, quoted
from harness.stats.factorial import Effect
from harness.stats.intervals import Interval
from harness.stats.power import smallest_n

NAMED = 6                                          # arms that a sentence names before it counts


def conclusion(result: PartResult, manifest: Manifest) -> str:
    """Effects of the factors where the design has them, else arms against the base; then what qualifies it."""
    if result.effects and result.effects.effects:
        finding = _factors(result, manifest)
    else:
        finding = _arms(result, manifest)
    return " ".join(filter(None, [*finding, _lost(result), _missing(result), uncorrected(result, manifest)]))


def uncorrected(result: PartResult, manifest: Manifest) -> str:
    """What the p values cannot know: that seeds were added after results were seen."""
    # an analysis at too few seeds to decide anything could not have been stopped at
    family = min(result.comparisons, _effect_tests(result) or result.comparisons)
    analyses = [count for count in manifest.earlier_counts if count >= smallest_n(ALPHA, comparisons=family)]
    return (f"Seeds were added after the results of {listed([str(count) for count in analyses])} were seen, which no p "
            "is corrected for; --seeds auto would be.") if analyses else ""


def _arms(result: PartResult, manifest: Manifest) -> list[str]:
    arms, base = result.arms[1:], quoted(result.base.arm.name)
    if not result.seeds:
        return [f"Nothing can be said yet: no seed has a finished run of {base} and of another arm."]
    if manifest.interim_analyses and not result.alpha_spent:
        first = manifest.interim_analyses.counts[0]
        return [f"Nothing is decided before the first analysis, at {first} seeds; this has "
                f"{result.seeds}.", _so_far(result)]
    needed, family = smallest_n(ALPHA, comparisons=result.comparisons), _count(result.comparisons, "comparison")
    if result.seeds < needed and not any(arm.decision for arm in arms):
        return [f"Nothing can be decided yet: {needed} seeds are needed for {family}; this has {result.seeds}.",
                _so_far(result)]
    decided = sorted((arm for arm in arms if arm.verdict in ("better", "worse")),
                     key=lambda arm: -abs(arm.comparison.test.mean))
    found = [_decided(result, manifest, arm, first=i == 0) for i, arm in enumerate(decided[:NAMED])]
    if len(decided) > NAMED:
        rest = Counter(arm.verdict for arm in decided[NAMED:])
        found.append(listed([f"{count} more {'is' if count == 1 else 'are'} {verdict}"
                             for verdict, count in rest.items()]))
    sentences = ["; ".join(found) + "."] if found else []
    return [*sentences, *_undecided(result, [arm for arm in arms if arm.verdict == "undecided"])]


def _decided(result: PartResult, manifest: Manifest, arm: ArmResult, *, first: bool) -> str:
    comparison, base = arm.comparison, result.base.arm.name
    n, interval = comparison.test.n, _bounds(comparison.interval)
    if first:
        level = f"{100 * result.level:.4g} % interval "
        brackets = [f"{level}{interval}" if interval else "no interval", _seeds(n), _reason(result, manifest, arm)]
        return (f"{quoted(arm.arm.name)} is {arm.verdict} than {quoted(base)}: {result.metric.label} "
                f"{_difference(result, arm)} ({', '.join(brackets)})")
    p = "" if math.isnan(arm.adjusted_p) else _p_words(arm.adjusted_p)
    brackets = [interval, _seeds(n) if n != result.seeds else "", p]
    return (f"{quoted(arm.arm.name)} is {arm.verdict}: {_difference(result, arm)} "
            f"({', '.join(filter(None, brackets))})")


def _reason(result: PartResult, manifest: Manifest, arm: ArmResult) -> str:
    """On what the verdict rests."""
    family = _count(result.comparisons, "comparison")
    if arm.decision is None:
        return _p_words(arm.adjusted_p) + (f" after Holm over {family}" if result.comparisons > 1 else "")
    return (f"decided at the analysis at {arm.decision.seeds} seeds, at 5 % error over {family} and "
            f"{len(manifest.interim_analyses.counts)} planned analyses")


def _undecided(result: PartResult, arms: list[ArmResult]) -> list[str]:
    base, needed = quoted(result.base.arm.name), smallest_n(result.alpha_spent, comparisons=result.comparisons)
    untested = [arm for arm in arms if not arm.comparison.test.n]
    same = [arm for arm in arms if arm.comparison.test.n and not any(arm.comparison.pairs.values)]
    short = [arm for arm in arms if 0 < arm.comparison.test.n < needed and arm not in same]
    tied = [arm for arm in arms if arm not in untested + same + short]
    later = min((arm.decision.next_analysis for arm in arms if arm.decision and arm.decision.next_analysis),
                default=None)
    sentences = []
    if tied:
        pairs = [arm.comparison.test.n for arm in tied]
        seeds = f"{min(pairs)} to {max(pairs)}" if min(pairs) < max(pairs) else f"{pairs[0]}"
        sentences.append(f"{_names(tied)} cannot be told apart from {base}: a difference under "
                         f"{amount(result, max(arm.detectable for arm in tied))} could well go unseen with {seeds} "
                         f"seeds (power 80 %){f'; the next analysis is at {later} seeds' if later else ''}.")
    if same:
        sentences.append(f"{_names(same)} scored exactly what {base} did on every seed.")
    if short:
        family = _count(result.comparisons, "comparison")
        told = "; ".join(f"{quoted(arm.arm.name)} is {_difference(result, arm)} over {_seeds(arm.comparison.test.n)}"
                         for arm in short[:NAMED])
        more = f"; {len(short) - NAMED} more" if len(short) > NAMED else ""
        next_one = f"; the next analysis is at {later} seeds" if later else ""
        sentences.append(f"Not to be decided with so few seeds, as {needed} are needed for {family}: {told}{more}"
                         f"{next_one}.")
    if untested:
        sentences.append(f"No finished seed is shared with {base} by {_names(untested)}.")
    return sentences


def _names(arms: Sequence[ArmResult]) -> str:
    return listed([quoted(arm.arm.name) for arm in arms])


def _so_far(result: PartResult) -> str:
    """The largest difference there is, where nothing can be decided."""
    arm = max((arm for arm in result.arms[1:] if arm.comparison.test.n), key=lambda arm: abs(arm.comparison.test.mean))
    if not arm.comparison.test.mean:
        return "So far no arm differs from the base."
    interval = _bounds(arm.comparison.interval)
    return (f"So far {quoted(arm.arm.name)} differs most: {result.metric.label} {_difference(result, arm)} than "
            f"{quoted(result.base.arm.name)} ({f'95 % interval {interval}, ' if interval else ''}"
            f"{_seeds(arm.comparison.test.n)}).")


def _difference(result: PartResult, arm: ArmResult) -> str:
    """ "0.177 (20 %) lower", of the base's mean over the same seeds."""
    mean, pairs = arm.comparison.test.mean, arm.comparison.pairs
    sign = 1 if result.metric.direction == "higher" else -1
    values = {seed: run.record.metrics[result.part.outcome].value for seed, run in result.base.runs.items()
              if seed in pairs.seeds and result.part.outcome in run.record.metrics}
    whole = sum(values.values()) / len(values) if values else math.nan
    share = f" ({abs(mean) / whole:.2g}×)" if whole > 0 and abs(mean) > 2 * whole else \
        f" ({abs(mean) / whole:.0%})".replace("%", " %") if whole > 0 else ""
    half = arm.comparison.interval.half_width
    return f"{amount(result, abs(mean), half)}{share} {'higher' if mean * sign > 0 else 'lower'}"


def amount(result: PartResult, value: float, half_width: float = math.nan) -> str:
    """A difference with its unit, two digits where no interval says how many it supports."""
    decimals = decimals_of(value, half_width) if math.isfinite(half_width) else max(0, decimals_of(value, math.nan) - 1)
    return f"{value:.{decimals}f} {result.metric.unit}".strip()


def _bounds(interval: Interval) -> str:
    """Ends of a difference's interval, by size; signed as in the tables, positive better, where it holds 0."""
    if not interval.exists:
        return ""
    ends, decimals = sorted((interval.low, interval.high), key=abs), decimals_of(interval.mean, interval.half_width)
    if interval.low * interval.high < 0:
        low, high = (f"{end:+.{decimals}f}".replace("-", "\N{MINUS SIGN}") for end in (interval.low, interval.high))
        return f"{low} to {high}, positive is better"
    return " to ".join(f"{abs(end):.{decimals}f}" for end in ends)


def _p_words(p: float) -> str:
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def _seeds(n: int) -> str:
    return _count(n, "paired seed")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _effect_tests(result: PartResult) -> int:
    """Tests in the family of effects: aliased ones are one test. 0 without factors."""
    effects = result.effects.effects if result.effects else ()
    return len({frozenset((effect.label, *effect.aliases)) for effect in effects})


def _factors(result: PartResult, manifest: Manifest) -> list[str]:
    """Main effects and interactions that hold after Holm, and those that cannot be told from none.

    With analyses, each analysis tests them at what it adds to the error, so that 5 % holds over all analyses.
    """
    effects = result.effects.effects
    family, n = _effect_tests(result), effects[0].interval.n
    if manifest.interim_analyses and not result.alpha:
        return [f"Nothing is decided before the first analysis, at {manifest.interim_analyses.counts[0]} seeds; "
                f"{_count(n, 'seed')} {'has' if n == 1 else 'have'} every run."]
    needed = smallest_n(result.alpha, comparisons=family)
    if n < needed:
        return [f"No effect can be decided yet: {needed} seeds are needed for {_count(family, 'effect')}; "
                f"{_count(n, 'seed')} {'has' if n == 1 else 'have'} every run."]
    decided = [effect for effect in effects if effect.adjusted_p <= result.alpha]
    level = 100 * (1 - result.alpha)
    bar = f", against {result.alpha:.2g} at this analysis" if manifest.interim_analyses else ""
    sentences = [f"{_effect(result, effect)} ({level:.4g} % interval {_bounds(effect.interval)}, {_count(n, 'seed')}, "
                 f"{_p_words(effect.adjusted_p)} after Holm over {_count(family, 'effect')}{bar}){_aliases(effect)}."
                 for effect in decided]
    mains = [f"of {effect.label}" for effect in effects if effect not in decided and len(effect.term) == 1]
    crossed = [effect.label for effect in effects if effect not in decided and len(effect.term) > 1]
    if mains:
        sentences.append(f"No effect {listed(mains)} could be told from none.")
    if crossed:
        sentences.append(f"No interaction ({listed(crossed)}) could be told from none.")
    return sentences


def _effect(result: PartResult, effect: Effect) -> str:
    size, metric = abs(effect.interval.mean), result.metric
    text, better = amount(result, size, effect.interval.half_width), effect.interval.mean > 0
    firsts = {axis: levels[0] for axis, levels in result.part.axes.items()}
    if len(effect.term) == 1:
        way = "higher" if better == (metric.direction == "higher") else "lower"
        factor, level = effect.term[0], effect.levels[0]
        return (f"{factor} {level} is {'better' if better else 'worse'} than {firsts[factor]}: {metric.label} {text} "
                f"{way} on average over the other axes")
    (one, other), (level, its) = effect.term[:2], effect.levels[:2]
    return (f"what {one} {level} brings over {firsts[one]} depends on {other}: it is {text} of {metric.label} "
            f"{'better' if better else 'worse'} with {its} than with {firsts[other]}")


def _aliases(effect: Effect) -> str:
    return f"; this fraction cannot tell it from {listed(effect.aliases)}" if effect.aliases else ""


def _lost(result: PartResult) -> str:
    """Arms whose runs ended badly: a finding in itself."""
    parts = []
    for arm in result.arms:
        ended = Counter(run.record.status for run in arm.runs.values() if run.record.status != "ok")
        parts += [f"{quoted(arm.arm.name)} {STATUS[status]} on {count} of {_count(len(arm.runs), 'seed')}"
                  for status, count in ended.items()]
    return f"{listed(parts)}; such seeds are left out." if parts else ""


def _missing(result: PartResult) -> str:
    planned = result.missing + sum(len(arm.runs) for arm in result.arms)
    return f"{result.missing} of {planned} planned runs are not there yet." if result.missing else ""
