"""Options that several commands share, and which of them were given."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from harness import trackers
from harness.execution import Execution
from harness.extras import check_entry

LOCAL_RESULTS = Path("results") / "local"


def given_options(context: click.Context) -> list[click.Parameter]:
    """Return the parameters that stand on the command line."""
    return [option for option in context.command.params
            if context.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE]


def execution_options(command):
    """Add the options of how runs are made and tracked; the command takes them as ``how`` and ``track``, checked."""
    @functools.wraps(command)
    def with_how(*args, executor, jobs, threads, checkpoint_every, processes, in_process, track, **others):
        how = Execution(executor, jobs, threads, 60 * checkpoint_every, processes, in_process)
        how.check()
        track = tuple(dict.fromkeys(track))
        for name in track:
            check_entry(trackers.registry, name, option="--track")
        return command(*args, how=how, track=track, **others)

    for option in (
            click.option("--track", multiple=True, metavar="|".join(trackers.registry.names()),
                         help="Also write every run for this tracker, into OUT/tracking unless the tracker's own "
                         "environment variables say otherwise; may be given more than once."),
            click.option("--in-process", is_flag=True,
                         help="Run in this process, to debug; memory is then not comparable."),
            click.option("--checkpoint-every", type=float, default=5.0, show_default=True, metavar="MINUTES",
                         help="Save training, so that the same command goes on from there; 0: never."),
            click.option("--processes", type=int, default=1, show_default=True, metavar="N",
                         help="Processes that share every run's batches, on a GPU each (data-parallel)."),
            click.option("--threads", type=int, metavar="N",
                         help="CPU threads of each run.  [default: the cores, shared among as many runs as pay]"),
            click.option("--jobs", type=int, metavar="N",
                         help="Runs at a time.  [default: one on each GPU; on a CPU one on each core, up to 8]"),
            click.option("--executor", default="local", show_default=True, metavar="local|ray[:ADDRESS]",
                         help="Where runs happen: this machine, or a Ray cluster.")):
        with_how = option(with_how)
    return with_how
