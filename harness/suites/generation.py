"""Image generation by noise prediction: FID, KID, precision, recall, label agreement, sampling speed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from harness import measure
from harness.dataset import Dataset, Split
from harness.diffusion import SAMPLERS, NoisePrediction, check_sampler, label_tokens
from harness.metrics.classifier import classifier_extractor, label_agreement
from harness.metrics.fidelity import Extractor, fidelity, inception_available, inception_extractor
from harness.record import Metric, Picture
from harness.spec import Frozen
from harness.suites import Job, Outcome
from harness.train import Diverged, train

TASK = "generation"
METRICS = ("fid", "kid", "precision", "recall", "label_agreement")
CURVES = {"loss": "lower", "validation loss": "lower"}
ACCEPTS = ("inception_weights",)
SHEET_ROWS = 4          # rows of the sheet of samples; one column per class


class Settings(Frozen):
    """What is trained, how it is sampled, how it is judged."""

    timesteps:           int = Field(1000, gt=0)   # of the noise schedule
    schedule: Literal["cosine", "linear"] = "cosine"
    condition_dropout: float = Field(0.1, ge=0, le=1)  # share of training images whose label is hidden
    sampler: Literal["ddim", "ddpm", "dpm_solver++"] = "ddim"
    num_inference_steps: int = Field(25, gt=0)     # of the sampler, per image
    guidance_scale:    float = Field(1.5, ge=0)    # classifier-free; 1 = none. Without labels it is not used
    eta:               float = Field(0.0, ge=0, le=1)  # of DDIM: 0 = deterministic, 1 = DDPM-like noise
    solver_order:        int = Field(2, ge=1, le=3)    # of DPM-Solver++
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small"  # of DDPM's noise; large is DDIM's sigma-hat
    samples:             int = Field(1000, gt=1)   # generated images; at most as many as the test split has
    sample_batch:        int = Field(180, gt=0)    # images per sampling call
    extractor: Literal["classifier", "inception"] = "classifier"  # whose features FID compares
    inception_hash:      str = ""                  # of the weights file, where the extractor is Inception

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        check_sampler(self.sampler, eta=self.eta, solver_order=self.solver_order, variance_type=self.variance)
        if self.num_inference_steps > self.timesteps:
            raise ValueError(f"num_inference_steps {self.num_inference_steps} is more than the {self.timesteps} "
                             "timesteps of the schedule")
        return self


def complete_settings(settings: dict, data: Dataset, cache: Path, *, inception_weights: Path | None = None) -> dict:
    """``settings`` with whose features FID compares: Inception's where asked for, or, where the weights are here, for
    colour images; else a classifier's.

    ``inception_weights`` is copied into ``cache``, so that runs elsewhere and later find it. Raises InputError
    where Inception is asked for and its weights are not to be had.
    """
    kept = cache / "inception.pth"
    if inception_weights is not None:
        inception_extractor(inception_weights)                 # refuses what are not Inception's weights
        cache.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(inception_weights, kept)
    weights = kept if kept.exists() else None
    asked = settings.get("extractor") == "inception" or inception_weights is not None
    undecided = "extractor" not in settings and data.channels == 3
    if asked or (undecided and inception_available(weights)):
        return {**settings, "extractor": "inception", "inception_hash": inception_extractor(weights).weights_hash}
    return {**settings, "extractor": "classifier"}


def num_classes(data: Dataset) -> int:
    return len(data.class_names) if data.train.targets is not None else 0


def network_arguments(data: Dataset, settings: Settings) -> dict:
    return {"in_channels": data.channels, "out_channels": data.channels, "image_size": data.image_size,
            "time": True, "context_dim": num_classes(data) or None}


def example_inputs(data: Dataset, settings: Settings, batch_size: int, device) -> tuple:
    x = torch.empty(batch_size, data.channels, *data.image_size, device=device)
    t = torch.zeros(batch_size, dtype=torch.long, device=device)
    classes = num_classes(data)
    return x, t, torch.empty(batch_size, 1, classes, device=device) if classes else None


def to_tensor(split: Split) -> Tensor:
    """(N, C, H, W), uint8."""
    return torch.from_numpy(np.stack(split.images))


def scale(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1."""
    return images.float() / 127.5 - 1


def quantize(images: Tensor) -> Tensor:
    """float -1..1 -> uint8 0..255."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def noisy_batches(split: Split, settings: Settings, classes: int, batch_size: int, seed: int,
                  device) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Endless (images, noise, t, context); everything random comes from ``seed``, so arms share it all."""
    generator = torch.Generator().manual_seed(seed)
    images = to_tensor(split)
    labels = torch.as_tensor(np.asarray(split.targets)).long() if classes else None
    order = torch.empty(0, dtype=torch.long)
    while True:
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(images), generator=generator)])
        chosen, order = order[:batch_size], order[batch_size:]
        x = scale(images[chosen])
        noise = torch.randn(x.shape, generator=generator)
        t = torch.randint(settings.timesteps, (batch_size,), generator=generator)
        context = None
        if labels is not None:
            hidden = torch.rand(batch_size, generator=generator) < settings.condition_dropout
            context = label_tokens(labels[chosen].masked_fill(hidden, -1), classes).to(device)
        yield (x.to(device, memory_format=torch.channels_last), noise.to(device, memory_format=torch.channels_last),
               t.to(device), context)


def asked_labels(split: Split, count: int) -> np.ndarray:
    """``count`` labels in the proportions of ``split``, sorted."""
    return np.sort(np.asarray(split.targets))[np.linspace(0, len(split) - 1, count).round().astype(int)]


def run(job: Job) -> Outcome:
    """Train a noise predictor on the train split, sample from it, compare samples with real images.

    A trial, whose spec is not ``judged``, ends before sampling.
    """
    spec, settings, data, device = job.spec, job.settings, job.data, job.accelerator.device
    classes = num_classes(data)
    diffusion = NoisePrediction(settings.timesteps, settings.schedule)
    batches = noisy_batches(data.train, settings, classes, spec.train.batch_size, spec.seeds.data, device)
    # The same images, noise and steps at every validation of every arm.
    held_out = next(noisy_batches(data.validation, settings, classes, min(512, len(data.validation)), 0, device))

    def loss(model, batch):
        return diffusion.loss(model, *batch)

    def validate(model) -> dict[str, float]:
        return {"validation loss": float(diffusion.loss(model, *held_out))}

    trained = train(job.model, loss, batches, spec.train, job.accelerator, validate=validate, progress=job.progress)
    outcome = Outcome(model=trained.model, curves=trained.curves)
    outcome.cost |= measure.training_speed(trained.step_s, trained.first_step_s, spec.train, data.image_size)
    protocol = measure.speed_protocol(spec.train, spec.train.batch_size, data.image_size)
    outcome.cost["peak_memory_bytes"] = job.memory.stop(protocol)
    if not spec.judged:
        return outcome

    count = min(settings.samples, len(data.test))
    labels = asked_labels(data.train, count) if classes else None
    with torch.inference_mode(), job.accelerator.autocast():
        generated, outcome.cost["sampling_images_per_s"] = sample(job, trained.model, diffusion, count, labels)
    draw(job, generated, labels, outcome)

    job.progress(stage="judging")
    outcome.metrics = judge(job, generated, labels)
    return outcome


def sample(job: Job, model, diffusion: NoisePrediction, count: int,
           labels: np.ndarray | None) -> tuple[Tensor, Metric]:
    """``count`` images (N, C, H, W) uint8, and how many come per second (the first call is the warm-up)."""
    settings, data, device = job.settings, job.data, job.accelerator.device
    generator = torch.Generator().manual_seed(job.spec.seeds.sampling)
    noise = torch.randn(count, data.channels, *data.image_size, generator=generator)
    context = label_tokens(torch.from_numpy(labels).long(), num_classes(data)) if labels is not None else None
    images, timed = [], []
    for start in range(0, count, settings.sample_batch):
        part = slice(start, start + settings.sample_batch)
        job.progress(stage="sampling", step=start, total=count)
        x = noise[part].to(device, memory_format=torch.channels_last)
        tokens = context[part].to(device) if context is not None else None
        measure.synchronize(device)
        started = time.perf_counter()
        made = diffusion.sample(model, x, tokens, num_inference_steps=settings.num_inference_steps,
                                guidance_scale=settings.guidance_scale, eta=settings.eta, generator=generator,
                                sampler=settings.sampler, solver_order=settings.solver_order,
                                variance_type=settings.variance)
        measure.synchronize(device)
        timed.append((len(x), time.perf_counter() - started))
        images.append(made.float().cpu())
    images = torch.cat(images)
    if not images.isfinite().all():
        raise Diverged("sampling gave images with NaN or infinite pixels")
    full = [seconds for n, seconds in timed[1:] if n == timed[0][0]] or [timed[0][1]]
    protocol = {**measure.speed_protocol(job.spec.train, timed[0][0], data.image_size), **sampler_protocol(settings),
                "guidance_scale": settings.guidance_scale}
    return quantize(images), measure.throughput("Sampling", timed[0][0], full, protocol)


def sampler_protocol(settings: Settings) -> dict:
    """What decides how fast, and with DDIM's ``eta`` how well, one samples: the name, the steps, its own settings."""
    own = {"ddpm": {"variance": settings.variance}, "dpm_solver++": {"solver_order": settings.solver_order}}
    return {"sampler": SAMPLERS[settings.sampler], "num_inference_steps": settings.num_inference_steps,
            **own.get(settings.sampler, {})}


def judge(job: Job, generated: Tensor, labels: np.ndarray | None) -> dict[str, Metric]:
    """FID and its kin against the train split, with held-out real images as the floor; label agreement."""
    settings, data, device = job.settings, job.data, str(job.accelerator.device)
    extractor = choose_extractor(job)
    found = fidelity(generated, to_tensor(data.train), to_tensor(data.test), extractor, device=device,
                     cache=job.cache)
    sampler = {**sampler_protocol(settings), "schedule": settings.schedule, "guidance_scale": settings.guidance_scale}
    if settings.sampler == "ddim":
        sampler["eta"] = settings.eta
    if labels is not None and settings.extractor == "classifier":
        found["label_agreement"] = label_agreement(generated, labels, extractor, device=device)
    return {name: metric.model_copy(update={"protocol": {**metric.protocol, **sampler}})
            for name, metric in found.items()}


def choose_extractor(job: Job) -> Extractor:
    if job.settings.extractor == "inception":
        kept = job.cache / "inception.pth"
        return inception_extractor(kept if kept.exists() else None)
    job.progress(stage="feature extractor")
    return classifier_extractor(job.data, job.cache, device=str(job.accelerator.device))


def draw(job: Job, generated: Tensor, labels: np.ndarray | None, outcome: Outcome) -> None:
    """samples.png and real.png: the first images of every class in columns; without labels, the first images."""
    data = job.data
    real_labels = None if labels is None else np.asarray(data.train.targets)
    for name, images, classes_of, caption in (
            ("samples", generated, labels, "samples"),
            ("real", to_tensor(data.train), real_labels, "real training images")):
        if classes_of is None:
            columns = [np.arange(i * SHEET_ROWS, (i + 1) * SHEET_ROWS) for i in range(len(images) // SHEET_ROWS)][:10]
        else:
            columns = [np.flatnonzero(classes_of == label)[:SHEET_ROWS] for label in range(num_classes(data))]
            columns = [column for column in columns if len(column) == SHEET_ROWS]
        if not columns:
            continue
        grid = torch.cat([torch.cat([images[i] for i in column], dim=1) for column in columns], dim=2)  # (C, H, W)
        pixels = grid[0].numpy() if len(grid) == 1 else grid.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(job.folder / f"{name}.png")
        shown = "" if labels is None else "; one column per class: " + ", ".join(data.class_names)
        outcome.pictures[f"{name}.png"] = Picture(rows=SHEET_ROWS, columns=len(columns), caption=caption + shown)
