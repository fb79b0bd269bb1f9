"""Semantic segmentation: Dice, IoU and boundary quality on a test split that is touched once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from PIL import Image
from pydantic import Field
from torch import Tensor

from harness import measure
from harness.dataset import Dataset, Split
from harness.losses import segmentation_loss
from harness.metrics import boundary, overlap
from harness.record import Picture
from harness.spec import Frozen
from harness.suites import Job, Outcome
from harness.train import train

TASK = "segmentation"
METRICS = ("dice_macro", "dice_micro", "iou_macro", "iou_micro", "boundary_iou_macro", "hd95_macro")
CURVES = {"loss": "lower", "validation loss": "lower", "validation Dice": "higher"}

# Background black, then Tol's muted scheme, which stays apart for colour-blind readers.
PALETTE = ("#000000", "#88ccee", "#cc6677", "#ddcc77", "#117733", "#aa4499",
           "#44aa99", "#999933", "#882255", "#661100", "#6699cc")
LARGEST_TILE = 256      # pixels; of larger images the pictures show the middle


class Settings(Frozen):
    """What is trained and how it is judged."""

    loss:       str = "ce+dice"                    # see harness.losses
    crop_size:  int = Field(128, gt=0)             # training crops and inference windows are at most this large
    overlap:  float = Field(0.25, ge=0, lt=1)      # of inference windows, where an image is larger than one
    eval_batch: int = Field(16, gt=0)              # images, or windows, per forward pass when judging
    pictures:   int = Field(6, gt=0)               # test cases that are drawn


def crop_shape(data: Dataset, settings: Settings) -> tuple[int, int]:
    """(H, W) of training crops and inference windows."""
    return min(settings.crop_size, data.image_size[0]), min(settings.crop_size, data.image_size[1])


def network_arguments(data: Dataset, settings: Settings) -> dict:
    return {"in_channels": data.channels, "out_channels": len(data.class_names),
            "image_size": crop_shape(data, settings)}


def example_inputs(data: Dataset, settings: Settings, batch_size: int, device) -> tuple:
    return (torch.empty(batch_size, data.channels, *crop_shape(data, settings), device=device),)


class Standardize:
    """Images to float32 tensors with the training split's mean 0 and deviation 1 in every channel."""

    def __init__(self, train_split: Split):
        pixels = [as_float(image).flatten(1).double() for image in train_split.images]
        count = sum(p.shape[1] for p in pixels)
        mean = sum(p.sum(1) for p in pixels) / count
        variance = sum(((p - mean[:, None]) ** 2).sum(1) for p in pixels) / count
        self.mean, self.deviation = mean.float()[:, None, None], variance.sqrt().clamp(min=1e-6).float()[:, None, None]

    def __call__(self, image: np.ndarray) -> Tensor:
        """(C, H, W), uint8 or float32 -> (C, H, W), float32."""
        return (as_float(image) - self.mean) / self.deviation


def as_float(image: np.ndarray) -> Tensor:
    tensor = torch.tensor(image)                   # a copy: arrays that came from another process are read-only
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


def random_crops(split: Split, standardize: Standardize, shape: tuple[int, int], batch_size: int,
                 seed: int, device) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of images (N, C, h, w) and masks (N, h, w): every image once, in a new order, and again."""
    generator = torch.Generator().manual_seed(seed)
    images = [standardize(image) for image in split.images]
    masks = [torch.tensor(mask).long() for mask in split.targets]

    def draw() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for i in torch.randperm(len(images), generator=generator).tolist():
                top, left = (int(torch.randint(full - part + 1, (), generator=generator))
                             for full, part in zip(images[i].shape[1:], shape))
                window = (slice(top, top + shape[0]), slice(left, left + shape[1]))
                yield images[i][:, *window], masks[i][window]

    drawn = draw()
    while True:
        xs, ys = zip(*(next(drawn) for _ in range(batch_size)))
        x = torch.stack(xs).to(device, memory_format=torch.channels_last)
        yield x, torch.stack(ys).to(device)


def predict(model, split: Split, standardize: Standardize, shape: tuple[int, int], settings: Settings,
            device) -> Iterator[tuple[int, Tensor]]:
    """(index, logits (K, H, W)) of every image, in windows of ``shape`` with Gaussian blending.

    Neighbours of one size go through the network together.
    """
    start = 0
    while start < len(split):
        stop = start + 1
        while (stop < len(split) and stop - start < settings.eval_batch
               and split.images[stop].shape == split.images[start].shape):
            stop += 1
        x = torch.stack([standardize(image) for image in split.images[start:stop]])
        x = x.to(device, memory_format=torch.channels_last)
        logits = sliding_window_inference(x, shape, settings.eval_batch, model, settings.overlap, mode="gaussian")
        yield from enumerate(logits.float().cpu(), start)
        start = stop


def run(job: Job) -> Outcome:
    """Train on the train split, watch the validation split, then judge once on the test split.

    A trial, whose spec is not ``judged``, ends before that.
    """
    spec, settings, data, device = job.spec, job.settings, job.data, job.accelerator.device
    shape, classes = crop_shape(data, settings), len(data.class_names)
    standardize = Standardize(data.train)
    objective = segmentation_loss(settings.loss, classes)
    batches = random_crops(data.train, standardize, shape, spec.train.batch_size, spec.seeds.data, device)

    def loss(model, batch):
        x, y = batch
        return objective(model(x), y)

    def validate(model) -> dict[str, float]:
        losses, counts = [], []
        for i, logits in predict(model, data.validation, standardize, shape, settings, device):
            target = torch.tensor(data.validation.targets[i]).long()
            losses.append(float(objective(logits[None], target[None])))
            counts.append(overlap.confusion_counts(logits.argmax(0)[None], target[None], classes))
        dice = overlap.summarise(np.concatenate(counts), data.class_names)["dice_macro"].value
        return {"validation loss": float(np.mean(losses)), "validation Dice": dice}

    trained = train(job.model, loss, batches, spec.train, job.accelerator, validate=validate, progress=job.progress)
    outcome = Outcome(model=trained.model, curves=trained.curves)
    outcome.cost |= measure.training_speed(trained.step_s, trained.first_step_s, spec.train, shape)
    protocol = measure.speed_protocol(spec.train, spec.train.batch_size, shape)
    outcome.cost["peak_memory_bytes"] = job.memory.stop(protocol)
    if not spec.judged:
        return outcome
    with torch.inference_mode(), job.accelerator.autocast():
        outcome.cost["inference_images_per_s"] = inference_speed(job, shape)
        job.progress(stage="judging")
        judge(job, standardize, shape, outcome)
    return outcome


def inference_speed(job: Job, shape: tuple[int, int]):
    """Forward passes of one evaluation batch of random images, not of test images."""
    batch_size = job.settings.eval_batch
    x = torch.randn(batch_size, job.data.channels, *shape, device=job.accelerator.device)
    x = x.to(memory_format=torch.channels_last)
    seconds = measure.time_calls(lambda: job.model(x), job.accelerator.device, warmup=2, repeats=7)
    protocol = measure.speed_protocol(job.spec.train, batch_size, shape)
    return measure.throughput("Inference", batch_size, seconds, protocol)


def judge(job: Job, standardize: Standardize, shape: tuple[int, int], outcome: Outcome) -> None:
    """The one look at the test split: metrics, per-case values, pictures."""
    data, classes = job.data, len(job.data.class_names)
    counts, edges, distances, drawn = [], [], [], []
    for i, logits in predict(outcome.model, data.test, standardize, shape, job.settings, job.accelerator.device):
        prediction = logits.argmax(0)
        target = torch.tensor(data.test.targets[i]).long()
        counts.append(overlap.confusion_counts(prediction[None], target[None], classes))
        edges.append(boundary.boundary_iou(prediction[None], target[None], classes))
        distances.append(boundary.hd95(prediction[None], target[None], classes))
        if len(drawn) < job.settings.pictures:
            drawn.append((np.asarray(data.test.images[i]), target.numpy(), prediction.numpy()))
    counts, edges, distances = (np.concatenate(each) for each in (counts, edges, distances))
    outcome.metrics = {**overlap.summarise(counts, data.class_names),
                       **boundary.summarise(edges, distances, data.class_names)}
    outcome.cases = [*overlap.case_rows(counts, data.test.names, data.class_names),
                     *boundary.case_rows(edges, distances, data.test.names, data.class_names)]
    draw(job, drawn, outcome)


def draw(job: Job, cases: list[tuple[np.ndarray, np.ndarray, np.ndarray]], outcome: Outcome) -> None:
    """images.png, truth.png, prediction.png: one row of tiles each, the same cases for every arm."""
    size = [min(LARGEST_TILE, side) for side in job.data.image_size]

    def middle(array: np.ndarray) -> np.ndarray:   # (..., H, W) -> (..., *size)
        top, left = (array.shape[-2] - size[0]) // 2, (array.shape[-1] - size[1]) // 2
        return array[..., top:top + size[0], left:left + size[1]]

    images, truths, predictions = zip(*cases)
    pixels = np.concatenate([middle(image) for image in images], axis=-1)         # (C, h, k w)
    if pixels.dtype != np.uint8:
        pixels = (pixels * 255).round().clip(0, 255).astype(np.uint8)
    pixels = pixels[0] if len(pixels) == 1 else pixels[:3].transpose(1, 2, 0)
    Image.fromarray(pixels).save(job.folder / "images.png")
    for name, masks in (("truth", truths), ("prediction", predictions)):
        picture = Image.fromarray(np.concatenate([middle(mask) for mask in masks], axis=-1).astype(np.uint8), mode="P")
        picture.putpalette([int(PALETTE[i % len(PALETTE)][k:k + 2], 16)
                            for i in range(256) for k in (1, 3, 5)])
        picture.save(job.folder / f"{name}.png")
    names = ", ".join(job.data.test.names[:len(cases)])
    for name, caption in (("images", "test images"), ("truth", "truth"), ("prediction", "prediction")):
        outcome.pictures[f"{name}.png"] = Picture(rows=1, columns=len(cases), caption=f"{caption}: {names}")
