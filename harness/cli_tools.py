"""Commands that make no runs: predictions and weights evaluated, networks inspected, pages, the benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli_options import LOCAL_RESULTS, given_options
from harness.errors import InputError, unknown

PAGES = ("zoo", "memory", "matching", "statistics")
SPLITS = ("test", "validation", "train")


@click.command()
@click.option("--predictions", multiple=True, metavar="NAME=DIR",
              help="A tool's predictions, a file for each image; may be given more than once.")
@click.option("--run", "run_folder", type=click.Path(path_type=Path, file_okay=False), metavar="RUN",
              help="In place of predictions: the weights in this folder of a run, RESULTS/runs/ID.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Your own images and masks.")
@click.option("--dataset", help="Or a registered data set, with the profile's options.  [default: the profile's]")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where registered data sets lie.")
@click.option("--profile", default="quick", show_default=True, help="Whose data set it is, where there is no --data.")
@click.option("--split", default="test", show_default=True, help="Whose images: test, validation or train.")
@click.option("--variant", metavar="FILE.py:CLASS", help="With --run: where the network's own file lies.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR",
              help="Where records and report go.  [default: results/local/evaluation-DATA]")
@click.pass_context
def evaluate(context: click.Context, predictions: tuple[str, ...], run_folder: Path | None, **asked) -> None:
    """Score predictions of any tool as runs are scored, with a report; or a run's own weights again.

    Predictions are masks (class ids, 0 and 255) or probabilities (.npy, .npz), named as the images. With several tools,
    on the images that all of them have, and paired by image. With --run: exit code 1 where a number differs.
    """
    from rich.console import Console

    from harness.inspection import evaluations
    if bool(predictions) == (run_folder is not None):
        raise InputError("give --predictions NAME=DIR, or --run RUN, whose weights are evaluated again")
    given = {option.name: option.opts[0] for option in given_options(context)}
    for name in (("dataset", "profile", "split", "out") if run_folder else ("variant",)):
        if name in given:
            raise InputError(f"{given[name]} does not go with {'--run' if run_folder else '--predictions'}")
    if run_folder:
        sys.exit(evaluations.evaluate_again(run_folder, asked["data"], asked["data_root"], asked["variant"], Console()))
    if asked["split"] not in SPLITS:
        raise unknown("split", asked["split"], SPLITS)
    asked.pop("variant")
    sys.exit(evaluations.evaluate(predictions, Console(), local=LOCAL_RESULTS, **asked))


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--size", type=click.IntRange(min=1), metavar="N",
              help="Side of the image.  [default: 64, or the preset's]")
@click.option("--set", "changes", multiple=True, metavar="ARGUMENT=VALUE",
              help="An argument of the network's build, e.g. width=64; may be given more than once.")
@click.option("--depth", type=click.IntRange(min=0), metavar="N", help="Levels of modules shown.  [default: what fits]")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, modules at any depth.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also draw the network's shape.")
@click.option("--memory", metavar="SIZE", help="In place of all that: the largest batch that fits, e.g. 24GB or 16GiB.")
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="With --memory: the largest image, N at a time.")
@click.option("--training/--inference", default=True,
              help="With --memory: a step of AdamW, or a forward pass.  [default: training]")
@click.option("--precision", default="fp32", help="With --memory: fp32, bf16 or fp16, by autocast.  [default: fp32]")
@click.option("--ema", is_flag=True, help="With --memory: averaged weights are kept, too.")
@click.option("--device", default="auto", help="With --memory: whose operators, auto, cpu or cuda.  [default: auto]")
@click.pass_context
def inspect(context: click.Context, name: str, size: int | None, changes: tuple[str, ...], depth: int | None,
            as_json: bool, svg: Path | None, memory: str | None, **asked) -> None:
    """Modules, output shapes, parameters and MACs of NAME: a variant, a preset, or anyone's network.

    A variant is shown as a denoiser of images of three channels; time=false makes it a segmenter. With --memory: the
    largest batch or image that fits, computed without running NAME.
    """
    other = ("depth", "as_json", "svg") if memory else asked
    ignored = next((option for option in given_options(context) if option.name in other), None)
    if ignored is not None:
        how = "does not go with" if memory else "goes with"
        raise InputError(f"{ignored.opts[0]} {how} --memory, which asks for the largest batch or image that fits")
    if memory:
        from harness.inspection.fit import show as show_fit
        show_fit(name, memory, size, changes=changes, **asked)
    else:
        from harness.inspection.table import show
        show(name, size, changes, depth=depth, as_json=as_json, svg=svg)


@click.command()
@click.argument("name", metavar="|".join(PAGES))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Where it goes.  [default: its folder in results/]")
def page(name: str, out: Path | None) -> None:
    """Make a page of results/ again that is no comparison: presets beside published counts (zoo), predicted beside
    measured memory, networks at equal size (matching), what the statistics promise (some minutes each).
    """
    if name not in PAGES:
        raise unknown("page", name, PAGES)
    from importlib import import_module
    import_module(f"harness.inspection.{name}_page").main(*([out] if out else []))


@click.command()
@click.option("--only", metavar="A,B,...",
              help="denoiser, transformer, segmenter, overhead, evaluation.  [default: all]")
@click.option("--rounds", type=click.IntRange(min=1), metavar="N",
              help="Turns of everyone, in every contest.  [default: as many as fit into some minutes in all]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--precision", default="auto", show_default=True, help="Ours: fp32, bf16, fp16; auto: the device's own.")
@click.option("--compile", is_flag=True, help="Then again with everyone's network compiled.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", default=LOCAL_RESULTS / "benchmark",
              show_default=True, help="Where benchmark.json and README.md go.")
def benchmark(only: str | None, **asked) -> None:
    """The same network here and in diffusers, MONAI and segmentation_models.pytorch, in turns: who is how fast."""
    from rich.console import Console

    from harness.benchmark.benchmark import benchmark as run_benchmark
    sys.exit(run_benchmark(only, console=Console(highlight=False, markup=False), **asked))
