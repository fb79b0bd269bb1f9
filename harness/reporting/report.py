"""An output folder -> tables, figures, contact sheets and one HTML file that says what they show.

A folder with a ``study.json`` leads with the study. No torch import: a report of hundreds of records takes a
laptop seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.ablation.manifest import read_manifest
from harness.analysis.cases import read_cases
from harness.analysis.comparison import Group, with_figures
from harness.analysis.scaling_findings import ScalingFindings, scaling_findings
from harness.analysis.scaling_tables import exponents_table
from harness.analysis.study_parts import StudyFindings, smallest_that_matters, study_and_groups
from harness.errors import InputError
from harness.reporting import page
from harness.reporting.contact_sheet import write_sheet
from harness.reporting.page import PageSection, Pictures
from harness.reporting.plots import arm_styles, write_plots
from harness.reporting.scaling_plots import draw_scaling
from harness.reporting.study_plots import write_case_plot, write_forest
from harness.reporting.table_files import (
    print_comparisons,
    print_notes,
    print_study,
    print_table,
    write_scaling_table,
    write_study_tables,
    write_tables,
)
from harness.run_files import read_runs

FEW = 1000                                         # records; case by case views of more would take minutes to read


@dataclass(frozen=True)
class Report:
    """What was written, and what it says."""

    out: Path
    html: Path
    tables: list[Path]                             # table.csv, table.md, table.tex, and study-table.*
    plots: list[Path]                              # PNG figures and contact sheets
    groups: list[Group]                            # comparisons, without those of a study
    study: StudyFindings | None
    scaling: ScalingFindings | None                # of the runs of the efficiency suite
    conclusions: list[str]                         # one for each part of the study, each condition and each group
    problems: list[str]                            # what could not be read, one line each

    def print_to(self, console: Console) -> None:
        """Print the tables, the conclusions, what could not be read and where the files are."""
        if self.study is not None:
            print_study(console, self.study)
        if self.groups:
            print_comparisons(console, self.groups)
        if self.scaling is not None and self.scaling.several_sizes:
            exponents = exponents_table(self.scaling.scaling)
            print_table(console, exponents)
            print_notes(console, exponents.notes)
        for text in self.conclusions:
            console.print(Text(text, style="bold"))
        for problem in self.problems:
            console.print(Text(f"left out: {problem}", style="red"))
        console.print(Text(f"\nreport: {self.html}"))


def write_report(out: Path) -> Report:
    """Read every record of ``out`` and write tables, ``plots/`` and ``report.html`` into ``out``.

    What cannot be read is named in the report and left alone.

    Raises
    ------
    InputError
        Where ``out`` is no results folder, holds no readable record or a ``study.json`` that cannot be read,
        or cannot be written.
    """
    found, problems = read_runs(out)
    study, groups = study_and_groups(out, read_manifest(out), found)
    scaling = scaling_findings(found, out)
    try:
        tables = write_tables(out, [*(study.groups if study else []), *groups])
        tables += write_study_tables(out, study) if study else []
        tables += write_scaling_table(out, scaling) if scaling else []
        sections, plots = draw(out / "plots", study, groups, scaling, cases=len(found) <= FEW)
        problems += [*(study.problems if study else []), *(scaling.problems if scaling else [])]
        problems += [problem for group in [*(study.groups if study else []), *groups]
                     for problem in dict.fromkeys(group.problems)]
        problems = [problem.replace(f"{out}/", "") for problem in problems]  # a report may be given away
        html = out / "report.html"
        html.write_text(page.render(study, scaling, sections, problems, found), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report into {out}: {error}") from None
    conclusions = [part.conclusion for part in study.parts] if study else []
    conclusions += filter(None, scaling.conclusions if scaling else [])
    conclusions += [section.conclusion for section in sections if section.short and section.conclusion]
    return Report(out, html, tables, plots, groups, study, scaling, conclusions, problems)


def draw(folder: Path, study: StudyFindings | None, groups: list[Group], scaling: ScalingFindings | None, *,
         cases: bool) -> tuple[list[PageSection], list[Path]]:
    """Write all figures and pictures into ``folder``; give the sections of the page, and the files.

    ``cases``: whether per-case files are read.
    """
    every = [*(study.groups if study else []), *groups]
    styles = arm_styles([*every, *(scaling.scaling.conditions if scaling else [])])
    colours = {label: style.colour for label, style in styles.items()}
    drawn, pictures = with_figures(every), {}
    for group in every:
        pictures[group.slug] = Pictures()
        if group.id in drawn:
            plots, sheet = write_plots(folder, group, styles), write_sheet(folder, group)
            found = read_cases(group) if cases else None
            pictures[group.slug] = Pictures(plots, sheet, found,
                                            write_case_plot(folder, group.slug, found, styles) if found else [])
    matters = smallest_that_matters(study) if study else {}
    forests = {part.ident: write_forest(folder, part, styles, matters.get(part.ident))
               for part in (study.parts if study else ())}
    curves = draw_scaling(folder, scaling.scaling, styles) if scaling else []
    sections = page.study(study, forests, pictures, colours) if study else []
    sections += [page.scaling(scaling, curves, colours)] if scaling else []
    said = bool(scaling and any(scaling.conclusions))          # of a cell of the efficiency suite the sweep's says more
    sections += [page.comparison(group, pictures[group.slug], colours,
                                 leads=not (said and group.runs[0].record.spec.suite == "efficiency"))
                 for group in groups]
    paths = [plot.path for plots in (*forests.values(), *(plots for _, plots in curves)) for plot in plots]
    for one in pictures.values():
        paths += [plot.path for plot in (*one.plots, *one.case_plots)] + ([one.sheet.path] if one.sheet else [])
    return sections, paths
