"""Image generation by noise prediction: FID, KID, precision, recall, label agreement, sampling speed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from harness.dataset import Dataset, Split, stack
from harness.datasets.parts.display import display_range, displayed, range_words
from harness.diffusion import SAMPLERS, NoisePrediction, check_sampler, label_tokens
from harness.errors import InputError
from harness.measurement import costs
from harness.measurement.timing import time_alone
from harness.metrics.classifier import SmallCNN, classifier_extractor, label_agreement, train_ahead
from harness.metrics.fidelity import (
    INCEPTION_FEATURES,
    MIN_IMAGES,
    Extractor,
    fidelity,
    inception_available,
    inception_extractor,
)
from harness.record import Metric, Picture
from harness.spec import Frozen, RunSpec
from harness.suites import Job, Outcome
from harness.training.batches import EpochOrder, generator
from harness.training.train import Diverged, Runtime, on_device, train

NEEDS = ("images",)                              # and labels, where there are any
METRICS = ("fid", "kid", "precision", "recall", "label_agreement")
CURVES = {"loss": "lower", "validation loss": "lower"}
ACCEPTS = ("inception_weights",)
SHEET_ROWS = 4          # rows of the sheet of samples; one column per class
MOST_COLUMNS = 10       # without classes


class Settings(Frozen):
    """What is trained, how it is sampled, how it is evaluated."""

    timesteps:           int = Field(1000, gt=0)   # of the noise schedule
    schedule: Literal["cosine", "linear"] = "cosine"
    condition_dropout: float = Field(0.1, ge=0, le=1)  # share of training images whose label is hidden
    sampler: Literal["ddim", "ddpm", "dpm_solver++"] = "ddim"
    num_inference_steps: int = Field(25, gt=0)     # of the sampler, per image
    guidance_scale:    float = Field(1.5, ge=0)    # classifier-free; 1 = none. Without labels it is not used
    eta:               float = Field(0.0, ge=0, le=1)  # of DDIM: 0 = deterministic, 1 = DDPM-like noise
    solver_order:        int = Field(2, ge=1, le=3)    # of DPM-Solver++
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small"  # of DDPM's noise; large is DDIM's sigma-hat
    samples:             int = Field(1000, ge=MIN_IMAGES)   # generated images; at most as many as the test split has
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
    where Inception is asked for and its weights are not to be had, and for fewer images than FID can be computed from.
    """
    for what, split in (("test", data.test), ("training", data.train)):
        if len(split) < MIN_IMAGES:
            raise InputError(f"{data.name} has {len(split)} {what} image{'s' * (len(split) != 1)}; FID, KID, precision "
                             f"and recall need at least {MIN_IMAGES} to train and {MIN_IMAGES} to test (15 in all "
                             "where they are split 60/10/30 %), and hundreds to mean anything")
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


def data_facts(data: Dataset, settings: Settings) -> dict:
    counts = {"generated": min(settings.samples, len(data.test)), "train": len(data.train)}
    features = SmallCNN.FEATURES if settings.extractor == "classifier" else INCEPTION_FEATURES
    return {"few_samples": {**counts, "features": features}} if min(counts.values()) < features else {}


def num_classes(data: Dataset) -> int:
    return len(data.class_names) if data.train.labels is not None else 0


def network_arguments(data: Dataset, settings: Settings) -> dict:
    return {"in_channels": data.channels, "out_channels": data.channels, "image_size": data.image_size,
            "time": True, "context_dim": num_classes(data) or None}


def example_inputs(data: Dataset, settings: Settings, batch_size: int, device) -> tuple:
    x = torch.empty(batch_size, data.channels, *data.image_size, device=device)
    t = torch.zeros(batch_size, dtype=torch.long, device=device)
    classes = num_classes(data)
    return x, t, torch.empty(batch_size, 1, classes, device=device) if classes else None


def scale(images: np.ndarray) -> Tensor:
    """uint8 0..255, or float32 0..1 -> float32 -1..1."""
    tensor = torch.from_numpy(images)
    return tensor.float() / 127.5 - 1 if tensor.dtype == torch.uint8 else tensor * 2 - 1


def quantize(images: Tensor) -> Tensor:
    """float -1..1 -> uint8 0..255."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class NoisyImages:
    """Batches of a denoiser by step: images, noise (N, C, H, W), t (N,), label tokens (N, 1, K) or None.

    Everything random comes from ``seed`` and the step, so arms share it all.
    """

    def __init__(self, split: Split, settings: Settings, classes: int, batch_size: int, seed: int):
        self.split, self.settings, self.classes, self.seed = split, settings, classes, seed
        self.order = EpochOrder(len(split), batch_size, seed)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        draws, chosen = generator(self.seed, step), self.order.indices(step).numpy()
        x = scale(stack(self.split.images, chosen))
        noise = torch.randn(x.shape, generator=draws)
        t = torch.randint(self.settings.timesteps, (len(x),), generator=draws)
        context = None
        if self.classes:
            hidden = torch.rand(len(x), generator=draws) < self.settings.condition_dropout
            labels = torch.from_numpy(np.asarray(self.split.labels)[chosen]).long()
            context = label_tokens(labels.masked_fill(hidden, -1), self.classes)
        return x, noise, t, context


def asked_labels(split: Split, count: int) -> np.ndarray:
    """``count`` labels in the proportions of ``split``, sorted."""
    return np.sort(np.asarray(split.labels))[np.linspace(0, len(split) - 1, count).round().astype(int)]


def prepare(spec: RunSpec, settings: Settings, data: Dataset, runtime: Runtime, cache: Path) -> None:
    """Train the feature extractor that runs share, while others train their networks; none waits for it here."""
    if spec.evaluate_on_test and settings.extractor == "classifier":
        runtime.progress(stage="feature extractor")
        train_ahead(data, cache, device=str(runtime.accelerator.device))


def run(job: Job) -> Outcome:
    """Train a noise predictor on the train split, sample from it, compare samples with real images.

    A trial, whose spec is not ``evaluate_on_test``, ends before sampling.
    """
    spec, settings, data, device = job.spec, job.settings, job.data, job.runtime.accelerator.device
    classes = num_classes(data)
    diffusion = NoisePrediction(settings.timesteps, settings.schedule)
    batches = NoisyImages(data.train, settings, classes, spec.train.batch_size, spec.seeds.data)
    # The same images, noise and steps at every validation of every arm.
    held_out = on_device(NoisyImages(data.validation, settings, classes, min(512, len(data.validation)), 0)[0], device)

    def loss(model, batch):
        return diffusion.loss(model, *batch)

    def validate(model) -> dict[str, float]:
        return {"validation loss": float(diffusion.loss(model, *held_out))}

    trained = train(job.model, loss, batches, spec.train, job.runtime, validate=validate)
    protocol = costs.speed_protocol(spec.train, spec.train.batch_size, data.image_size)
    memory = job.memory.stop(protocol)
    outcome = Outcome(model=trained.model, curves=trained.curves)
    outcome.cost |= costs.training_speed(trained, spec.train, data.image_size)
    outcome.cost["peak_memory_bytes"] = memory
    if not spec.evaluate_on_test:
        return outcome

    count = min(settings.samples, len(data.test))
    labels = asked_labels(data.train, count) if classes else None
    with torch.inference_mode(), job.runtime.accelerator.autocast():
        generated, outcome.cost["sampling_images_per_s"] = sample(job, trained.model, diffusion, count, labels)
    draw(job, generated, labels, outcome)

    job.runtime.progress(stage="evaluating")
    job.runtime.lease.give_way()
    outcome.metrics = evaluate(job, generated, labels)
    return outcome


def sample(job: Job, model, diffusion: NoisePrediction, count: int,
           labels: np.ndarray | None) -> tuple[Tensor, Metric]:
    """``count`` images (N, C, H, W) uint8, and how many come per second: the first call again, alone on the machine."""
    settings, data, device = job.settings, job.data, job.runtime.accelerator.device
    generator = torch.Generator().manual_seed(job.spec.seeds.sampling)
    noise = torch.randn(count, data.channels, *data.image_size, generator=generator)
    context = label_tokens(torch.from_numpy(labels).long(), num_classes(data)) if labels is not None else None

    def batch(start: int, generator: torch.Generator) -> Tensor:
        part = slice(start, start + settings.sample_batch)
        tokens = context[part].to(device) if context is not None else None
        return diffusion.sample(model, noise[part].to(device, memory_format=torch.channels_last), tokens,
                                num_inference_steps=settings.num_inference_steps,
                                guidance_scale=settings.guidance_scale, eta=settings.eta, generator=generator,
                                sampler=settings.sampler, solver_order=settings.solver_order,
                                variance_type=settings.variance)

    images = []
    for start in range(0, count, settings.sample_batch):
        job.runtime.progress(stage="sampling", step=start, total=count)
        job.runtime.lease.give_way()
        images.append(batch(start, generator).float().cpu())
    first = len(images[0])
    images = torch.cat(images)
    if not images.isfinite().all():
        raise Diverged("sampling gave images with NaN or infinite pixels")
    job.runtime.progress(stage="timing: sampling")
    timing = time_alone(lambda: batch(0, torch.Generator().manual_seed(0)), device, job.runtime.lease, warmup=0,
                        repeats=1)                 # warm by what was sampled before
    protocol = {**costs.speed_protocol(job.spec.train, first, data.image_size), **sampler_protocol(settings),
                "guidance_scale": settings.guidance_scale}
    return quantize(images), costs.throughput("Sampling", first, timing, protocol)


def sampler_protocol(settings: Settings) -> dict:
    """What decides how fast, and with DDIM's ``eta`` how well, one samples: the name, the steps, its own settings."""
    own = {"ddpm": {"variance": settings.variance}, "dpm_solver++": {"solver_order": settings.solver_order}}
    return {"sampler": SAMPLERS[settings.sampler], "num_inference_steps": settings.num_inference_steps,
            **own.get(settings.sampler, {})}


def evaluate(job: Job, generated: Tensor, labels: np.ndarray | None) -> dict[str, Metric]:
    """FID and its kin against the train split, with held-out real images as the reference; label agreement."""
    settings, data, device = job.settings, job.data, str(job.runtime.accelerator.device)
    extractor = choose_extractor(job)
    found = fidelity(generated, data.train.images, data.test.images, extractor, device=device, cache=job.cache)
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
    job.runtime.progress(stage="feature extractor")
    return classifier_extractor(job.data, job.cache, device=str(job.runtime.accelerator.device))


def draw(job: Job, generated: Tensor, labels: np.ndarray | None, outcome: Outcome) -> None:
    """samples.png and real.png: the first images of every class in columns; without labels, the first images."""
    data, real = job.data, job.data.train
    heads = tuple(data.class_names) if labels is not None else ()
    span = display_range([real.images[i] for i in range(min(len(real), SHEET_ROWS * MOST_COLUMNS))])
    for name, role, images, classes_of, caption in (
            ("samples", "output", generated.numpy(), labels, "samples"),
            ("real", "reference", real.images, None if labels is None else np.asarray(real.labels),
             "real training images")):
        if classes_of is None:
            columns = [np.arange(i * SHEET_ROWS, (i + 1) * SHEET_ROWS) for i in range(len(images) // SHEET_ROWS)]
            columns = columns[:MOST_COLUMNS]
        else:
            columns = [np.flatnonzero(classes_of == label)[:SHEET_ROWS] for label in range(num_classes(data))]
            columns = [column for column in columns if len(column) == SHEET_ROWS]
        if not columns:
            continue
        tiles = [displayed(stack(images, column), span) for column in columns]              # each (rows, C, H, W)
        grid = np.concatenate([np.concatenate(column, axis=1) for column in tiles], axis=2)  # (C, H, W)
        Image.fromarray(grid[0] if len(grid) == 1 else grid.transpose(1, 2, 0)).save(job.folder / f"{name}.png")
        caption += range_words(span)
        caption += "" if labels is None else "; one column per class: " + ", ".join(data.class_names)
        outcome.pictures[f"{name}.png"] = Picture(rows=SHEET_ROWS, columns=len(columns), caption=caption, role=role,
                                                  heads=heads if len(heads) == len(columns) else ())
