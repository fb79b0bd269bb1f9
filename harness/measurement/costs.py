"""What a network costs: parameters, multiply-accumulates, time, memory."""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.measurement.timing import Timing
from harness.record import Metric
from harness.spec import TrainSpec
from harness.training.device import give_back_freed_memory

if TYPE_CHECKING:                                  # what only counts must not wait for the training loop
    from harness.training.train import Trained


def count_parameters(model: nn.Module) -> Metric:
    """Trainable parameters."""
    value = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Metric(value=value, label="Parameters", unit="", direction="lower", n=1)


def count_macs(model: nn.Module, *inputs: torch.Tensor | None) -> dict[str, Metric]:
    """Count multiply-accumulates and FLOPs (= 2 x MACs) of one forward pass of ``model`` on ``inputs``.

    On the meta device nothing is computed. Elsewhere attention is computed by plain products, because its fused kernels
    would escape the counter. Convolutions and matrix products count; norms and activations do not.
    """
    model.requires_grad_(False)                    # the counter's module tracker would hook into the graph
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            model.eval()(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return macs_and_flops(counter.get_total_flops(), inputs)


def uncounted_macs(*inputs: torch.Tensor | None) -> dict[str, Metric]:
    """Return the same, undefined."""
    return macs_and_flops(None, inputs)


def macs_and_flops(flops: int | None, inputs: tuple) -> dict[str, Metric]:
    protocol = {"input": [list(x.shape) for x in inputs if x is not None]}
    return {name: Metric(value=math.nan if flops is None else flops // share, label=label, unit=unit, direction="lower",
                         n=1, undefined=int(flops is None), protocol=protocol)
            for name, label, unit, share in (("macs", "MACs", "MAC", 2), ("flops", "FLOPs", "FLOP", 1))}


def throughput(label: str, images_per_call: int, timing: Timing, protocol: dict) -> Metric:
    """Give images per second at the median of a timing's calls."""
    value = images_per_call / statistics.median(timing.seconds)
    return timed_metric(value, label, "images/s", "higher", timing, protocol)


def timed_metric(value: float, label: str, unit: str, direction: str, timing: Timing, protocol: dict) -> Metric:
    """Give a number that comes from ``timing``, with the circumstances that the timing was taken in."""
    return Metric(value=value, label=label, unit=unit, direction=direction, n=len(timing.seconds),
                  protocol={**protocol, "threads": timing.threads, "alone": timing.alone},
                  processor_share=timing.processor_share)


def training_speed(trained: Trained, budget: TrainSpec, image: tuple[int, ...]) -> dict[str, Metric]:
    """Time a training step alone on the machine: its median, images per second, and the share of time that training
    waited for batches; where the budget asks to compile, also how much longer the first step was.

    ``image`` is (H, W). The curves of ``trained`` then count seconds of such steps.
    """
    timing = trained.time_step(budget.compile)
    protocol = speed_protocol(budget, budget.batch_size, image)
    median = statistics.median(timing.seconds)
    found = {
        "step_ms": timed_metric(1e3 * median, "Training step", "ms", "lower", timing, protocol),
        "train_images_per_s": throughput("Training", budget.batch_size, timing, protocol),
        "data_wait_share": Metric(value=trained.wait_share, label="Waiting for data", unit="", direction="lower",
                                  n=budget.steps, protocol=protocol)}
    if budget.compile:
        found["compile_s"] = Metric(value=trained.first_step_s - median, label="Compile time", unit="s",
                                    direction="lower", n=1, protocol=protocol)
    return found


def speed_protocol(budget: TrainSpec, batch_size: int, image: tuple[int, ...]) -> dict[str, Any]:
    """What must be equal for two speeds to compare; ``image`` is (H, W)."""
    return {"batch_size": batch_size, "image": list(image), "precision": budget.precision,
            "memory_format": "channels_last", "compile": budget.compile}


class PeakMemory:
    """Most memory in use between its making and :meth:`stop`, above what was in use at its making, in bytes.

    On CUDA the allocator's own peak; elsewhere the process's peak resident set, which is only right in a
    process that has done nothing larger before (runs are made in fresh processes for that reason).
    """

    def __init__(self, device: torch.device):
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            give_back_freed_memory()
            _reset_peak_resident()
            self.before = _resident_bytes()

    def stop(self, protocol: dict) -> Metric:
        """The peak so far, as a metric; ``protocol`` says what was done meanwhile (batch, precision)."""
        if self.device.type == "cuda":
            peak, kind = torch.cuda.max_memory_allocated(self.device), "CUDA allocator"
        else:
            peak, kind = _peak_resident_bytes(), "resident set"
        return Metric(value=max(0, peak - self.before), label="Peak training memory", unit="B", direction="lower",
                      n=1, protocol={**protocol, "memory": f"peak of the {kind} above the level before the network"})


def _status_bytes(field: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:                                    # not Linux
        pass
    return None


def _peak_resident_bytes() -> int:
    peak = _status_bytes("VmHWM")
    if peak is None:
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak


def _resident_bytes() -> int:
    return _status_bytes("VmRSS") or _peak_resident_bytes()


def _reset_peak_resident() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM to the present size
    except OSError:
        pass                                           # the peak then includes what came before
