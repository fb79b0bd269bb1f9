"""The one training loop. It knows neither suite nor variant: a model, a loss, batches, a budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.device import check_precision, resolve_device
from harness.prefetch import prefetched
from harness.spec import TrainSpec

LOG_EVERY = 10      # steps between two looks at the loss; on a GPU each look waits for the device
TIMED_FROM = 5      # the first steps pay for allocation and kernel choice, and are left out of step times


class Diverged(RuntimeError):
    """The loss became NaN or infinite."""


@dataclass
class Trained:
    """What training leaves: the weights to judge, its curves, its step times."""

    model: nn.Module                               # averaged weights where the budget asks for them
    curves: list[tuple[int, float, str, float]] = field(default_factory=list)  # (step, seconds, name, value)
    step_s: list[float] = field(default_factory=list)                          # seconds per optimiser step
    first_step_s: float = 0.0                      # which pays for compilation


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Accelerate's device and precision handling for one run.

    Raises InputError for a device that this machine lacks or a precision that the device lacks.
    """
    kind = resolve_device(device).partition(":")[0]
    check_precision(kind, precision)
    # Accelerate keeps one state per process, and refuses a second precision; each run starts its own.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=kind == "cpu", mixed_precision={"fp32": "no"}.get(precision, precision))


def train(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    batches: Iterator[Any],
    budget: TrainSpec,
    accelerator: Accelerator,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    progress: Callable[..., None] = lambda **event: None,
) -> Trained:
    """Train ``model`` in place for ``budget.steps`` steps of AdamW with warm-up and cosine decay.

    ``loss(model, batch)`` gives a scalar; ``batches`` are on the device already; ``validate(model)`` gives
    named values of the weights that will be judged. Curve times count training (and compilation), not validation.
    Raises :class:`Diverged` at the first logged step whose loss is not finite.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay,
                                  fused=accelerator.device.type in ("cpu", "cuda"))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, budget))
    average = averaged(model, budget.ema_decay) if budget.ema_decay else None
    if budget.compile:
        for module in filter(None, (model, average and average.module)):
            module.compile()                       # in place, so that names of weights stay
    prepared, optimizer = accelerator.prepare(model, optimizer)
    trained = Trained(average.module if average is not None else model)
    seconds, pending = 0.0, []
    prepared.train()

    with prefetched(batches, accelerator.device.type) as ready:
        for step in range(1, budget.steps + 1):
            started = time.perf_counter()
            value = loss(prepared, next(ready))
            accelerator.backward(value)
            accelerator.clip_grad_norm_(prepared.parameters(), budget.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if average is not None:
                average.update_parameters(model)
            pending.append(value.detach())
            last = step == budget.steps
            looks = last or step % LOG_EVERY == 0
            if looks:
                mean = torch.stack(pending).mean().item()     # NaN or infinite as soon as one of them is
                pending.clear()
                if not math.isfinite(mean):
                    raise Diverged(f"the loss became {mean} by step {step} of {budget.steps}")
            took = time.perf_counter() - started
            seconds += took
            if step == 1:
                trained.first_step_s = took
            if step > TIMED_FROM:
                trained.step_s.append(took)
            if looks:
                trained.curves.append((step, seconds, "loss", mean))
                progress(stage="training", step=step, total=budget.steps, loss=mean)

            if validate is not None and (last or (budget.validate_every and step % budget.validate_every == 0)):
                trained.model.eval()
                with torch.inference_mode(), accelerator.autocast():
                    values = validate(trained.model)
                trained.curves.extend((step, seconds, name, value) for name, value in values.items())
                prepared.train()
    trained.model.eval()
    return trained


def learning_rate_factor(step: int, budget: TrainSpec) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to 0 at the last step."""
    if step < budget.warmup_steps:
        return (step + 1) / budget.warmup_steps
    done = (step - budget.warmup_steps) / max(1, budget.steps - budget.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights that forgets its first steps.

    The decay grows as (1 + n) / (10 + n) up to ``decay``, so that a short run's average is not its
    initial weights.
    """
    def update(averages, current, count):
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(averages, current, count)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
