"""What a network costs: time of a training step and a forward pass, memory by its parts, share of the roofline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.dataset import Dataset
from harness.identity import building
from harness.measurement import costs
from harness.measurement.allocations import Mark, follow, storage_bytes, tensors_of
from harness.measurement.energy import energy_counter, energy_per_call
from harness.measurement.memory import predict_memory
from harness.measurement.processor import most_threads
from harness.measurement.roofline import Roofline, roofline
from harness.measurement.timing import cpu_threads, time_alone, time_calls
from harness.measurement.traffic import forward_traffic
from harness.record import Metric
from harness.spec import Frozen
from harness.suites import Job, Outcome
from harness.training.compilation import compilation
from harness.training.step import make_optimizer, training_step

NEEDS = ()
METRICS = {                                        # name -> label, unit, which way is better
    "step_ms":                 ("Training step", "ms", "lower"),
    "step_iqr_ms":             ("Training step, IQR", "ms", "none"),
    "forward_ms":              ("Forward pass", "ms", "lower"),
    "forward_iqr_ms":          ("Forward pass, IQR", "ms", "none"),
    "train_images_per_s":      ("Training", "images/s", "higher"),
    "inference_images_per_s":  ("Inference", "images/s", "higher"),
    "memory_bytes":            ("Peak memory, training", "B", "lower"),
    "memory_parameters_bytes": ("Memory, parameters", "B", "lower"),
    "memory_gradients_bytes":  ("Memory, gradients", "B", "lower"),
    "memory_optimizer_bytes":  ("Memory, optimiser", "B", "lower"),
    "memory_activations_bytes": ("Memory, activations", "B", "lower"),
    "memory_predicted_bytes":  ("Peak memory, predicted", "B", "none"),
    "memory_inference_bytes":  ("Peak memory, inference", "B", "lower"),
    "intensity":               ("Arithmetic intensity", "FLOP/B", "none"),
    "forward_flops_per_s":     ("Forward pass, rate", "FLOP/s", "higher"),
    "step_flops_per_s":        ("Training step, rate", "FLOP/s", "higher"),
    "roofline_share_forward":  ("Forward pass, share of roofline", "", "higher"),
    "roofline_share_step":     ("Training step, share of roofline", "", "higher"),
    "energy_j_per_image":      ("Energy, training", "J/image", "lower"),
    "compile_s":               ("Compile time", "s", "lower"),
}
SUMMARY = ("step_ms", "forward_ms", "memory_bytes", "memory_activations_bytes", "memory_inference_bytes",
           "roofline_share_step", "roofline_share_forward", "energy_j_per_image", "compile_s")
CAPTION = "What it costs"
CURVES = {}             # nothing is learnt; curves.csv has every timed call, "training step ms" and "forward ms"
TIMED = ("step_ms", "forward_ms", "train_images_per_s", "inference_images_per_s", "forward_flops_per_s",
         "step_flops_per_s", "roofline_share_forward", "roofline_share_step")
MOST_SKIPPED = 24       # halvings that bring GradScaler's 65,536 down to 1/256
STEP_FLOPS = 3          # a training step over a forward pass: the backward pass makes two products for each of its


class Settings(Frozen):
    """One cell: what the network is given, and how it is run. Batch, precision and compilation are the budget's."""

    image_size: int = Field(32, gt=0)              # side, pixels
    channels:   int = Field(3, gt=0)               # of the image, and of what the network returns
    time:      bool = True                         # the network is told a time step, as a denoiser is
    channels_last: bool = True                     # layout of images and kernels
    fused:     bool = True                         # attention and AdamW by fused kernels; false: by plain operators
    warmup:     int = Field(3, ge=1)               # calls before those that are timed
    repeats:    int = Field(20, ge=2)              # timed calls


def network_arguments(data: Dataset, settings: Settings) -> dict:
    return {"in_channels": settings.channels, "out_channels": settings.channels, "image_size": settings.image_size,
            "time": settings.time, "context_dim": None}


def example_inputs(data: Dataset, settings: Settings, batch_size: int, device) -> tuple:
    x = torch.empty(batch_size, settings.channels, settings.image_size, settings.image_size, device=device)
    return x, torch.zeros(batch_size, dtype=torch.long, device=device) if settings.time else None, None


class Workload:
    """A network with its optimiser and one batch of noise: the step that training takes, and inference."""

    def __init__(self, job: Job):
        spec, settings, accelerator = job.spec, job.settings, job.runtime.accelerator
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        model = job.model.to(memory_format=layout)
        optimizer = make_optimizer(model.parameters(), accelerator.device.type, learning_rate=spec.train.learning_rate,
                                   weight_decay=spec.train.weight_decay, fused=settings.fused)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        if spec.train.compile:
            self.model.compile()
        self.accelerator, self.device, self.max_grad_norm = accelerator, accelerator.device, spec.train.max_grad_norm
        generator = torch.Generator().manual_seed(spec.seeds.data)
        shape = (spec.train.batch_size, settings.channels, settings.image_size, settings.image_size)
        self.x, self.target = (torch.randn(shape, generator=generator).to(self.device, memory_format=layout)
                               for _ in range(2))
        self.t = torch.randint(1000, shape[:1], generator=generator).to(self.device) if settings.time else None

    def step(self, mark: Mark = lambda name: None) -> None:
        self.model.train()
        training_step(lambda: F.mse_loss(self.model(self.x, self.t).float(), self.target), self.model, self.optimizer,
                      self.max_grad_norm, backward=self.accelerator.backward, clip=self.accelerator.clip_grad_norm_,
                      mark=mark)

    def forward(self) -> None:
        self.model.eval()
        with torch.inference_mode(), self.accelerator.autocast():
            self.model(self.x, self.t)

    def weights(self) -> int:
        """Bytes of parameters and buffers."""
        return storage_bytes([*self.model.parameters(), *self.model.buffers()])

    def gradients(self) -> int:
        return storage_bytes(p.grad for p in self.model.parameters() if p.grad is not None)

    def optimizer_state(self) -> int:
        return storage_bytes(tensor for state in self.optimizer.state.values() for tensor in tensors_of(state)
                             if tensor.device.type == self.device.type)


def run(job: Job) -> Outcome:
    """Time the network and measure its memory in one cell. Nothing is learnt, and no weights are kept."""
    settings, batch_size, compiled, found = job.settings, job.spec.train.batch_size, job.spec.train.compile, {}
    protocol = {"batch_size": batch_size, "image": [settings.image_size] * 2, "time": settings.time,
                "precision": job.spec.train.precision, "channels_last": settings.channels_last,
                "compile": compiled, "fused": settings.fused, "threads": most_threads()}
    shares: dict[str, float | None] = {}           # "step", "forward" -> processor time got / asked for

    def note(name: str, value: float, n: int = 1, **more: Any) -> None:
        label, unit, direction = METRICS[name]
        share = shares.get("forward" if "forward" in name or "inference_images" in name else "step")
        found[name] = Metric(value=value, label=label, unit=unit, direction=direction, n=n,
                             undefined=n if math.isnan(value) else 0, protocol={**protocol, **more},
                             processor_share=share if name in TIMED else None)

    job.runtime.progress(stage="on paper")
    flops, moved, predicted = estimate_memory(job)
    job.runtime.progress(stage="first steps")
    with attention(settings.fused), compilation(job.cache) if compiled else nullcontext() as kernels:
        work = Workload(job)
        calls = {"step": work.step, "forward": work.forward}
        first = {name: time_calls(call, work.device, warmup=0, repeats=1)[0] for name, call in calls.items()}
        for _ in range(MOST_SKIPPED):              # in fp16, until the scale of the loss fits its gradients
            if work.optimizer.step_was_skipped:
                work.step()
        measure_memory(job, work, predicted, note)
        seconds = {}
        for name, call in calls.items():
            job.runtime.progress(stage=f"timing: {name}")
            timing = time_alone(call, work.device, job.runtime.lease, warmup=settings.warmup, repeats=settings.repeats)
            seconds[name], shares[name] = timing.seconds, timing.processor_share
        counter = energy_counter(work.device)
        if counter is not None:
            with job.runtime.lease.alone(), cpu_threads(most_threads()):
                joules, made = energy_per_call(work.step, counter, work.device)
            note("energy_j_per_image", joules / batch_size, made, counter=counter.name)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    if compiled:
        note("compile_s", sum(max(0.0, first[name] - median[name]) for name in calls), kernels=kernels())
    del work, calls, call                          # room for the roofline's arrays
    if job.runtime.accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
    job.runtime.progress(stage="roofline")
    with job.runtime.lease.alone(), cpu_threads(most_threads()):
        machine = roofline(job.runtime.accelerator.device, job.spec.train.precision, job.cache)
    if flops and moved:
        rates(flops, moved, median, machine, settings, note)
    for name, throughput in (("step", "train_images_per_s"), ("forward", "inference_images_per_s")):
        ms = [1e3 * each for each in seconds[name]]
        quarter, three_quarters = np.percentile(ms, [25, 75])
        note(f"{name}_ms", statistics.median(ms), len(ms), warmup=settings.warmup)
        note(f"{name}_iqr_ms", three_quarters - quarter, len(ms), warmup=settings.warmup)
        note(throughput, batch_size / median[name], len(ms), warmup=settings.warmup)
    return Outcome(model=None, metrics={name: found[name] for name in METRICS if name in found},
                   curves=[*curve("training step ms", seconds["step"]), *curve("forward ms", seconds["forward"])])


def curve(name: str, seconds: list[float]) -> Iterator[tuple[int, float, str, float]]:
    """(call, seconds so far, name, ms)."""
    for i, each in enumerate(seconds):
        yield i + 1, sum(seconds[:i + 1]), name, 1e3 * each


def estimate_memory(job: Job) -> tuple[int | None, int | None, int | None]:
    """FLOPs of a forward pass, the bytes that its operators move, and the peak memory predicted of a training step.

    None where a network computes with values and so cannot be followed without them. No prediction where the run
    differs from what is predicted: compiled, other layouts, plain operators.
    """
    spec, settings = job.spec, job.settings
    inputs = example_inputs(job.data, settings, spec.train.batch_size, "meta")
    device = "cuda" if job.runtime.accelerator.device.type == "cuda" else "cpu"
    flops = moved = predicted = None
    with suppress(Exception) if ":" in spec.variant else nullcontext():
        with torch.device("meta"):
            network = building.build(spec.variant, inputs, **{**network_arguments(job.data, settings), **spec.options})
        if settings.fused and settings.channels_last and not spec.train.compile:
            predicted = predict_memory(network, inputs, training=True, precision=spec.train.precision,
                                       device=device).total
        moved = forward_traffic(network, inputs, precision=spec.train.precision, fused=settings.fused,
                                device=device).total
        flops = int(costs.count_macs(network, *inputs)["flops"].value)
    return flops, moved, predicted


def measure_memory(job: Job, work: Workload, predicted: int | None, note: Callable[..., None]) -> None:
    """Peak memory of a step and of a forward pass, and what is held for how long.

    The parts are at their own largest: activations at the end of the forward pass, gradients at the end of the
    backward pass. The peak lies between these, and is less than their sum.
    """
    gradients = 0

    def step(mark: Mark) -> None:
        def also(name: str) -> None:
            nonlocal gradients
            gradients = max(gradients, work.gradients())
            mark(name)
        work.step(also)

    between = {"weights": work.weights(), "optimizer": work.optimizer_state(),
               "batch": storage_bytes(tensors_of([work.x, work.t])), "target": storage_bytes([work.target])}
    held, how = sum(between.values()), "tensors alive, by PyTorch's profiler"
    if work.device.type == "cuda":
        held = torch.cuda.memory_allocated(work.device) - job.memory.before
        how = "CUDA allocator, above the level before the network"
    training = follow(step, work.device)
    inference = follow(lambda mark: work.forward(), work.device)
    note("memory_bytes", held + training.peak, memory=how)
    note("memory_parameters_bytes", between["weights"], memory="storages")
    note("memory_gradients_bytes", gradients, memory="storages")
    note("memory_optimizer_bytes", between["optimizer"], memory="storages")
    note("memory_activations_bytes", training.at.get("forward", math.nan), memory=how)
    note("memory_inference_bytes", held - between["optimizer"] - between["target"] + inference.peak, memory=how)
    if predicted is not None:
        note("memory_predicted_bytes", predicted, memory="predicted, harness/measurement/memory.py")


def rates(flops: int, moved: int, median: dict[str, float], machine: Roofline, settings: Settings,
          note: Callable[..., None]) -> None:
    """Arithmetic intensity, FLOP/s, and their share of what this machine could do at that intensity.

    A share above 1 is possible: the intensity counts every operand as if it came from main memory.
    """
    traffic = "operators of the uncompiled network"
    limit = {"roofline": f"{machine.flops_per_s / 1e9:.4g} GFLOP/s, {machine.bytes_per_s / 1e9:.4g} GB/s",
             "traffic": traffic}
    note("intensity", flops / moved, traffic=traffic)
    for name, work in (("forward", flops), ("step", STEP_FLOPS * flops)):
        rate = work / median[name]
        note(f"{name}_flops_per_s", rate, settings.repeats)
        note(f"roofline_share_{name}", rate / machine.attainable(flops / moved), settings.repeats, **limit)


def attention(fused: bool):
    """PyTorch's attention by the fused kernel, or by plain operators that write all scores."""
    return nullcontext() if fused else sdpa_kernel(SDPBackend.MATH)
