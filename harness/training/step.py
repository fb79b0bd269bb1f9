"""One training step and its optimiser, as every suite, benchmark and memory estimate takes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.spec import TrainSpec

FUSED_ON = ("cpu", "cuda")                         # where PyTorch has AdamW as one kernel


def make_optimizer(parameters: Iterable[nn.Parameter], device_type: str, *, learning_rate: float = 1e-3,
                   weight_decay: float = 0.0, fused: bool = True) -> torch.optim.AdamW:
    """Make AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), by its fused kernel where the device has one."""
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay,
                             fused=fused and device_type in FUSED_ON)


def training_step(loss: Callable[[], Tensor], model: nn.Module, optimizer: torch.optim.Optimizer,
                  max_grad_norm: float = 1.0, *, backward: Callable[[Tensor], object] = Tensor.backward,
                  clip: Callable[..., object] = nn.utils.clip_grad_norm_,
                  mark: Callable[[str], None] = lambda name: None) -> Tensor:
    """Take one optimiser step on ``loss()`` and return the loss, detached.

    Gradients are clipped to the global norm ``max_grad_norm``. ``backward`` and ``clip`` are accelerate's where
    precision or several devices need them. ``mark`` hears "forward" and "backward" at the end of each.
    """
    value = loss()
    mark("forward")
    backward(value)
    mark("backward")
    clip(model.parameters(), max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return value.detach()


def learning_rate_factor(step: int, budget: TrainSpec) -> float:
    """Compute the share of the peak learning rate: linear warm-up, then half a cosine down to 0 at the last step."""
    if step < budget.warmup_steps:
        return (step + 1) / budget.warmup_steps
    done = (step - budget.warmup_steps) / max(1, budget.steps - budget.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Make an exponential moving average of the weights that forgets its first steps.

    The decay grows as (1 + n) / (10 + n) up to ``decay``, so that a short run's average is not its
    initial weights.
    """
    def update(averages, current, count):
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(averages, current, count)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
