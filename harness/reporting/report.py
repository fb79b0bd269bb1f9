"""An output folder -> tables, figures, contact sheets and one HTML file that says what they show.

A folder with a ``study.json`` leads with the study. No torch import: a report of hundreds of records takes a
laptop seconds.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich.console import Console
from rich.text import Text

from harness.ablation.manifest import read_manifest
from harness.analysis.answers import answer
from harness.analysis.claims import FAMILY
from harness.analysis.comparison import Group, Run, group_runs, with_figures
from harness.errors import InputError
from harness.record import read_records
from harness.reporting.case_view import Cases, cases_grid, read_cases
from harness.reporting.contact_sheet import Sheet, write_sheet
from harness.reporting.group_view import beyond_command, budget, environment, protocols, reproduce
from harness.reporting.plots import Plot, arm_styles, write_plots
from harness.reporting.scaling_view import (
    ScalingView,
    cell_words,
    draw_scaling,
    exponents_grid,
    view_scaling,
    write_scaling_table,
)
from harness.reporting.study_files import print_grid, print_study, write_study_tables
from harness.reporting.study_plots import write_case_plot, write_forest
from harness.reporting.study_report import (
    StudyView,
    claim_facts,
    commands,
    part_grids,
    smallest_that_matters,
    view_study,
)
from harness.reporting.table_view import cost_table, failures, metrics_table, per_class_tables, summary_table
from harness.reporting.tables import TEMPLATES, print_tables, write_tables

FEW = 1000                                         # records; case by case views of more would take minutes to read


@dataclass(frozen=True)
class Report:
    """What was written, and what it says."""

    out: Path
    html: Path
    tables: list[Path]                             # table.csv, table.md, table.tex, and study-table.*
    plots: list[Path]                              # PNG figures and contact sheets
    groups: list[Group]                            # comparisons, without those of a study
    study: StudyView | None
    scaling: ScalingView | None                    # of the runs of the efficiency suite
    answers: list[str]                             # one for each part of the study, each condition and each group
    problems: list[str]                            # what could not be read, one line each

    def print_to(self, console: Console) -> None:
        """The tables, the answers, what could not be read and where the files are."""
        if self.study is not None:
            print_study(console, self.study)
        print_tables(console, self.groups)
        if self.scaling is not None and self.scaling.exponents is not None:
            console.print(Text(self.scaling.exponents.title, style="bold"))
            print_grid(console, self.scaling.exponents)
        for text in self.answers:
            console.print(Text(text, style="bold"))
        for problem in self.problems:
            console.print(Text(f"left out: {problem}", style="red"))
        console.print(Text(f"\nreport: {self.html}"))


@dataclass(frozen=True)
class Drawn:
    """One comparison and its pictures."""

    group: Group
    plots: list[Plot]
    sheet: Sheet | None
    cases: Cases | None
    case_plots: list[Plot]


def write_report(out: Path) -> Report:
    """Read every record under ``out/runs`` and write tables, ``plots/`` and ``report.html`` into ``out``.

    What cannot be read is named in the report and left alone.

    Raises
    ------
    InputError
        Where ``out`` is no results folder, holds no readable record or a ``study.json`` that cannot be read,
        or cannot be written.
    """
    runs = out / "runs"
    if not runs.is_dir():
        raise InputError(f"{out} is not a results folder: expected records at {runs}/<run_id>/record.json")
    records, problems = read_records(runs)
    if not records:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"no readable record under {runs}" + (f": {problems[0]}{more}" if problems else ""))
    found = [Run(record, runs / record.run_id) for record in records]
    manifest = read_manifest(out)
    study = view_study(out, manifest, found) if manifest else None
    groups = group_runs(list(study.others) if study else found)
    every = [*(study.groups if study else []), *groups]
    scaling = view_scaling(found, out)
    styles = arm_styles([*every, *(scaling.scaling.conditions if scaling else [])])
    pictured = with_figures(every)
    try:
        tables = write_tables(out, every) + (write_study_tables(out, study) if study else [])
        tables += write_scaling_table(out, scaling) if scaling else []
        drawn = {group.slug: _draw(out / "plots", group, styles, cases=len(records) <= FEW)
                 if group.id in pictured else Drawn(group, [], None, None, []) for group in every}
        matters = smallest_that_matters(study) if study else {}
        forests = {part.ident: write_forest(out / "plots", part, styles, matters.get(part.ident))
                   for part in (study.parts if study else ())}
        grown = draw_scaling(out / "plots", scaling, styles) if scaling else []
        problems += [*(study.problems if study else []), *(scaling.problems if scaling else [])]
        problems += [problem for group in every for problem in dict.fromkeys(group.problems)]
        problems = [problem.replace(f"{out}/", "") for problem in problems]  # a report may be given away
        html = out / "report.html"
        html.write_text(_page(study, scaling, grown, groups, drawn, forests, styles, problems, found), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report into {out}: {error}") from None
    pictures = [plot.path for plots in forests.values() for plot in plots]
    pictures += [plot.path for _, plots in grown for plot in plots]
    pictures += [plot.path for one in drawn.values() for plot in (*one.plots, *one.case_plots)]
    pictures += [one.sheet.path for one in drawn.values() if one.sheet is not None]
    answers = [part.answer for part in study.parts] if study else []
    answers += [*filter(None, scaling.answers if scaling else []), *(answer(group) for group in groups)]
    return Report(out, html, tables, pictures, groups, study, scaling, answers, problems)


def _draw(folder: Path, group: Group, styles, *, cases: bool) -> Drawn:
    plots, sheet = write_plots(folder, group, styles), write_sheet(folder, group)
    found = read_cases(group) if cases else None
    return Drawn(group, plots, sheet, found, write_case_plot(folder, group.slug, found, styles) if found else [])


def _page(study: StudyView | None, scaling: ScalingView | None, grown, groups: Sequence[Group],
          drawn: dict[str, Drawn], forests: dict[str, list[Plot]], styles, problems: list[str],
          runs: Sequence[Run]) -> str:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    records = [run.record for run in runs]
    return environment.get_template("report.html.j2").render(
        study=study and _study(study, drawn, forests, styles), scaling=scaling and _scaling(scaling, grown, styles),
        sections=[_section(drawn[group.slug]) for group in groups],
        styles=styles, problems=problems, claim_facts=claim_facts, claims_note=FAMILY, runs=len(records),
        unfinished_runs=sum(record.status != "ok" for record in records),
        latest=max(record.started for record in records)[:10], script=Markup(script), script_hash=_csp_hash(script))


def _csp_hash(script: str) -> str:
    """What lets a page's policy run this inline script and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _study(study: StudyView, drawn: dict[str, Drawn], forests: dict[str, list[Plot]], styles) -> dict[str, Any]:
    manifest, parts = study.manifest, []
    colours = {name: style.colour for name, style in styles.items()}
    for part in study.parts:
        parts.append({
            "id": part.ident, "title": part.title, "answer": part.answer, "problem": part.problem,
            "grids": part_grids(study, part, colours), "plots": _shown(forests[part.ident]),
            "failures": failures(part.group) if part.group else [],
            "details": _details(drawn[part.group.slug]) if part.group else None})
    seeds = f"{len(manifest.seeds)} seeds" + (f", added until decided, at most {manifest.looks.max_seeds}"
                                              if manifest.looks else "")
    return {"name": manifest.name, "title": manifest.study.title, "question": manifest.study.question,
            "profile": Path(manifest.profile).name, "seeds": seeds, "parts": parts, "claims": study.claims,
            "certificate": study.statements, "commands": commands(study)}


def _scaling(view: ScalingView, grown, styles) -> dict[str, Any]:
    parts = [{"title": condition.title, "answer": said, "plots": _shown(plots)}
             for (condition, plots), said in zip(grown, view.answers)]
    return {"title": view.title, "answers": [said for said in view.answers if said], "parts": parts, "lost": view.lost,
            "exponents": view.exponents and exponents_grid(view.scaling, styles), "claims": view.claims,
            "without": len(view.scaling.conditions) - len(parts)}


def _section(drawn: Drawn) -> dict[str, Any]:
    group = drawn.group
    return {**_details(drawn), "id": group.slug, "suite": group.runs[0].record.spec.suite,
            "short": cell_words(group.title), "answer": answer(group), "failures": failures(group),
            "command": reproduce(group), "custom": beyond_command(group)}


def _details(drawn: Drawn) -> dict[str, Any]:
    group, sheet = drawn.group, drawn.sheet
    return {"title": group.title, "table": summary_table(group), "plots": _shown(drawn.plots),
            "sheet": sheet and {"caption": sheet.caption, "light": _data_uri(sheet.light),
                                "dark": _data_uri(sheet.dark)},
            "classes": per_class_tables(group), "metrics": metrics_table(group), "cost": cost_table(group),
            "cases": drawn.cases and cases_grid(drawn.cases), "case_plots": _shown(drawn.case_plots),
            "budget": budget(group), "protocols": protocols(group), "environment": environment(group)}


def _shown(plots: Sequence[Plot]) -> list[dict[str, Any]]:
    return [{"caption": plot.caption, "svg": Markup(plot.svg)} for plot in plots]


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
