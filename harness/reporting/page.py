"""What is known of a results folder -> the sections of its page: blocks that ``report.html.j2`` shows. No torch import.

A block is a table, figures, pictures, facts, claims, a certificate, commands, words, or a fold that holds others.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from harness.analysis.cases import Cases, cases_table
from harness.analysis.claims import FAMILY, Verdict
from harness.analysis.comparison import Group
from harness.analysis.comparison_tables import cost_table, failures, metrics_table, per_class_tables, summary_table
from harness.analysis.conclusions import conclusion
from harness.analysis.scaling import Condition
from harness.analysis.scaling_findings import ScalingFindings
from harness.analysis.scaling_tables import exponents_table, lost_table
from harness.analysis.study_parts import StudyFindings, StudyPart
from harness.analysis.study_tables import part_tables, raw_table
from harness.analysis.table import Table
from harness.reporting.contact_sheet import Sheet
from harness.reporting.group_view import beyond_command, budget, environment, protocols, reproduce
from harness.reporting.plots import Plot
from harness.reporting.table_files import TEMPLATES
from harness.run_files import Run

BEYOND = "Options or budgets beyond this command are in the spec of each runs/<run_id>/record.json."
AGAIN = ("DIR is this report's folder, RUN a run's name in the raw numbers. The full specification of a run is in "
         "runs/RUN/record.json, that of the study in study.json.")


@dataclass(frozen=True)
class Block:
    """One thing on the page: its ``kind`` names the macro that shows ``content``."""

    kind: str
    content: Any
    title: str = ""
    filtered: bool = False                         # of a table: the page offers to filter its rows


@dataclass(frozen=True)
class PageSection:
    """One section of the page, with what the contents and the top of the page say of it."""

    ident: str
    title: str
    blocks: list[Block]
    short: str = ""                                # in the contents; "" = the title
    conclusion: str = ""
    leads: bool = True                             # the conclusion stands at the top of the page


@dataclass(frozen=True)
class Pictures:
    """Figures and pictures of one comparison."""

    plots: list[Plot] = field(default_factory=list)
    sheet: Sheet | None = None
    cases: Cases | None = None
    case_plots: list[Plot] = field(default_factory=list)


def comparison(group: Group, pictures: Pictures, colours: Mapping[str, str], *, leads: bool) -> PageSection:
    """Lay out a comparison of runs that belong to no study."""
    lost = failures(group)
    blocks = [*table_blocks([summary_table(group, colours)], filtered=True), *table_blocks([lost], titled=True),
              *details(group, pictures, colours), Block("commands", [("", reproduce(group))], "To run it again"),
              *([Block("words", BEYOND)] if beyond_command(group) else [])]
    return PageSection(group.slug, group.title, blocks, cell_words(group.title), conclusion(group), leads)


def details(group: Group, pictures: Pictures, colours: Mapping[str, str]) -> list[Block]:
    """Lay out what every comparison shows beyond its first table."""
    by_class = per_class_tables(group, colours)
    blocks = [Block("figures", pictures.plots), *([Block("sheet", pictures.sheet)] if pictures.sheet else []),
              *([Block("words", "", "By class")] if by_class else []), *(Block("table", table, table.title)
                                                                        for table in by_class)]
    if pictures.cases is not None:
        blocks += [Block("table", cases_table(pictures.cases), "Case by case"), Block("figures", pictures.case_plots)]
    blocks += table_blocks([metrics_table(group, colours), cost_table(group, colours)], titled=True)
    facts = {"What was run": budget(group), "How the numbers were measured": protocols(group),
             "Where it ran": environment(group)}
    return blocks + [Block("facts", found, title) for title, found in facts.items() if found]


def study(found: StudyFindings, figures: Mapping[str, list[Plot]], pictures: Mapping[str, Pictures],
          colours: Mapping[str, str]) -> list[PageSection]:
    """Lay out a study: its parts, claims, certificate, every number, and how to get each again.

    ``figures`` are those of a part by its ident, ``pictures`` those of a part's comparison by its slug.
    """
    sections = [part_section(part, figures[part.ident], colours) for part in found.parts]
    if found.claims:
        sections.append(PageSection("claims", "Claims of the literature", claim_blocks(found.claims), "Claims"))
    if found.statements:
        sections.append(PageSection("certificate", "Certificate: was the comparison fair?",
                                    [Block("certificate", found.statements)], "Certificate"))
    for part in found.parts:
        if part.group is not None:
            blocks = [*table_blocks([summary_table(part.group, colours)]),
                      *details(part.group, pictures[part.group.slug], colours)]
            if part.result is not None:
                raw = raw_table(part.result, part.group)
                blocks.append(Block("fold", table_blocks([raw], filtered=True), f"Raw numbers of {len(raw.rows)} runs"))
            sections.append(PageSection(f"{part.ident}-details", f"{part.title}: every number", blocks))
    command = found.manifest.command
    commands = [("all runs and this report; what is finished is not run again", command),
                ("one number: remove its run (the raw numbers name it) and repeat the command; only that run is made",
                 f"rm -r DIR/runs/RUN && {command}"),
                ("this report from the records", "python bench.py report DIR"),
                ("check: every number here, computed again from records and cases", "python bench.py verify DIR")]
    again = "How to get each number again"
    return [*sections, PageSection("again", again, [Block("commands", commands), Block("words", AGAIN)])]


def part_section(part: StudyPart, figures: list[Plot], colours: Mapping[str, str]) -> PageSection:
    """Lay out one part of a study: arms against the base, figures, the other tables, runs that did not finish."""
    tables = part_tables(part, colours)
    blocks = [*table_blocks(tables[:1], filtered=True), Block("figures", figures),
              *table_blocks(tables[1:], titled=True)]
    lost = failures(part.group) if part.group else None
    return PageSection(part.ident, part.title, [*(blocks if tables else [Block("notice", part.problem)]),
                                                *table_blocks([lost], titled=True)], conclusion=part.conclusion)


def scaling(found: ScalingFindings, figures: Sequence[tuple[Condition, list[Plot]]],
            colours: Mapping[str, str]) -> PageSection:
    """Lay out cost against resolution: figures of each condition, exponents, lost runs, claims."""
    blocks = []
    for (condition, plots), said in zip(figures, found.conclusions):
        title = condition.title[:1].upper() + condition.title[1:]
        if plots and not blocks:
            blocks.append(Block("figures", plots, title))
        elif plots:
            blocks.append(Block("fold", [Block("words", said), Block("figures", plots)], title))
    without = len(found.scaling.conditions) - len(figures)
    if without:
        blocks.append(Block("words", f"No figures of {without} more condition{'s' if without != 1 else ''}."))
    if found.several_sizes:
        blocks += table_blocks([exponents_table(found.scaling, colours)], titled=True, filtered=True)
    blocks += table_blocks([lost_table(found.scaling)], titled=True)
    if found.claims:
        blocks += claim_blocks(found.claims, "Claims of the literature about cost and resolution")
    return PageSection("scaling", found.title, blocks)


def table_blocks(tables: Iterable[Table | None], *, titled: bool = False, filtered: bool = False) -> list[Block]:
    """Make a block of each table that there is."""
    return [Block("table", table, table.title if titled else "", filtered) for table in tables if table is not None]


def claim_blocks(claims: Sequence[Verdict], title: str = "") -> list[Block]:
    """Make a block of verdicts, each with what it rests on and does not reach, and one of how they were tested."""
    facts = [(claim, [(name, text) for name, text in (
        ("why", claim.why), ("numbers", claim.numbers), ("asked", claim.asked), ("measured on", claim.measured),
        ("scale", claim.scale), ("source", claim.source)) if text]) for claim in claims]
    return [Block("claims", facts, title), Block("words", FAMILY)]


def cell_words(title: str) -> str:
    """Shorten a comparison's title in a list of many: of a cell of the efficiency suite, what tells it from others."""
    found = re.fullmatch(r"Efficiency on \S+ \((.*)\)", title)
    return re.sub(r"\b(settings|train)\.", "", found[1]).replace(" = ", " ") if found else title


def render(found: StudyFindings | None, scaled: ScalingFindings | None, sections: Sequence[PageSection],
           problems: Sequence[str], runs: Sequence[Run]) -> str:
    """Write the page: conclusions first, then its sections, in one file that needs no other."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(safe_svg=lambda plot: Markup(plot.svg),
                               data_uri=lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}")
    script, records = (TEMPLATES / "report.js").read_text(encoding="utf-8"), [run.record for run in runs]
    # lets a page's policy run this inline script and no other
    script_hash = f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
    comparisons = [section for section in sections if section.short and section.conclusion]
    return environment.get_template("report.html.j2").render(
        study=found, profile=Path(found.manifest.profile).name if found else "", seeds=seeds_words(found),
        scaling=scaled, comparisons=comparisons, sections=sections, problems=problems, runs=len(records),
        unfinished_runs=sum(record.status != "ok" for record in records),
        latest=max(record.started for record in records)[:10], script=Markup(script), script_hash=script_hash)


def seeds_words(found: StudyFindings | None) -> str:
    """Say how many seeds a study has, and how it came to them."""
    if found is None:
        return ""
    manifest = found.manifest
    added = f", added until decided, at most {manifest.interim_analyses.max_seeds}" if manifest.interim_analyses else ""
    return f"{len(manifest.seeds)} seeds{added}"
