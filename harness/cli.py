"""The command line. It checks names before anything heavy is imported, and never shows a traceback for input."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli_options import LOCAL_RESULTS, execution_options, given_options
from harness.cli_tools import benchmark, evaluate, inspect, page
from harness.errors import InputError
from harness.execution import Execution
from harness.terminal import OneLineErrors


@click.group(cls=OneLineErrors, invoke_without_command=True, context_settings={"max_content_width": 110})
@click.option("--suite", help="segmentation, generation or efficiency: what is done and how it is evaluated.")
@click.option("--variants", metavar="A,B,...",
              help="Registered networks, or all.  [default: the profile's seven]")
@click.option("--variant", "others", multiple=True, metavar="MODULE:FACTORY|FILE.py:CLASS",
              help="A network written elsewhere; may be given more than once.")
@click.option("--dataset", help="A registered data set (see: list).  [default: the profile's]")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR",
              help="Your own: images/ + masks/ to segment; a folder of images, or one per class, to generate.")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR",
              help="Where registered data sets lie that are not embedded (MNIST, CIFAR-10, ...).")
@click.option("--download", is_flag=True, help="Let such a data set be fetched into --data-root.")
@click.option("--seeds", type=int, help="Runs per network, with seeds 0, 1, ...  [default: the profile's]")
@click.option("--profile", default="quick", show_default=True, help="smoke, quick, standard, or a YAML file.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--precision", help="fp32, bf16 or fp16, by autocast; auto: what the device is fastest in.  "
              "[default: the profile's]")
@click.option("--inception-weights", type=click.Path(path_type=Path), metavar="FILE",
              help="Compute FID from Inception features with torch-fidelity's weights file.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="Where runs and report go.  [default: results/local/SUITE-DATA-PROFILE]")
@execution_options
@click.pass_context
def main(context: click.Context, suite: str | None, variants: str | None, others: tuple[str, ...],
         out: Path | None, how: Execution, track: tuple[str, ...], **asked) -> None:
    """Benchmark U-Net variants: python bench.py --suite generation"""
    given = [option.opts[0] for option in given_options(context)]
    if context.invoked_subcommand is not None:
        if given:
            raise InputError(f"{given[0]} stands before {context.invoked_subcommand!r}, which does not take it from "
                             f"there; its own options follow its name: {context.invoked_subcommand} --help")
        return
    if suite is None:
        if given:
            raise InputError(f"{given[0]} needs --suite, which says what is done: segmentation, generation, efficiency")
        click.echo(context.get_help())
        return
    from harness.plan import Request, check_names
    named = tuple(name.strip() for name in (variants or "").split(",") if name.strip())
    request = Request(suite=suite, variants=tuple(dict.fromkeys((*named, *others))), **asked)
    check_names(request)
    context.exit(run_suite(request, out, how, track))


def run_suite(request, out: Path | None, how: Execution, track: tuple[str, ...] = ()) -> int:
    """Plan, run, report; 2 where a run did not end well or a record could not be read, otherwise 0."""
    from rich.console import Console

    from harness import plan
    from harness.execute import execute, prepare
    from harness.executors.local import start_server
    from harness.progress import Display, say_of_data
    from harness.tracking import Tracking
    console = Console()
    start_server(how, request.suite)
    profile = plan.read_profile(request.profile, request.suite)
    spec = plan.data_spec(request, profile)
    if out is None:
        data_name = Path(spec.root).resolve().name if spec.name == "folder" else spec.name
        out = LOCAL_RESULTS / f"{request.suite}-{data_name}-{Path(request.profile).stem}"
    plan.device_and_precision(request, profile)    # refused before data are decoded, which may take minutes
    plan.check_importable(request)
    data = plan.load_data(spec, request.suite, out / "cache")
    specs = plan.make_plan(request, data, out / "cache")
    prepare(out)                                   # only now: what is refused leaves no empty results folder behind
    sweep = plan.swept(request, profile)

    def name(run) -> str:
        return ", ".join(filter(None, [plan.portable_variant(run.variant), plan.cell_name(run, sweep)]))

    networks, cells = (len(set(found)) for found in zip(*((run.variant, run.group_id()) for run in specs)))
    console.print(f"{request.suite} on {data.name}: {len(specs)} runs ({networks} networks"
                  f"{f' in {cells} cells' if sweep else ''}), results in {out}", highlight=False, markup=False)
    say_of_data(console, specs, data)
    with Display(console, len(specs)) as display:
        listener = Tracking(track, out, display)
        records = execute(specs, data, out, how=how,
                          listener=lambda run, **event: listener(run, name=name(run), **event))
    problems = show_report(out, console)
    bad = [record for record in records if record.status != "ok"]
    for record in bad:
        click.echo(f"{record.status}: {name(record.spec)}, seed {record.spec.seeds.init}: {record.error}", err=True)
    return 2 if bad or problems else 0


def show_report(out: Path, console) -> list[str]:
    """Write the report of ``out``, print its tables; the unreadable records, each said on a line."""
    from harness.reporting.report import write_report
    report = write_report(out)
    report.print_to(console)
    return report.problems


@main.command("list")
def list_command() -> None:
    """Networks, suites, data sets and profiles, a line each."""
    import variants
    from harness import datasets, suites
    from harness.plan import profile_names
    for title, registry in (("networks", variants.registry), ("suites", suites.registry),
                            ("data sets", datasets.registry)):
        click.echo(f"{title}:")
        for name in registry.names():
            click.echo(f"  {name:18s}{registry.describe(name)}")
    click.echo("profiles:\n  " + ", ".join(profile_names()))
    click.echo(f"presets: published configurations, see inspect NAME and {Path('results') / 'zoo' / 'README.md'}")


@main.command()
@click.argument("name", metavar="NAME|FILE.yaml", required=False)
@click.option("--dry-run", is_flag=True, help="Print the runs, their number and an estimate of time; run nothing.")
@click.option("--suite", default="", help="Only this one of the study's suites.")
@click.option("--seeds", metavar="N|auto", help="How many; auto adds seeds until the primary questions are decided.  "
              "[default: the study's]")
@click.option("--max-seeds", type=click.IntRange(min=1), metavar="N", help="The most that auto may add.  [default: 20]")
@click.option("--match", metavar="A,B,...", help="none, params, macs, latency: what all arms have alike; the study is "
              "run under each.  [default: the study's]")
@click.option("--tune", type=click.IntRange(min=0), metavar="N",
              help="Learning-rate trials for every arm, on validation data.  [default: the study's]")
@click.option("--dataset", help="A registered data set in place of the suite's (with --suite).")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="A folder of your own (with --suite).")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where registered data sets lie.")
@click.option("--download", is_flag=True, help="Let such a data set be fetched into --data-root.")
@click.option("--profile", default="quick", show_default=True, help="smoke, quick, standard, or a YAML file.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="Where runs and report go.  [default: results/local/ablate-NAME-PROFILE]")
@execution_options
def ablate(name: str | None, **asked) -> None:
    """Run an ablation study: a shipped one by name, or your own YAML file. Without NAME, list the shipped ones."""
    from harness.ablation.study import STUDIES, read_study, study_names
    if name is None:
        for known in study_names():
            click.echo(f"{known:18s}{read_study(known)[0].question}")
        click.echo(f"each is a file in {STUDIES.parent.name}/{STUDIES.name}")
        return
    from rich.console import Console

    from harness.ablation.ablate import AblateOptions
    from harness.ablation.ablate import ablate as run_study
    from harness.plan import Request
    request = Request(**{key: asked.pop(key) for key in ("suite", "dataset", "data", "data_root", "download", "profile",
                                                         "device")})
    sys.exit(run_study(AblateOptions(name, request, **asked), Console(), show_report))


@main.command()
@click.argument("names", metavar="[NAME|FILE.yaml]...", nargs=-1)
@click.option("--results", "folders", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Results of a study or of the efficiency suite; may be given more than once.  "
              "[default: all in results/ and results/local/]")
@click.option("--verbose", is_flag=True, help="A paragraph for each claim, as with NAME.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
def claims(names: tuple[str, ...], folders: tuple[Path, ...], verbose: bool, as_json: bool) -> None:
    """What the results here say about statements of the literature: supported, contradicted or inconclusive."""
    from harness.reporting.claims_view import show
    show(names, folders, as_json=as_json, verbose=verbose)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--pack", "to", type=click.Path(path_type=Path, file_okay=False), metavar="NEW",
              help="Write the runs and their report into the folder NEW as a few files, for a repository.")
def report(folder: Path, to: Path | None) -> None:
    """Write tables, plots and report.html again from the records of DIR."""
    from rich.console import Console
    if to is not None:
        from harness.reporting.pack import pack
        click.echo(f"{pack(folder, to)} runs packed into {to}")
        folder = to
    sys.exit(2 if show_report(folder, Console()) else 0)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Compute every number of DIR again from its records and per-case files; exit code 1 where one differs."""
    from rich.console import Console

    from harness.analysis.verify import show
    from harness.analysis.verify import verify as check
    findings = check(folder)
    show(findings, Console())
    sys.exit(1 if findings.differences else 0)


@main.command()
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@click.option("--fail-on-regression", is_flag=True, help="Exit code 1 where B is worse beyond noise, a run of B fails "
              "that did not, or a network has more parameters or MACs.")
@click.option("--min-effect", type=click.FloatRange(min=0), default=0.0, metavar="X",
              help="A headline that moved by less than X, in its unit, is not called better or worse.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
def compare(a: Path, b: Path, fail_on_regression: bool, min_effect: float, as_json: bool) -> None:
    """What moved beyond noise from results folder A to B: before and after a change, or two machines."""
    from rich.console import Console

    from harness.analysis.result_sets import compare_sets, read_set
    from harness.reporting import change_view
    found = compare_sets(read_set(a), read_set(b), min_effect)
    if as_json:
        click.echo(change_view.as_json(found))
    else:
        change_view.show(found, Console())
    sys.exit(1 if fail_on_regression and found.worse else 2 if found.problems else 0)


for command in (evaluate, inspect, page, benchmark):
    main.add_command(command)
