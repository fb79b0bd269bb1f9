"""The one training loop. It knows neither suite nor variant: a model, a loss, batches, a budget."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from harness.measurement import timing
from harness.measurement.lease import MachineLease
from harness.measurement.timing import Timing, time_alone
from harness.spec import TrainSpec
from harness.training.batches import Batches
from harness.training.device import check_precision, resolve_device
from harness.training.parallel import ShardedForward, check_parts
from harness.training.state import Checkpoints, TrainState
from harness.training.step import averaged, learning_rate_factor, make_optimizer, training_step

LOG_EVERY = 10          # steps between two looks at the loss; on a GPU each look waits for the device
TIMED_STEPS = 20        # taken after training, alone on the machine, and undone
TIMED_WARMUP = 3
AHEAD = 2               # batches that every loader process makes ahead


Loss = Callable[[nn.Module, Any], Tensor]          # of the network and a batch: a scalar
Validate = Callable[[nn.Module], dict[str, float]]


class Diverged(RuntimeError):
    """The loss became NaN or infinite."""


class PartDone(Exception):
    """This process has done its part of a training that it shares; the first process goes on alone."""


@dataclass
class Runtime:
    """What a run has to work with, whatever it trains."""

    accelerator: Accelerator
    progress: Callable[..., None] = lambda **event: None    # progress(stage=..., step=..., total=..., loss=...)
    lease: MachineLease = field(default_factory=MachineLease)
    checkpoints: Checkpoints | None = None
    loader_workers: int = 0                        # processes that make batches; 0: this one makes them


@dataclass
class Trained:
    """What training leaves: the weights to evaluate, its curves, its times."""

    model: nn.Module                               # averaged weights where the budget asks for them
    curves: list[tuple[int, float, str, float]]    # (step, seconds, name, value)
    first_step_s: float                            # which pays for compilation
    wait_share: float                              # of training time, waiting for batches
    timed: Callable[[], Timing]                    # see time_step

    def time_step(self, compiled: bool) -> Timing:
        """Time a training step alone on the machine, by steps that are taken back.

        From then on the curves say at which second of such steps a point was reached, so that they compare however
        many runs shared the machine; the first step of a ``compiled`` network counts as it was. Call it when memory
        has been measured: weights are copied.
        """
        timing = self.timed()
        step_s = statistics.median(timing.seconds)
        more = max(0.0, self.first_step_s - step_s) if compiled else 0.0
        self.curves[:] = [(step, more + step * step_s, name, value) for step, _, name, value in self.curves]
        return timing


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Make accelerate's device and precision handling for one run.

    Raises InputError for a device that this machine lacks or a precision that the device lacks.
    """
    kind = resolve_device(device).partition(":")[0]
    check_precision(kind, precision)
    # Accelerate keeps one state per process, and refuses a second precision; each run starts its own.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=kind == "cpu", mixed_precision={"fp32": "no"}.get(precision, precision))


def train(model: nn.Module, loss: Loss, batches: Batches, budget: TrainSpec, runtime: Runtime, *,
          validate: Validate | None = None) -> Trained:
    """Train ``model`` in place for ``budget.steps`` steps of AdamW with warm-up and cosine decay.

    ``loss(model, batch)`` gives a scalar of a batch on the device; ``validate(model)`` gives named values of the
    weights that will be evaluated. Training goes on from the run's checkpoint where there is one, to the same weights
    and curves. Where several processes share the training, only the first returns; the others raise
    :class:`PartDone` when they have taken part in it and in its timing. Raises InputError for a batch that these
    cannot share, and :class:`Diverged` at the first logged step whose loss is not finite.
    """
    training = Training(model, loss, batches, budget, runtime)
    training.resume()
    training.run(validate)
    if not runtime.accelerator.is_main_process:
        training.time_step()
        raise PartDone
    state = training.state
    return Trained(training.evaluated, state.curves, state.first_step_s,
                   state.wait_s / state.seconds if state.seconds else math.nan, training.time_step)


class Training:
    """A network with all that its training needs, and how far it is (``state``)."""

    def __init__(self, model: nn.Module, loss: Loss, batches: Batches, budget: TrainSpec, runtime: Runtime):
        accelerator = runtime.accelerator
        optimizer = make_optimizer(model.parameters(), accelerator.device.type, learning_rate=budget.learning_rate,
                                   weight_decay=budget.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, budget))
        average = averaged(model, budget.ema_decay) if budget.ema_decay else None
        if budget.compile:
            for module in filter(None, (model, average and average.module)):
                module.compile()                   # in place, so that names of weights stay
        self.prepared, optimizer = accelerator.prepare(model, optimizer)
        if accelerator.num_processes > 1:
            check_parts(budget.batch_size, accelerator.num_processes)
            self.prepared = ShardedForward(self.prepared)
        self.state = TrainState(model, optimizer, schedule, average, accelerator.scaler)
        self.evaluated = average.module if average is not None else model
        self.loss, self.batches, self.budget, self.runtime = loss, batches, budget, runtime

    def resume(self) -> None:
        """Go on from the run's checkpoint, where there is one."""
        if self.runtime.checkpoints is not None and self.runtime.checkpoints.restore(self.state):
            step = self.state.step
            self.runtime.progress(stage=f"going on from step {step}", step=step, total=self.budget.steps)

    def run(self, validate: Validate | None) -> None:
        """Take the steps that are left, with validation and checkpoints in between."""
        state, budget, checkpoints = self.state, self.budget, self.runtime.checkpoints
        main = self.runtime.accelerator.is_main_process
        ready = loaded(self.batches, range(state.step, budget.steps), self.runtime)
        self.prepared.train()
        while state.step < budget.steps:
            self.runtime.lease.give_way()
            self.advance(ready)
            last = state.step == budget.steps
            validates = last or (budget.validate_every and state.step % budget.validate_every == 0)
            if main and validate is not None and validates:
                self.validate(validate)
            if main and checkpoints is not None and checkpoints.due(last=last):
                checkpoints.save(state)
        self.evaluated.eval()

    def advance(self, ready: Iterator[Any]) -> None:
        """Take one step, and look at the loss where it is time. Raises :class:`Diverged`."""
        state, budget, lease = self.state, self.budget, self.runtime.lease
        started = time.perf_counter()
        batch = next(ready)
        state.wait_s += time.perf_counter() - started
        # the first step of a compiled network compiles it, and how long that takes is reported
        with lease.alone() if budget.compile and state.step == 0 else nullcontext():
            began = time.perf_counter()
            state.pending.append(self.step(batch))
            if state.step == 0:
                state.first_step_s = time.perf_counter() - began
        state.step += 1
        if state.step == budget.steps or state.step % LOG_EVERY == 0:
            mean = torch.stack(state.pending).mean().item()       # NaN or infinite as soon as one of them is
            state.pending.clear()
            if not math.isfinite(mean):
                raise Diverged(f"the loss became {mean} by step {state.step} of {budget.steps}")
            state.seconds += time.perf_counter() - started
            state.curves.append((state.step, state.seconds, "loss", mean))
            self.runtime.progress(stage="training", step=state.step, total=budget.steps, loss=mean)
        else:
            state.seconds += time.perf_counter() - started

    def step(self, batch: Any) -> Tensor:
        """Take one step on ``batch``; return the loss, detached."""
        accelerator, state = self.runtime.accelerator, self.state
        value = training_step(lambda: self.loss(self.prepared, batch), self.prepared, state.optimizer,
                              self.budget.max_grad_norm, backward=accelerator.backward,
                              clip=accelerator.clip_grad_norm_)
        state.schedule.step()
        if state.average is not None:
            state.average.update_parameters(state.model)
        return value

    def validate(self, validate: Validate) -> None:
        """Enter what ``validate`` says of the weights that will be evaluated into the curves.

        Raises :class:`Diverged` for a loss that is not finite.
        """
        self.evaluated.eval()
        with torch.inference_mode(), self.runtime.accelerator.autocast():
            values = validate(self.evaluated)
        state = self.state
        bad = next((name for name, value in values.items() if name.endswith("loss") and not math.isfinite(value)), None)
        if bad is not None:
            raise Diverged(f"the {bad} became {values[bad]} by step {state.step} of {self.budget.steps}")
        state.curves.extend((state.step, state.seconds, name, value) for name, value in values.items())
        self.prepared.train()

    def time_step(self) -> Timing:
        """Time a step alone on the machine, by steps that are taken back."""
        accelerator = self.runtime.accelerator
        attempts = timing.ATTEMPTS if accelerator.num_processes == 1 else 1  # all processes take as many steps
        count = min(TIMED_STEPS, self.budget.steps)
        self.runtime.progress(stage="timing: step")
        ready = loaded(self.batches, range(attempts * (TIMED_WARMUP + count)), self.runtime)
        self.prepared.train()
        with unchanged(self.state.model, self.state.average):
            found = time_alone(lambda: self.step(next(ready)), accelerator.device, self.runtime.lease,
                               warmup=TIMED_WARMUP, repeats=count, attempts=attempts)
        self.evaluated.eval()
        return found


def loaded(batches: Batches, steps: Sequence[int], runtime: Runtime) -> Iterator[Any]:
    """Give the batches of ``steps``, in order and on the device, made ahead by ``runtime.loader_workers`` processes."""
    device, workers = runtime.accelerator.device, runtime.loader_workers
    loader = DataLoader(_Items(batches), batch_size=None, sampler=steps, collate_fn=_as_it_is, num_workers=workers,
                        prefetch_factor=AHEAD if workers else None, pin_memory=device.type == "cuda",
                        generator=torch.Generator())           # its own, or it would draw from the run's
    for batch in loader:
        yield on_device(batch, device)


class _Items(Dataset):
    """Batches as what torch calls a data set."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def __getitem__(self, step: int) -> Any:
        return self.batches[step]


def _as_it_is(batch: Any) -> Any:
    return batch


def on_device(batch: Any, device: torch.device) -> Any:
    """Move a tensor, or a tuple of tensors and None, to ``device``; images (N, C, H, W) become channels last."""
    if isinstance(batch, tuple):
        return tuple(on_device(part, device) for part in batch)
    if not isinstance(batch, Tensor):
        return batch
    images = batch.ndim == 4 and batch.is_floating_point()
    return batch.to(device, memory_format=torch.channels_last if images else torch.preserve_format,
                    non_blocking=device.type == "cuda")


@contextmanager
def unchanged(model: nn.Module, average: nn.Module | None) -> Iterator[None]:
    """Take back what happens to weights, buffers and torch's random state inside this."""
    modules = [module for module in (model, average) if module is not None]
    before = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in modules]
    devices = [tensor.device for tensor in model.parameters() if tensor.is_cuda][:1]
    with torch.random.fork_rng(devices=devices):
        yield
    for module, state in zip(modules, before, strict=True):
        module.load_state_dict(state)

