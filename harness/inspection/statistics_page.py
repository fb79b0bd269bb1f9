"""Do the statistics hold what they promise? Simulated studies with a known truth, as a table.

``python bench.py page statistics`` writes ``simulations.csv`` and ``README.md``. Each row states what was promised
and what share of the simulated studies kept it. Rows marked "shown" are no promise of this project: they are there to
compare with.
"""

from __future__ import annotations

import csv
import itertools
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import scipy

from harness.record import capture_environment
from harness.stats.hypothesis_tests import holm, sign_flip_test
from harness.stats.paired import difference_interval
from harness.stats.power import minimum_detectable_effect, seeds_needed, smallest_n
from harness.stats.sequential import SequentialPlan
from harness.stats.tie_groups import tie_groups

PAGE = Path(__file__).parents[2] / "results" / "statistics"
STUDIES, SEED = 6000, 20
SLACK = 3                                          # standard errors; of a hundred true promises at 2, some would fail

# Differences of two arms with the same spread are symmetric; the last is not, and breaks the tests' assumption.
DIFFERENCES = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "uniform": lambda random, shape: random.uniform(-math.sqrt(3), math.sqrt(3), shape),
    "Laplace": lambda random, shape: random.laplace(0, math.sqrt(0.5), shape),
    "skewed (exponential)": lambda random, shape: random.exponential(1, shape) - 1,
}                                                  # all with mean 0 and SD 1


@dataclass(frozen=True)
class Row:
    """One promise, kept or not."""

    question: str
    setting: str
    n: int                                         # seeds per arm
    studies: int                                   # simulated
    found: float                                   # a share of studies, unless the question names another unit
    low: float                                     # promised: found lies between low and high; NaN = nothing promised
    high: float
    error: float                                   # standard error of the simulation

    @property
    def kept(self) -> str:
        """Within the promise, allowing for :data:`SLACK` standard errors of a simulation at the promise's edge."""
        if math.isnan(self.low):
            return "shown"
        edge = min(max(self.found, self.low), self.high)
        slack = SLACK * math.sqrt(edge * (1 - edge) / self.studies)
        return "yes" if abs(self.found - edge) <= slack else "NO"


def share(question: str, setting: str, n: int, hits: int, studies: int, low: float = math.nan,
          high: float = math.nan) -> Row:
    found = hits / studies
    return Row(question, setting, n, studies, found, low, high, math.sqrt(found * (1 - found) / studies))


def coverage(n: int, method: str, spread: str, studies: int, *, promised: bool = True) -> Row:
    """How often the 95 % interval of a mean difference holds the true mean."""
    draws = DIFFERENCES[spread](np.random.default_rng([SEED, n]), (studies, n))
    found = [difference_interval(row, method=method) for row in draws]
    hits = sum(interval.low <= 0 <= interval.high for interval in found)
    limits = (0.93, 0.97) if promised else ()
    return share("95 % interval covers the truth", f"{method}: {found[0].method}; {spread}", n, hits, studies, *limits)


def family_error(n: int, arms: int, studies: int, *, real: int = 0, corrected: bool = True) -> Row:
    """How often Holm over ``arms`` arms against one base rejects any of those that do not differ from it.

    The first ``real`` arms do differ, by 3 SD. Arms share the base, so the tests depend on each other.
    """
    random, hits = np.random.default_rng([SEED, n, arms, real]), 0
    for _ in range(studies):
        differences = _arms_against_base(random, n, arms, real)
        p = np.array([sign_flip_test(row).p for row in differences])
        hits += bool(((holm(p) if corrected else p)[real:] <= 0.05).any())
    limits = (0, 0.05) if corrected else ()
    return share("any false rejection in the family", f"arms: {arms}, truly different: {real}; "
                 f"{'Holm' if corrected else 'no correction'}", n, hits, studies, *limits)


def tie_error(n: int, arms: int, studies: int) -> Row:
    """How often tie groups tell apart any two of ``arms`` equal arms."""
    random, hits = np.random.default_rng([SEED, n, arms]), 0
    for _ in range(studies):
        values = random.standard_normal((arms, n))
        groups = tie_groups({str(i): dict(enumerate(row)) for i, row in enumerate(values)})
        hits += len(groups.groups) > 1
    return share("any false rejection in the family", f"tie groups, all pairs of {arms} equal arms", n, hits, studies,
                 0, 0.05)


def sequential_error(plan: SequentialPlan, studies: int, *, real: int = 0, corrected: bool = True) -> Row:
    """How often any arm that does not differ from the base is decided at any analysis, when no analysis stops early."""
    random, hits = np.random.default_rng([SEED, *plan.counts, real]), 0
    for _ in range(studies):
        rows = _arms_against_base(random, plan.max_seeds, plan.comparisons, real)[real:]
        if corrected:
            # the real arms come first and may be rejected: Holm then tests the others less strictly
            decided = plan.decide_family({str(i): row for i, row in enumerate(rows)} | {
                f"real {i}": np.ones(plan.max_seeds) for i in range(real)})
            hits += any(decided[str(i)].status == "decided" for i in range(len(rows)))
        else:
            hits += any(sign_flip_test(row[:n]).p <= 0.05 for row in rows for n in plan.counts)
    limits = (0, 0.05) if corrected else ()
    return share("any false decision over analyses and arms", f"analyses at {plan.counts}; arms: {plan.comparisons}, "
                 f"truly different: {real}; {'SequentialPlan' if corrected else 'p <= .05 at each analysis'}",
                 plan.max_seeds, hits, studies, *limits)


def sequential_power(plan: SequentialPlan, effect: float, studies: int) -> Iterator[Row]:
    """How often one arm's true effect (in SD of differences) is decided, and after how many seeds on average."""
    random, hits, used, fixed = np.random.default_rng([SEED, *plan.counts]), 0, [], 0
    for _ in range(studies):
        values = effect + random.standard_normal(plan.max_seeds)
        stop = next((n for n in plan.counts if plan.decide(values[:n]).status == "decided"), None)
        hits += stop is not None
        used.append(stop or plan.max_seeds)
        fixed += sign_flip_test(values).p <= plan.alpha / plan.comparisons
    setting = f"effect {effect:g} SD; comparisons: {plan.comparisons}; analyses at {plan.counts}"
    yield share("power of a true effect", f"{setting}; SequentialPlan", plan.max_seeds, hits, studies)
    yield share("power of a true effect", f"{setting}; all seeds, one analysis", plan.max_seeds, fixed, studies)
    yield Row("seeds used on average", f"{setting}; SequentialPlan", plan.max_seeds, studies, float(np.mean(used)),
              math.nan, math.nan, float(np.std(used) / math.sqrt(studies)))


def power_at_stated_effect(n: int, comparisons: int, studies: int) -> Row:
    """How often an effect of the size stated as detectable with 80 % power is detected."""
    effect = minimum_detectable_effect(1.0, n, comparisons=comparisons)
    random = np.random.default_rng([SEED, n, comparisons])
    hits = sum(sign_flip_test(effect + random.standard_normal(n)).p <= 0.05 / comparisons for _ in range(studies))
    return share("power at the stated minimum detectable effect", f"comparisons: {comparisons}; {effect:.3f} SD", n,
                 hits, studies, 0.78, 0.82)


def power_at_stated_seeds(effect: float, comparisons: int, studies: int) -> Row:
    """How often an effect is detected with the number of seeds stated as needed for 80 % power."""
    n = int(seeds_needed(effect, 1.0, comparisons=comparisons))
    random = np.random.default_rng([SEED, n, comparisons, 1])
    hits = sum(sign_flip_test(effect + random.standard_normal(n)).p <= 0.05 / comparisons for _ in range(studies))
    floor = smallest_n(comparisons=comparisons)
    return share("power at the stated seeds needed", f"comparisons: {comparisons}; {effect:g} SD; floor: {floor} seeds",
                 n, hits, studies, 0.8, 1.0)


def _arms_against_base(random: np.random.Generator, n: int, arms: int, real: int) -> np.ndarray:
    """(arms, n) differences from one shared base; the first ``real`` arms are 3 SD better."""
    values = random.standard_normal((arms, n)) - random.standard_normal(n)
    values[:real] += 3 * math.sqrt(2)
    return values


def simulate(studies: int = STUDIES) -> Iterator[Row]:
    """Every row of the benchmark."""
    few = max(1, studies // 4)                     # the bootstrap takes a hundred times as long
    for n, spread in itertools.product((3, 5, 6, 7, 8, 10, 12), DIFFERENCES):
        # Student's t below 6 seeds is for normal differences; the sign-flip interval for any symmetric ones
        yield coverage(n, "auto", spread, studies, promised=spread == "normal" or (n >= 6 and "skewed" not in spread))
    for n, spread in itertools.product((16, 25), ("normal", "Laplace")):
        yield coverage(n, "auto", spread, few)
    for method, n in itertools.product(("t", "bootstrap"), (6, 8, 10, 12, 20, 25)):
        yield coverage(n, method, "normal", studies if method == "t" else few, promised=method == "t")
    for n, (arms, real) in itertools.product((6, 8, 10, 12), ((1, 0), (5, 0), (5, 2))):
        yield family_error(n, arms, studies, real=real)
    yield family_error(8, 5, studies, corrected=False)
    yield tie_error(12, 5, few)
    for plan, real in ((SequentialPlan(6, 12, 3), 0), (SequentialPlan(6, 13, 8), 0),
                       (SequentialPlan(8, 12, 3, comparisons=5), 0), (SequentialPlan(8, 13, 6, comparisons=5), 0),
                       (SequentialPlan(8, 13, 6, comparisons=5), 2)):
        yield sequential_error(plan, studies, real=real)
    yield sequential_error(SequentialPlan(8, 20, 13, comparisons=5), few)
    yield sequential_error(SequentialPlan(6, 13, 8), studies, corrected=False)
    yield sequential_error(SequentialPlan(8, 13, 6, comparisons=5), studies, corrected=False)
    for comparisons, analyses, effect in itertools.product((1, 5), (3, 6), (1.0, 1.5)):
        yield from sequential_power(SequentialPlan(8, 13, analyses, comparisons=comparisons), effect, few)
    for n, comparisons in itertools.product((6, 8, 10, 12, 13, 16, 20), (1, 5)):
        if n >= smallest_n(comparisons=comparisons):
            yield power_at_stated_effect(n, comparisons, studies)
    for effect, comparisons in itertools.product((0.7, 1.0, 1.5, 3.0), (1, 5)):
        yield power_at_stated_seeds(effect, comparisons, studies)


def markdown(rows: list[Row], seconds: float) -> str:
    """The table, a heading per question, and the machine."""
    machine = capture_environment("cpu")
    broken = sum(row.kept == "NO" for row in rows)
    promised = sum(row.kept != "shown" for row in rows)
    lines = ["# Do the statistics hold what they promise?", "",
             f"{promised - broken} of {promised} promises kept, within {SLACK} standard errors of the simulation "
             "(brackets). Normal differences with SD 1 unless a row says otherwise. Rows marked \"shown\" promise "
             "nothing: they are alternatives, or the default interval where its assumption does not hold (symmetric "
             "differences from 6 seeds on, normal ones below), so that it is seen what that costs.", "",
             "Made by `python bench.py page statistics` in "
             f"{seconds:.0f} s, one thread, on {machine['cpu']}, Python {platform.python_version()}, numpy "
             f"{np.__version__}, scipy {scipy.__version__}. Random seeds are fixed."]
    for question, group in itertools.groupby(rows, key=lambda row: row.question):
        lines += ["", f"## {question[0].upper()}{question[1:]}", "",
                  "| setting | n | studies | found | promised | kept |", "|---|---:|---:|---:|---:|---|"]
        for row in group:
            promise = "" if math.isnan(row.low) else f"{row.low:g} to {row.high:g}"
            lines.append(f"| {row.setting} | {row.n} | {row.studies} | {row.found:.3f} ({row.error:.3f}) | {promise} | "
                         f"{row.kept} |")
    return "\n".join(lines) + "\n"


def main(folder: Path = PAGE, studies: int = STUDIES) -> None:
    """Simulate ``studies`` per row with a known truth and write what share of them the statistics got right."""
    started, rows = time.perf_counter(), []
    for row in simulate(studies):
        rows.append(row)
        print(f"{row.kept:5}  {row.found:.3f}  n = {row.n:<3} {row.question}: {row.setting}", flush=True)
    rows.sort(key=lambda row: row.question)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "simulations.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)] + ["kept"], lineterminator="\n")
        table.writeheader()
        table.writerows({**asdict(row), "kept": row.kept} for row in rows)
    (folder / "README.md").write_text(markdown(rows, time.perf_counter() - started), encoding="utf-8")
