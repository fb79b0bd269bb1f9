"""Every registered network at the size of ``plain``: ``python bench.py page matching`` -> results/matching/.

Parameters and MACs are counted on the meta device at the shapes of both suites' quick profile. Beside each
match stands how near whole channels of ``width`` alone would come.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import variants
from harness.ablation.matching import TOLERANCE, Match, match_width, measured
from harness.ablation.size_search import LABELS, WIDTH

PAGE = Path(__file__).parent.parent.parent / "results" / "matching"
BASE = "plain"
PROFILE = "quick"
QUANTITIES = ("params", "macs")
COLUMNS = ("suite", "quantity", "variant", "target", "value", "error_percent", "options", "width_alone_percent",
           "within", "reason", "tried")
OPENING = f"""# Networks of equal size

Each registered network, made larger or smaller until it meets `{BASE}` within
{100 * TOLERANCE["params"]:g} % in parameters or in multiply-accumulates of one forward pass.
`python bench.py page matching` makes this page again; `matched_widths.csv` holds it as data.

"as it is": the network meets `{BASE}` at the width that it shares with it. Otherwise the options are those that its
`build()` is given instead: channels per level in the network's own proportions, rounded to what GroupNorm and
attention heads divide (multiples of 4, of 8 above 128, of 16 above 256), single levels moved by one step only
where no common factor comes near enough; for transformers the channels of a token and, within a quarter, the
ratio of the MLP. "By width alone" is how near whole channels of `width` come, without any of this.
"""


def suite_case(suite: str) -> tuple[dict, tuple, str]:
    """build()'s arguments and meta inputs in ``suite`` with its profile's data and width; and both in words."""
    from harness import suites
    from harness.plan import load_data, read_profile
    from harness.spec import DataSpec

    profile = read_profile(PROFILE, suite)
    data = load_data(DataSpec(name=profile.dataset, options=profile.data_options), suite)
    module = suites.registry.load(suite)
    settings = module.Settings(**profile.settings)
    arguments = {**module.network_arguments(data, settings), **profile.options}
    shape = "x".join(map(str, (*data.image_size, data.channels)))
    told = [f"width {arguments['width']}", *(["time step"] if arguments.get("time") else []),
            *([f"{arguments['context_dim']} classes as context"] if arguments.get("context_dim") else [])]
    return arguments, module.example_inputs(data, settings, 1, "meta"), (
        f"{suite}: {shape} -> {arguments['out_channels']} channels, {', '.join(told)}")


def by_width_alone(factory: Callable) -> Callable:
    """``factory`` of networks that do not say how to be sized."""
    def build(*, width=WIDTH, **arguments):
        model = factory(width=width, **arguments)
        model.sizes = None
        return model
    return build


def matches(arguments: dict, inputs: tuple, base: str = BASE) -> Iterator[tuple[str, Match, Match]]:
    """(variant, match, match by width alone) of every registered network and counted quantity."""
    for quantity in QUANTITIES:
        target = measured(variants.registry.load(base).build, arguments, inputs, quantity)
        for name in variants.names():
            factory = variants.registry.load(name).build
            yield (name, match_width(factory, arguments, inputs, quantity, target),
                   match_width(by_width_alone(factory), arguments, inputs, quantity, target))


def percent(match: Match) -> str:
    return "" if match.error is None else f"{100 * match.error:+.2f}"


def line(suite: str, name: str, match: Match, alone: Match) -> dict:
    """A row of matched_widths.csv."""
    options = "; ".join(f"{key}={value}" for key, value in match.options.items()) or "as it is"
    return {"suite": suite, "quantity": match.quantity, "variant": name, "target": match.target, "value": match.value,
            "error_percent": percent(match), "options": options, "width_alone_percent": percent(alone),
            "within": match.within, "reason": match.reason, "tried": match.tried}


def page(sections: list[tuple[str, list[dict]]]) -> str:
    """The page in Markdown: a summary, then for each suite and quantity a table of its rows."""
    rows = [row for _, lines in sections for row in lines]
    met = sum(row["within"] for row in rows)
    alone = sum(abs(float(row["width_alone_percent"] or "inf")) <= 100 * TOLERANCE[row["quantity"]] for row in rows)
    worst = max((abs(float(row["error_percent"])) for row in rows if row["within"]), default=0.0)
    parts = [OPENING, f"**{met} of {len(rows)}** are met, none of them off by more than {worst:.2f} %; by width alone "
             f"it would be {alone}.\n"]
    for title, lines in sections:
        for quantity in QUANTITIES:
            chosen = [row for row in lines if row["quantity"] == quantity]
            parts += [f"## {title}: {LABELS[quantity]}, {BASE} {chosen[0]['target']:,}\n",
                      f"| variant | {LABELS[quantity]} | error, % | options | by width alone, % |",
                      "|---|--:|--:|---|--:|"]
            parts += [f"| {row['variant']} | {row['value']:,} | {row['error_percent']} | "
                      f"{row['options'] if row['within'] else 'not met: ' + row['reason']} | "
                      f"{row['width_alone_percent']} |" for row in chosen]
            parts.append("")
    return "\n".join(parts)


def main(folder: Path = PAGE) -> None:
    """Write README.md and matched_widths.csv into ``folder``."""
    from harness import suites

    sections = []
    trained = [name for name in suites.registry.names() if suites.registry.constant(name, "CURVES")]
    for suite in trained:
        arguments, inputs, title = suite_case(suite)
        sections.append((title, [line(suite, *found) for found in matches(arguments, inputs)]))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "matched_widths.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for _, lines in sections for row in lines)
    (folder / "README.md").write_text(page(sections), encoding="utf-8")
