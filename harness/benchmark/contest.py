"""Contestants take turns in one process, so that whatever else the machine does meets them alike."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harness.measurement.timing import synchronize
from harness.spec import TrainSpec
from harness.training.batches import Batches
from harness.training.compilation import compilation
from harness.training.device import default_precision
from harness.training.train import Runtime, train

OURS = "ours"
LEAST_ROUNDS, MOST_ROUNDS = 3, 25                  # where --rounds does not say
TURN_S, MOST_CALLS = 0.2, 50                       # a turn takes so long, by as many calls as it needs, up to so many
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
STEP_FLOPS = 3                                     # a training step over a forward pass: backward makes two products
BUDGET = TrainSpec(steps=10 ** 6, batch_size=1, learning_rate=2e-4, weight_decay=1e-2)   # ended earlier, by StopTrial


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the person asked of every contest."""

    device: str                                    # resolved: "cpu", "cuda"
    precision: str                                 # ours: fp32, bf16 or fp16
    rounds: int | None = None                      # exactly so many; None = as many as fit into a trial's seconds
    compile: bool = False                          # time compiled networks, too?
    cache: Path = Path("cache")                    # where what was compiled, and the classifier of digits, is kept
    say: Callable[[str], None] = lambda line: None  # hears a line at the beginning of every trial

    @property
    def peer_precisions(self) -> tuple[str, ...]:
        """fp32, which is what the libraries do unless told otherwise, and ours under autocast."""
        return ("fp32",) if self.precision == "fp32" else ("fp32", self.precision)

    @property
    def ways(self) -> tuple[bool, ...]:
        """Compiled or not, one after the other."""
        return (False, True) if self.compile else (False,)

    def goal(self, cpu: Mapping[str, float], precision: str, compiled: bool) -> float | None:
        """How fast this project wants to be against a peer of ``precision``, in its half-precision default.

        ``cpu`` says so by the peer's precision; on CUDA it is 1.2 at equal settings.
        """
        if self.device.startswith("cuda"):
            return 1.2 if precision == self.precision else None
        native = self.precision != "fp32" and default_precision(self.device) == self.precision
        return cpu.get(precision) if native and not compiled else None

    def budget(self, seconds: float, **changes) -> Budget:
        """``seconds`` of rounds, or the number of rounds that was asked for."""
        return replace(Budget(seconds, self.rounds), **changes)

    @contextmanager
    def compiling(self, compiled: bool) -> Iterator[None]:
        """What compiled networks are to be timed inside; its kernels are kept in ``cache``."""
        if not compiled:
            yield
            return
        with warnings.catch_warnings(), compilation(self.cache):
            warnings.filterwarnings("ignore", "Dynamo detected a call to a", UserWarning)     # the peers' caches
            yield


@dataclass(frozen=True)
class Budget:
    """How long a trial goes on."""

    seconds: float                                 # a round is begun until then, within LEAST_ROUNDS..MOST_ROUNDS
    rounds: int | None = None                      # exactly so many, in place of that
    calls: int | None = None                       # per turn; None = as many as take TURN_S
    warmups: int = 2                               # calls of everyone that do not count

    def goes_on(self, rounds: int, seconds: float) -> bool:
        if self.rounds is not None:
            return rounds < self.rounds
        return rounds < LEAST_ROUNDS or (seconds < self.seconds and rounds < MOST_ROUNDS)


@dataclass
class Timed:
    """What a trial leaves: seconds of one call of everyone, round by round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    first_s: dict[str, float] = field(default_factory=dict)
    calls_per_turn: int = 1


def alternate(calls: Mapping[str, Callable[[], object] | None], timed: Timed, budget: Budget,
              device: torch.device) -> Iterator[None]:
    """Let everyone in ``calls`` take turns, in the given order, then in the opposite one, and so on.

    Where a call is None, whoever iterates over this does it, once for every value that comes.
    """
    def turn(name: str, count: int) -> Iterator[None]:
        synchronize(device)
        started = time.perf_counter()
        for _ in range(count):
            if calls[name] is None:
                yield
            else:
                calls[name]()
        synchronize(device)
        return (time.perf_counter() - started) / count

    took = {}
    for _ in range(budget.warmups):
        for name in calls:
            took[name] = yield from turn(name, 1)
            timed.first_s.setdefault(name, took[name])
    count = budget.calls or (min(MOST_CALLS, math.ceil(TURN_S / min(took.values()))) if took else 1)
    timed.calls_per_turn = count
    order, rounds, began = list(calls), 0, time.perf_counter()
    while budget.goes_on(rounds, time.perf_counter() - began):
        for name in order:
            timed.seconds.setdefault(name, []).append((yield from turn(name, count)))
        order.reverse()
        rounds += 1


def take_turns(calls: Mapping[str, Callable[[], object]], budget: Budget, device: torch.device) -> Timed:
    """Time ``calls`` against each other."""
    timed = Timed()
    for _ in alternate(calls, timed, budget, device):
        raise AssertionError("a call is missing")
    return timed


class StopTrial(Exception):
    """The trial has ended, in the middle of training."""


def train_among(others: Mapping[str, Callable[[], object]], rounds: Budget, model: nn.Module,
                loss: Callable[[nn.Module, Any], Tensor], batches: Batches, accelerator: Accelerator,
                budget: TrainSpec = BUDGET, **options) -> Timed:
    """Time a step of the project's own training loop against one call of each of ``others``.

    The loop is :func:`harness.training.train.train`, unchanged, in one piece. It asks for a loss once in every step;
    that is where the others take their turns, so a step is timed from one such moment to the next, with all it does
    between. ``options`` go to the loop's :class:`Runtime`.
    """
    timed = Timed()
    turns = alternate({OURS: None, **others}, timed, rounds, accelerator.device)

    def refereed(network: nn.Module, batch: Any) -> Tensor:
        assert not torch.is_autocast_enabled(accelerator.device.type), "the others would compute in our precision"
        if next(turns, StopTrial) is StopTrial:
            raise StopTrial
        return loss(network, batch)

    try:
        train(model, refereed, batches, budget, Runtime(accelerator, **options))
    except StopTrial:
        return timed
    raise AssertionError(f"training ended after {budget.steps} steps, before the trial did")


def autocast(device: torch.device, precision: str):
    """PyTorch's own, or nothing for fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


class PlainLoop:
    """A training step as people write it: eager, AdamW, clipped gradients; calling it makes one.

    ``loss(network, batch)`` gives a scalar. With ``precision`` other than fp32 it is computed under autocast.
    """

    def __init__(self, network: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batches: Iterator[Any],
                 precision: str, device: torch.device, **adamw):
        self.network, self.loss, self.batches = network.train(), loss, batches
        self.precision, self.device = precision, device
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=BUDGET.learning_rate,
                                           weight_decay=BUDGET.weight_decay, **adamw)
        self.scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None

    def __call__(self) -> Tensor:
        batch = next(self.batches)
        self.optimizer.zero_grad()
        with autocast(self.device, self.precision):
            value = self.loss(self.network, batch)
        if self.scaler is None:
            value.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), BUDGET.max_grad_norm)
            self.optimizer.step()
        else:
            self.scaler.scale(value).backward()
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), BUDGET.max_grad_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return value.detach()

