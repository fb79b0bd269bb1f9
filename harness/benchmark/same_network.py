"""One network in two implementations, with the same weights: training step and inference, and that they agree."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.benchmark.contest import (
    BUDGET,
    OURS,
    STEP_FLOPS,
    BenchmarkOptions,
    PlainLoop,
    Timed,
    autocast,
    take_turns,
    train_among,
)
from harness.benchmark.result import Check, Contestant, Trial, compared
from harness.diffusion import NoisePrediction
from harness.measurement.costs import count_macs, count_parameters
from harness.training.train import make_accelerator

BATCHES = 4                                        # of random images, made beforehand and used again and again
TIMESTEPS = 1000
ERROR_FP32 = 1e-3                                  # relative, of outputs: GPUs convolve float32 maps in TF32
ERROR_HALF = 2.0                                   # ours may be so many times as far off as the peer under autocast
Batch = tuple[Tensor, Tensor, Tensor, Tensor | None]   # images, noise, t, context


@dataclass(frozen=True)
class Pair:
    """The implementations: every call of ``ours`` and ``theirs`` gives a new copy, all with the same weights."""

    peer: str                                      # the library, as it is called
    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]
    predict: Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]   # theirs, x, t, context -> noise
    image: tuple[int, int, int]                    # (C, H, W)
    batch_size: int
    classes: int = 0                               # the context is a class of so many; 0 = there is none

    def build(self, name: str) -> nn.Module:
        return self.ours() if name == OURS else self.theirs()

    def call(self, name: str, network: nn.Module, x: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        """The noise that the network of ``name``, OURS or the peer, sees in ``x``."""
        return network(x, t, context) if name == OURS else self.predict(network, x, t, context)


def key(pair: Pair, precision: str) -> str:
    """The name of the peer's contestant of a precision."""
    return f"{pair.peer}, {precision}" + ("" if precision == "fp32" else " autocast")


def label(pair: Pair, asked: BenchmarkOptions, name: str) -> str:
    return f"ours, {asked.precision}" if name == OURS else name


def ready(network: nn.Module, device: str, compiled: bool, *, channels_last: bool = False) -> nn.Module:
    """On the device; in the layout that this project uses, or in PyTorch's own."""
    network = network.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    if compiled:
        network.compile()
    return network


class Repeated(list):
    """A few batches, again and again: by step, as training takes them."""

    def __getitem__(self, step: int) -> Batch:
        return super().__getitem__(step % len(self))


def random_batches(pair: Pair, device: str, *, channels_last: bool = False) -> Repeated:
    """Make a few batches of random images, on the device."""
    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    made = []
    for _ in range(BATCHES):
        images = torch.rand(pair.batch_size, *pair.image, generator=generator) * 2 - 1
        noise = torch.randn(images.shape, generator=generator)
        t = torch.randint(TIMESTEPS, (pair.batch_size,), generator=generator)
        context = torch.randint(pair.classes, (pair.batch_size,), generator=generator) if pair.classes else None
        made.append((images.to(device, memory_format=layout), noise.to(device, memory_format=layout), t.to(device),
                     None if context is None else context.to(device)))
    return Repeated(made)


def their_loss(pair: Pair, scheduler) -> Callable[[nn.Module, Batch], Tensor]:
    """Noise prediction as in diffusers' training examples."""
    def loss(network: nn.Module, batch: Batch) -> Tensor:
        images, noise, t, context = batch
        return F.mse_loss(pair.predict(network, scheduler.add_noise(images, noise, t), t, context).float(), noise)
    return loss


def training(pair: Pair, asked: BenchmarkOptions, seconds: float, goals: dict[str, float],
             compiled: bool = False) -> Trial:
    """A step of :func:`harness.training.train.train` against the loop that people write."""
    asked.say("training step" + ", compiled" * compiled)
    accelerator = make_accelerator(asked.device, asked.precision)
    diffusion, device = NoisePrediction(TIMESTEPS, "linear"), accelerator.device
    others = {key(pair, precision): PlainLoop(ready(pair.theirs(), asked.device, compiled),
                                              their_loss(pair, diffusion.scheduler),
                                              itertools.cycle(random_batches(pair, asked.device)),
                                              precision, device)
              for precision in asked.peer_precisions}
    budget = BUDGET.model_copy(update={"batch_size": pair.batch_size, "precision": asked.precision,
                                       "compile": compiled})
    with asked.compiling(compiled):
        timed = train_among(
            others, asked.budget(seconds), ready(pair.ours(), asked.device, False, channels_last=True),
            lambda network, batch: diffusion.loss(network, *batch),
            random_batches(pair, asked.device, channels_last=True), accelerator, budget)
    return trial("training step", pair, asked, timed, goals, compiled, pair.batch_size, STEP_FLOPS)


def inference(pair: Pair, asked: BenchmarkOptions, seconds: float, goals: dict[str, float],
              compiled: bool = False) -> Trial:
    """A forward pass under inference mode, in evaluation."""
    asked.say("inference" + ", compiled" * compiled)
    accelerator = make_accelerator(asked.device, asked.precision)
    ours = ready(pair.ours(), asked.device, compiled, channels_last=True).eval()
    theirs = ready(pair.theirs(), asked.device, compiled).eval()
    x, _, t, context = random_batches(pair, asked.device)[0]
    own_x = x.to(memory_format=torch.channels_last)

    def call_ours() -> None:
        with torch.inference_mode(), accelerator.autocast():
            ours(own_x, t, context)

    def call_theirs(precision: str) -> None:
        with torch.inference_mode(), autocast(accelerator.device, precision):
            pair.predict(theirs, x, t, context)

    calls = {OURS: call_ours, **{key(pair, precision): lambda precision=precision: call_theirs(precision)
                                 for precision in asked.peer_precisions}}
    with asked.compiling(compiled):
        timed = take_turns(calls, asked.budget(seconds), accelerator.device)
    return trial("inference", pair, asked, timed, goals, compiled, pair.batch_size, 1)


def agreement(pair: Pair, asked: BenchmarkOptions) -> list[Check]:
    """How far our output is from the peer's in float32, and how far it may be."""
    accelerator = make_accelerator(asked.device, asked.precision)
    theirs = ready(pair.theirs(), asked.device, False).eval()
    x, _, t, context = random_batches(pair, asked.device)[0]
    with torch.inference_mode():
        expected = pair.predict(theirs, x, t, context)
        with accelerator.autocast():
            found = ready(pair.ours(), asked.device, False, channels_last=True).eval()(
                x.to(memory_format=torch.channels_last), t, context)
        limit = ERROR_FP32
        if asked.precision != "fp32":
            with autocast(accelerator.device, asked.precision):
                limit = ERROR_HALF * error(pair.predict(theirs, x, t, context), expected)
    return [Check(what=f"output, ours in {asked.precision} against {pair.peer} in fp32: relative error",
                  value=error(found, expected), limit=limit)]


def error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what was expected."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def trial(name: str, pair: Pair, asked: BenchmarkOptions, timed: Timed, goals: dict[str, float],
          compiled: bool, images: int, passes: int) -> Trial:
    """Who was timed, and ours against each. ``passes`` of the network for every one of ``images`` make a call."""
    sizes = {which: size(pair, which) for which in (OURS, pair.peer)}
    contestants = {}
    for who, seconds in timed.seconds.items():
        parameters, macs = sizes[OURS if who == OURS else pair.peer]
        contestants[who] = Contestant(label=label(pair, asked, who) + ", compiled" * compiled, seconds=seconds,
                                      first_s=timed.first_s.get(who), parameters=parameters, macs=macs, images=images,
                                      flops=2 * macs * images * passes)
    comparisons = [compared("speedup", OURS, key(pair, precision), contestants,
                            goal=asked.goal(goals, precision, compiled)) for precision in asked.peer_precisions]
    return Trial(name=name + ", compiled" * compiled, contestants=contestants, comparisons=comparisons,
                 calls_per_turn=timed.calls_per_turn)


def size(pair: Pair, name: str) -> tuple[int, int]:
    """(parameters, MACs of one image), counted on the meta device."""
    network = pair.build(name).to("meta")
    parameters = int(count_parameters(network).value)      # before the MACs: counting those freezes the network
    x, t = torch.empty(1, *pair.image, device="meta"), torch.zeros(1, dtype=torch.long, device="meta")
    context = torch.zeros(1, dtype=torch.long, device="meta") if pair.classes else None
    return parameters, int(count_macs(Called(pair, name, network), x, t, context)["macs"].value)


class Called(nn.Module):
    """Either network, called in one way."""

    def __init__(self, pair: Pair, name: str, network: nn.Module):
        super().__init__()
        self.pair, self.name, self.network = pair, name, network

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        return self.pair.call(self.name, self.network, x, t, context)
