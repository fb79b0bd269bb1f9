"""The training loop, with its logging, schedule and messages, against a bare loop over the same network and batches."""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.benchmark.contest import BUDGET, OURS, BenchmarkOptions, PlainLoop, train_among
from harness.benchmark.result import Contest, Contestant, Trial, compared
from harness.dataset import Dataset
from harness.diffusion import NoisePrediction
from harness.identity import networks
from harness.plan import Request, base_spec, data_spec, load_data, read_profile
from harness.spec import RunSpec
from harness.suites import registry
from harness.training.state import Checkpoints
from harness.training.train import LOG_EVERY, make_accelerator, on_device

BARE = "bare loop"
SECONDS = 30.0
GOAL = 0.03                                        # of a step's time


@dataclass(frozen=True)
class DefaultRun:
    """What ``bench.py --suite generation --variants plain`` would run."""

    spec: RunSpec
    data: Dataset
    settings: Any                                  # of the suite

    @classmethod
    def of(cls, asked: BenchmarkOptions, profile: str) -> DefaultRun:
        request = Request(suite="generation", profile=profile, device=asked.device, precision=asked.precision)
        budget = read_profile(profile, request.suite)
        data = load_data(data_spec(request, budget), request.suite, asked.cache)
        spec = base_spec(request, budget, data, asked.cache)
        return cls(spec, data, registry.load(request.suite).Settings(**spec.settings))


def run(asked: BenchmarkOptions, profile: str = "quick") -> Contest:
    """The contest, on the network, the data and the batch of ``profile``'s generation."""
    asked.say("training step")
    default = DefaultRun.of(asked, profile)
    spec, suite = default.spec, registry.load("generation")
    accelerator = make_accelerator(asked.device, asked.precision)
    device, batch_size = accelerator.device, spec.train.batch_size
    diffusion = NoisePrediction(default.settings.timesteps, default.settings.schedule)
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def network() -> nn.Module:
        torch.manual_seed(spec.seeds.init)
        arguments = {**suite.network_arguments(default.data, default.settings), **spec.options}
        return networks.factory(spec.variant)(**arguments).to(device, memory_format=torch.channels_last)

    batches = suite.NoisyImages(default.data.train, default.settings, suite.num_classes(default.data), batch_size,
                                spec.seeds.data)

    def loss(model: nn.Module, batch: tuple) -> Tensor:
        return diffusion.loss(model, *batch)

    def progress(**event) -> None:                 # as a run sends it to the process that shows it
        sender.send(event)
        receiver.recv()

    fused = device.type in ("cpu", "cuda")
    made = (on_device(batches[step], device) for step in itertools.count())
    bare = PlainLoop(network(), loss, made, asked.precision, device, fused=fused)
    budget = BUDGET.model_copy(update={"batch_size": batch_size, "precision": asked.precision})
    # Between two looks at the loss lie LOG_EVERY steps, so every turn of ours has its share of them. Where batches are
    # made ahead, two are made in the other's turn: a turn is long enough for these not to count.
    calls = LOG_EVERY if device.type == "cpu" else 10 * LOG_EVERY
    with tempfile.TemporaryDirectory() as folder:
        timed = train_among({BARE: bare}, asked.budget(SECONDS, calls=calls), network(), loss, batches, accelerator,
                            budget, progress=progress, checkpoints=Checkpoints(Path(folder), "overhead"))
    labels = {OURS: f"harness.training, {asked.precision}", BARE: f"{BARE}, {asked.precision}"}
    contestants = {name: Contestant(label=labels[name], seconds=seconds, first_s=timed.first_s[name],
                                    images=batch_size) for name, seconds in timed.seconds.items()}
    trial = Trial(name="training step", contestants=contestants, calls_per_turn=timed.calls_per_turn,
                  comparisons=[compared("overhead", OURS, BARE, contestants, goal=GOAL)])
    return Contest(
        name="overhead", trials=[trial],
        setting=f"`{spec.variant}` {_options(spec)}on `{default.data.name}`, batches of {batch_size}, as the profile "
                f"{profile!r} trains it, without averaged weights, with a checkpoint every 5 minutes. The bare loop "
                "makes the same batches, and has the same layout, precision, clipping and fused AdamW; it has no "
                "schedule, no log, no curves, no messages.")


def _options(spec: RunSpec) -> str:
    return "".join(f"of {name} {value} " for name, value in spec.options.items())
