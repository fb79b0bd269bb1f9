"""An output folder -> tables, figures, contact sheets and one HTML file that says what they show.

No torch import: a report of hundreds of records takes a laptop seconds.
"""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich.console import Console
from rich.text import Text

from harness.comparison import Arm, Group, Run, data_name, group_runs
from harness.contact_sheet import Sheet, write_sheet
from harness.errors import InputError
from harness.plots import Plot, arm_styles, write_plots
from harness.record import read_records
from harness.stats.intervals import CASES, Interval
from harness.table_view import (
    cost_table,
    failures,
    format_interval,
    format_value,
    per_class_tables,
    scale,
    summary_table,
)
from harness.tables import TEMPLATES, print_tables, write_tables


@dataclass(frozen=True)
class Report:
    """What was written, and what it says."""

    out: Path
    html: Path
    tables: list[Path]                             # table.csv, table.md, table.tex
    plots: list[Path]                              # PNG figures and contact sheets
    groups: list[Group]
    answers: list[str]                             # one for each group
    problems: list[str]                            # what could not be read, one line each

    def print_to(self, console: Console) -> None:
        """The answers, the tables, what could not be read and where the files are."""
        print_tables(console, self.groups)
        for answer in self.answers:
            console.print(Text(answer, style="bold"))
        for problem in self.problems:
            console.print(Text(f"left out: {problem}", style="red"))
        console.print(Text(f"\nreport: {self.html}"))


def write_report(out: Path) -> Report:
    """Read every record under ``out/runs`` and write tables, ``plots/`` and ``report.html`` into ``out``.

    What cannot be read is named in the report and left alone.

    Raises
    ------
    InputError
        Where ``out`` is no results folder, holds no readable record, or cannot be written.
    """
    runs = out / "runs"
    if not runs.is_dir():
        raise InputError(f"{out} is not a results folder: expected records at {runs}/<run_id>/record.json")
    records, problems = read_records(runs)
    if not records:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"no readable record under {runs}" + (f": {problems[0]}{more}" if problems else ""))
    groups = group_runs([Run(record, runs / record.run_id) for record in records])
    styles = arm_styles(groups)
    try:
        tables = write_tables(out, groups)
        drawn = [(group, write_plots(out / "plots", group, styles), write_sheet(out / "plots", group))
                 for group in groups]
        problems += [problem for group in groups for problem in dict.fromkeys(group.problems)]
        problems = [problem.replace(f"{out}/", "") for problem in problems]  # a report may be given away
        html = out / "report.html"
        html.write_text(_page(drawn, styles, problems), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report into {out}: {error}") from None
    pictures = [plot.path for _, plots, _ in drawn for plot in plots]
    pictures += [sheet.path for *_, sheet in drawn if sheet is not None]
    return Report(out, html, tables, pictures, groups, [answer(group) for group in groups], problems)


def answer(group: Group) -> str:
    """Who leads by how much, with interval, n and floor - or that the data cannot tell.

    Arms whose 95 % intervals overlap are not told apart; an arm without an interval is left open.
    """
    where = f"On {data_name(group.runs[0].record)}"
    lost = [run.record.status for run in group.runs if run.record.status != "ok"]
    lost_words = f" {len(lost)} of {len(group.runs)} runs did not finish." if lost else ""
    column = group.headline
    if column is None:
        return f"{where}, no run has a result.{lost_words}"
    found = ((arm, group.intervals[arm.label, column]) for arm in group.arms)
    ranked = [(arm, interval) for arm, interval in found if math.isfinite(interval.mean)]
    if not ranked:
        return f"{where}, {column.label} is undefined for every run.{lost_words}"
    (leader, best), others = ranked[0], ranked[1:]
    superlative = {"higher": "highest", "lower": "lowest", "none": "first listed"}[column.metric.direction]
    if not others:
        text = f"{where}, {leader.label} scores {column.label} {_value(best)}; nothing else can be ranked with it."
    else:
        tied = [(arm, interval) for arm, interval in others if best.overlaps(interval)]
        untold = [(arm, interval) for arm, interval in others if not (best.exists and interval.exists)]
        clear = [(arm, interval) for arm, interval in others if best.exists and interval.exists
                 and not best.overlaps(interval)]
        text = f"{where}, {leader.label} has the {superlative} {column.label}: {_value(best)}"
        if tied:
            text += f". It cannot be told apart from {_listed(tied)}: their 95 % intervals overlap."
        if clear:
            arm, second = clear[0]
            widest = max(best.half_width, second.half_width)
            gap = format_value(abs(second.mean - best.mean), widest).partition(" ")[0]
            side = "higher" if second.mean > best.mean else "lower"
            text += (f" The first clearly behind is {arm.label}: {_value(second)}, {gap} {side}." if tied else
                     f". Next is {arm.label}: {_value(second)}, {gap} {side}; the intervals do not overlap.")
        if untold and best.exists:
            text += f"{'' if tied or clear else '.'} {_listed(untold)}: one seed, no interval, so left open."
        elif untold:
            text += (f". With one seed no interval exists, so whether it is ahead is open; next is "
                     f"{_listed(untold[:1])}.")
    if best.method == CASES:
        text += " The interval is over test cases; how far another seed would land is unknown."
    floors = [metric.floor for arm in group.arms for run in arm.finished
              if (metric := column.of(run)) is not None and metric.floor is not None]
    if floors:
        text += f" Held-out real data scores {format_value(sum(floors) / len(floors))} (floor)."
    if column.mark:
        text += f" {column.metric.label} was measured under several protocols; only {column.mark} is ranked here."
    return text + lost_words


def _value(interval: Interval) -> str:
    over = "test case" if interval.method == CASES else "seed"
    return f"{format_interval(interval)} over {interval.n} {over}{'s' * (interval.n > 1)}"


def _listed(arms: list[tuple[Arm, Interval]], most: int = 4) -> str:
    texts = [f"{arm.label} ({format_interval(interval)})" for arm, interval in arms[:most]]
    if len(arms) > most:
        texts.append(f"{len(arms) - most} more")
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _page(drawn: list[tuple[Group, list[Plot], Sheet | None]], styles, problems: list[str]) -> str:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    sections = [{
        "id": group.slug, "title": group.title, "answer": answer(group), "table": summary_table(group),
        "plots": [{"caption": plot.caption, "svg": Markup(plot.svg)} for plot in plots],
        "sheet": sheet and {"caption": sheet.caption, "light": _data_uri(sheet.light),
                            "dark": _data_uri(sheet.dark)},
        "classes": per_class_tables(group), "cost": cost_table(group), "failures": failures(group),
        "budget": _budget(group), "protocols": _protocols(group), "environment": _environment(group),
        "command": reproduce(group), "custom": _not_in_command(group),
    } for group, plots, sheet in drawn]
    runs = [run.record for group, *_ in drawn for run in group.runs]
    return environment.get_template("report.html.j2").render(
        sections=sections, styles=styles, problems=problems, runs=len(runs),
        unfinished=sum(record.status != "ok" for record in runs),
        latest=max(record.started for record in runs)[:10])


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def reproduce(group: Group) -> str:
    """The command line that makes these runs again, as far as the command line can say it."""
    first = group.runs[0].record.spec
    words = ["python", "bench.py", "--suite", first.suite,
             "--variants", ",".join(dict.fromkeys(run.record.spec.variant for run in group.runs))]
    if first.data.name == "folder":
        words += ["--data", first.data.root or "DIR"]
    else:
        words += ["--dataset", first.data.name]
        words += ["--data-root", first.data.root] if first.data.root else []
    words += ["--seeds", str(max(len(arm.runs) for arm in group.arms))]
    words += ["--profile", first.profile] if first.profile else []
    return shlex.join([*words, "--device", first.device])


def _not_in_command(group: Group) -> bool:
    several = len({run.record.spec.variant for run in group.runs}) < len(group.arms)
    return several or not group.runs[0].record.spec.profile


def _budget(group: Group) -> list[tuple[str, str]]:
    """The options of the arms, and what all share: data, training budget, the suite's settings."""
    record = max((run.record for run in group.runs), key=lambda record: bool(record.data))
    data = {key: value for key, value in record.data.items() if key != "name"}
    training = {**record.spec.train.model_dump(), "device": record.spec.device}
    options = {arm.label: _words(arm.runs[0].record.spec.options) or "none" for arm in group.arms}
    same = len(set(options.values())) == 1
    options = {"every arm": next(iter(options.values()))} if same else options
    shared = {"options": options, "data": {"name": data_name(record), **data}, "training": training,
              "settings": record.spec.settings}
    return [(name, _words(values)) for name, values in shared.items() if values]


def _protocols(group: Group) -> list[tuple[str, str]]:
    """(columns, protocol) of the quality and cost columns that state one; equal protocols share a line."""
    found: dict[str, list[str]] = {}
    for column in group.columns:
        if column.metric.protocol:
            label = column.key.partition("/")[0] + " by class" if column.per_class else column.label
            labels = found.setdefault(_words(column.metric.protocol), [])
            labels += [label] if label not in labels else []
    return [(", ".join(labels), protocol) for protocol, labels in found.items()]


def _environment(group: Group) -> list[tuple[str, str]]:
    """Every fact about where the runs happened; where they differ, all of its values."""
    found: dict[str, dict[str, None]] = {}
    for run in group.runs:
        for key, value in {**run.record.env, "code": run.record.code}.items():
            if value is not None:
                found.setdefault(key, {})[_fact(key, value)] = None
    return [(key.removesuffix("_bytes"), " / ".join(values)) for key, values in found.items()]


def _fact(key: str, value: Any) -> str:
    if key.endswith("_bytes"):
        factor, unit = scale(value, "B")
        return f"{value * factor:.1f} {unit}"
    return _words(value) if isinstance(value, dict) else str(value)


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_words(value) if isinstance(value, dict) else _text(value)}"
                     for key, value in values.items())


def _text(value: Any) -> str:
    is_list = isinstance(value, Iterable) and not isinstance(value, str)
    return f"[{', '.join(map(str, value))}]" if is_list else str(value)
