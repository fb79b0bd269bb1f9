"""A benchmark as people read it: tables on a terminal, and README.md beside ``benchmark.json``. No torch import."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from harness.benchmark.result import FILE, Benchmark, Check, Comparison, Contest, Contestant, Trial

PAGE = "README.md"
TIMED = ("contestant", "parameters", "MACs per image", "median", "IQR", "images/s", "GFLOP/s")
NOT_ON_A_TERMINAL = ("parameters", "IQR", "by")    # so that 80 characters are enough
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
Rows = list[tuple[str, ...]]


def duration(seconds: float) -> str:
    """0.0123 -> "12.3 ms"."""
    unit, factor = next(((unit, factor) for unit, factor in UNITS if seconds >= factor), UNITS[-1])
    return f"{seconds / factor:.3g} {unit}"


def count(number: int | None) -> str:
    """1587445760 -> "1.587 G"; nothing where it is not known."""
    if number is None:
        return ""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return str(number)


def contestant_row(who: Contestant) -> tuple[str, ...]:
    quartiles = statistics.quantiles(who.seconds, n=4, method="inclusive") if len(who.seconds) > 1 else []
    return (who.label, count(who.parameters), count(who.macs), duration(who.median_s),
            duration(quartiles[2] - quartiles[0]) if quartiles else "",
            f"{who.images / who.median_s:.4g}" if who.images else "",
            f"{who.flops / who.median_s / 1e9:.4g}" if who.flops else "")


def shown(comparison: Comparison, value: float) -> str:
    if comparison.kind == "speedup":
        return f"{value:.2f}"
    return f"{100 * value:{'+' if comparison.kind == 'overhead' else ''}.1f} %"


def ratio_heads(trial: Trial) -> tuple[str, ...]:
    """What a trial's numbers say: they are all of one subject and kind."""
    first = trial.comparisons[0]
    says = {"speedup": f"times as fast{' per MAC' if first.per_mac else ''} as", "overhead": "longer than",
            "share": "share of"}[first.kind]
    return f"{trial.contestants[first.subject].label}: {says}", "median", "95 % interval", "by", "rounds", "goal"


def ratio_row(comparison: Comparison, trial: Trial) -> tuple[str, ...]:
    interval, goal = ("none", ""), ""
    if comparison.low is not None and comparison.high is not None:
        interval = f"{shown(comparison, comparison.low)} to {shown(comparison, comparison.high)}", comparison.method
    if comparison.goal is not None:
        sign = "≥" if comparison.kind == "speedup" else "≤"
        goal = f"{sign} {shown(comparison, comparison.goal).lstrip('+')}: {comparison.verdict}"
    return (trial.contestants[comparison.other].label, shown(comparison, comparison.value), *interval,
            str(comparison.n), goal)


def check_line(check: Check) -> str:
    return f"{check.what} {check.value:.2g}, at most {check.limit:.2g}: {'they agree' if check.ok else 'THEY DIFFER'}"


def notes(contest: Contest) -> list[str]:
    """Lines below a contest's tables: do the outputs agree, who is absent, what went wrong."""
    failed = [f"this contest did not end: {contest.error}"] if contest.error else []
    return [*(check_line(check) for check in contest.checks), *(f"absent: {line}" for line in contest.absent), *failed]


def trial_tables(trial: Trial, leave_out: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Rows]]:
    """(heads, rows) of who was timed and of what it says; a column that is empty or in ``leave_out`` is not there."""
    found = []
    for heads, rows in ((TIMED, [contestant_row(who) for who in trial.contestants.values()]),
                        (ratio_heads(trial), [ratio_row(comparison, trial) for comparison in trial.comparisons])):
        kept = [i for i, head in enumerate(heads) if head not in leave_out and any(row[i] for row in rows)]
        found.append((tuple(heads[i] for i in kept), [tuple(row[i] for i in kept) for row in rows]))
    return found


def show(contest: Contest, console: Console) -> None:
    """On a terminal."""
    for trial in contest.trials:
        for heads, rows in trial_tables(trial, leave_out=NOT_ON_A_TERMINAL):
            title = f"{contest.name}, {trial.name}" if heads[0] == TIMED[0] else heads[0]
            table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
            for j, head in enumerate(("", *heads[1:])):
                table.add_column(head, justify="left" if j == 0 else "right", no_wrap=True)
            for row in rows:
                table.add_row(*row)
            console.print(table)
    for line in notes(contest):
        console.print(f"{contest.name}: {line}", soft_wrap=True)


def machine(env: dict) -> str:
    """The computer and what ran on it, in a line."""
    memory = f"{env['memory_bytes'] / 2 ** 30:.0f} GiB" if env.get("memory_bytes") else ""
    packages = ", ".join(f"{name} {version}" for name, version in env["packages"].items())
    parts = [env.get("gpu", ""), env["cpu"], f"{env['cores']} cores", memory, env["system"],
             f"Python {env['python']}", f"{env['threads']} threads used" if env.get("threads") else "", packages]
    return ", ".join(filter(None, parts))


def markdown(heads: Iterable[str], rows: Rows) -> str:
    heads = list(heads)
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(benchmark: Benchmark) -> str:
    """The page in Markdown."""
    commit = benchmark.env.get("git") or "unknown"
    parts = [f"""# Benchmark

`python bench.py benchmark` makes this page; `{FILE}` holds every timing. Device {benchmark.device}, this project in
{benchmark.precision}; {benchmark.started}, {benchmark.duration_s / 60:.1f} minutes; commit {commit}\
{' with changes' if benchmark.env.get('dirty') else ''}.

Contestants take turns in one process, in one order and then in the opposite one, so that whatever else the machine
does meets them alike. Every round gives a ratio of two times; shown is the rounds' median with its 95 % interval: by
the sign test from six rounds on, by Student's t on logarithms below. Ours run on the path that is the default here
({benchmark.precision}, channels last, fused AdamW); the peers run as their documentation shows it, eager in float32,
and again under autocast. On Linux this process keeps freed memory, as runs here do by default; the peers have that
advantage in here, too, which they would not have in a program of their own. A training step counts as three forward
passes in GFLOP/s.

Machine: {machine(benchmark.env)}.
"""]
    for contest in benchmark.contests:
        parts.append(f"## {contest.name.capitalize()}\n\n{contest.setting}\n")
        for trial in contest.trials:
            calls = f" ({trial.calls_per_turn} calls a turn)" if trial.calls_per_turn > 1 else ""
            parts.append(f"### {trial.name.capitalize()}{calls}\n")
            parts += [markdown(heads, rows) + "\n" for heads, rows in trial_tables(trial)]
        parts += [f"- {line}" for line in notes(contest)] + [""] * bool(notes(contest))
    return "\n".join(parts).rstrip() + "\n"


def write_page(folder: Path, benchmark: Benchmark) -> None:
    """Write README.md into ``folder``."""
    (folder / PAGE).write_text(page(benchmark), encoding="utf-8")
