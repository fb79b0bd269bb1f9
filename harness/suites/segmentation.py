"""Semantic segmentation: Dice, IoU and boundary quality on a test split that is touched once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from PIL import Image
from pydantic import Field
from torch import Tensor

from harness.dataset import SPLITS, Dataset, Split, count_smaller
from harness.datasets.parts.display import display_range, displayed, range_words, row_of_tiles
from harness.datasets.parts.predictions import write_prediction
from harness.measurement import costs
from harness.measurement.timing import time_alone
from harness.metrics import overlap
from harness.metrics.masks import MaskScores
from harness.record import Picture, atomic_write
from harness.spec import Frozen
from harness.suites import Job, Outcome
from harness.training.batches import EpochOrder, generator
from harness.training.losses import deep_supervision, segmentation_loss
from harness.training.train import Diverged, train

NEEDS = ("images", "masks")
METRICS = ("dice_macro", "dice_micro", "iou_macro", "iou_micro", "boundary_iou_macro", "hd95_macro")
CURVES = {"loss": "lower", "validation loss": "lower", "validation Dice": "higher"}

# Background black, then Tol's muted scheme, which stays apart for colour-blind readers.
PALETTE = ("#000000", "#88ccee", "#cc6677", "#ddcc77", "#117733", "#aa4499",
           "#44aa99", "#999933", "#882255", "#661100", "#6699cc")
IGNORED = "#ffffff"     # of pixels that do not count
PADDING = -1            # mask value beyond an image smaller than the crop, where the data set itself ignores none
LARGEST_TILE = 256      # pixels; of larger images the pictures show the middle


class Settings(Frozen):
    """What is trained and how it is evaluated."""

    loss:       str = "ce+dice"                    # see harness.training.losses
    crop_size:  int = Field(128, gt=0)             # of training crops and inference windows; see crop_shape
    overlap:  float = Field(0.25, ge=0, lt=1)      # of inference windows, where an image is larger than one
    eval_batch: int = Field(16, gt=0)              # images, or windows, per forward pass when evaluating
    pictures:   int = Field(6, gt=0)               # test cases that are drawn
    include_background: bool = False               # in means over classes


def crop_shape(data: Dataset, settings: Settings) -> tuple[int, int]:
    """(H, W) of training crops and inference windows: ``crop_size``, or the largest image's where all are smaller.

    Images smaller than that are padded, with their mean in training and nothing to be learned there.
    """
    return min(settings.crop_size, data.image_size[0]), min(settings.crop_size, data.image_size[1])


def left_out(data: Dataset, settings: Settings) -> int | None:
    """The class that means over classes leave out."""
    return None if settings.include_background else data.background


def data_facts(data: Dataset, settings: Settings) -> dict:
    shape, background = crop_shape(data, settings), left_out(data, settings)
    padded = sum(count_smaller(getattr(data, split).images, shape) for split in SPLITS)
    found = {} if background is None else {"left_out_of_means": data.class_names[background]}
    return found | ({"crop": list(shape), "padded_images": padded} if padded else {})


def network_arguments(data: Dataset, settings: Settings) -> dict:
    return {"in_channels": data.channels, "out_channels": len(data.class_names),
            "image_size": crop_shape(data, settings)}


def example_inputs(data: Dataset, settings: Settings, batch_size: int, device) -> tuple:
    return (torch.empty(batch_size, data.channels, *crop_shape(data, settings), device=device),)


class Standardize:
    """Images to float32 tensors with the training split's mean 0 and deviation 1 in every channel.

    What ``moments`` found is kept beside the store that holds ``data``.
    """

    def __init__(self, data: Dataset):
        kept = None if data.folder is None else data.folder / "standardize.json"
        try:
            mean, deviation = json.loads(kept.read_bytes()) if kept else moments(data.train.images)
        except (OSError, ValueError):                      # not there yet, or damaged
            mean, deviation = moments(data.train.images)
            with suppress(OSError):                        # a disk that is full costs time, not the run
                atomic_write(kept, json.dumps([mean, deviation]).encode())
        self.mean, self.deviation = (torch.tensor(each)[:, None, None] for each in (mean, deviation))

    def __call__(self, image: np.ndarray) -> Tensor:
        """(C, H, W), uint8 or float32 -> (C, H, W), float32."""
        return (as_float(image) - self.mean) / self.deviation


def moments(images: Sequence[np.ndarray]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (at least 1e-6) of every channel, of values 0..1; one pass, an image at a time.

    8-bit images are summed as whole numbers, which is exact. Others are summed in float64 and joined by the parallel
    algorithm of Chan, Golub and LeVeque 1979.
    """
    channels = len(images[0])
    if images[0].dtype == np.uint8:
        pixels, sums = 0, np.zeros((2, channels), object)        # Python's integers: products of sums pass 64 bits
        for image in images:
            squares = np.multiply(image, image, dtype=np.uint16)
            sums += [[int(total) for total in each.sum((1, 2), dtype=np.uint64)] for each in (image, squares)]
            pixels += image[0].size
        mean = np.array([total / (255 * pixels) for total in sums[0]])
        variance = np.array([(pixels * square - total ** 2) / (255 * pixels) ** 2 for total, square in zip(*sums)])
    else:
        pixels, mean, squares = 0, np.zeros(channels), np.zeros(channels)
        for image in images:
            flat = image.reshape(channels, -1).astype(np.float64)
            count, own = flat.shape[1], flat.mean(1)
            squares += ((flat - own[:, None]) ** 2).sum(1) + (own - mean) ** 2 * (pixels * count / (pixels + count))
            mean += (own - mean) * (count / (pixels + count))
            pixels += count
        variance = squares / pixels
    return mean.tolist(), np.sqrt(variance).clip(min=1e-6).tolist()


def as_float(image: np.ndarray) -> Tensor:
    tensor = torch.tensor(image)                   # a copy: arrays of a store are read-only
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor


class RandomCrops:
    """Batches by step: images (N, C, h, w) float32 and masks (N, h, w) int64, crops at places drawn from ``seed``.

    What an image lacks of a crop is padded: the image with its mean, the mask with ``ignore``.
    """

    def __init__(self, split: Split, standardize: Standardize, shape: tuple[int, int], batch_size: int, seed: int,
                 ignore: int | None = None):
        self.split, self.standardize, self.shape, self.seed, self.ignore = split, standardize, shape, seed, ignore
        self.order = EpochOrder(len(split), batch_size, seed)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        draws, crops = generator(self.seed, step), []
        for i in self.order.indices(step).tolist():
            image, mask = self.split.images[i], self.split.masks[i]
            top, left = (int(torch.randint(max(0, full - part) + 1, (), generator=draws))
                         for full, part in zip(image.shape[1:], self.shape))
            window = (slice(top, top + self.shape[0]), slice(left, left + self.shape[1]))
            crops.append((padded(self.standardize(image[:, *window]), self.shape, 0),
                          padded(torch.tensor(mask[window]).long(), self.shape, self.ignore)))
        images, masks = zip(*crops)
        return torch.stack(images), torch.stack(masks)


def padded(array: Tensor, shape: Sequence[int], value: float | None) -> Tensor:
    """(..., H, W) in the middle of ``shape`` with ``value`` around it, as MONAI pads what is smaller than a window."""
    missing = [max(0, full - side) for full, side in zip(shape, array.shape[-2:])]
    if not any(missing):
        return array
    (top, bottom), (left, right) = ((lack // 2, lack - lack // 2) for lack in missing)
    return F.pad(array, (left, right, top, bottom), value=value)


def predict(model, split: Split, standardize: Standardize, shape: tuple[int, int], settings: Settings,
            device) -> Iterator[tuple[int, Tensor]]:
    """(index, logits (K, H, W)) of every image, in windows of ``shape`` with Gaussian blending.

    Neighbours of one size go through the network together. Images smaller than a window are padded with their mean,
    and their logits cut to the image again.
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
        if not logits.isfinite().all():            # argmax would make a class of them
            raise Diverged(f"the output for {split.names[start]} holds NaN or infinite values")
        yield from enumerate(logits.float().cpu(), start)
        start = stop


def run(job: Job) -> Outcome:
    """Train on the train split, watch the validation split, then evaluate once on the test split.

    A trial, whose spec is not ``evaluate_on_test``, ends before that.
    """
    spec, settings, data, device = job.spec, job.settings, job.data, job.runtime.accelerator.device
    shape, classes = crop_shape(data, settings), len(data.class_names)
    standardize = Standardize(data)
    ignore = data.ignore
    if ignore is None and count_smaller(data.train.images, shape):
        ignore = PADDING
    objective = segmentation_loss(settings.loss, classes, ignore)
    batches = RandomCrops(data.train, standardize, shape, spec.train.batch_size, spec.seeds.data, ignore)

    def loss(model, batch):
        x, y = batch
        return deep_supervision(objective, model(x), y)

    def validate(model) -> dict[str, float]:
        losses, counts = [], []
        for i, logits in predict(model, data.validation, standardize, shape, settings, device):
            target = torch.tensor(data.validation.masks[i]).long()
            losses.append(float(objective(logits[None], target[None])))
            counts.append(overlap.confusion_counts(logits.argmax(0)[None], target[None], classes, data.ignore))
        summary = overlap.summarise(np.concatenate(counts), data.class_names, left_out(data, settings))
        return {"validation loss": float(np.mean(losses)), "validation Dice": summary["dice_macro"].value}

    trained = train(job.model, loss, batches, spec.train, job.runtime, validate=validate)
    memory = job.memory.stop(costs.speed_protocol(spec.train, spec.train.batch_size, shape))
    outcome = Outcome(model=trained.model, curves=trained.curves)
    outcome.cost |= costs.training_speed(trained, spec.train, shape)
    outcome.cost["peak_memory_bytes"] = memory
    if not spec.evaluate_on_test:
        return outcome
    with torch.inference_mode(), job.runtime.accelerator.autocast():
        outcome.cost["inference_images_per_s"] = inference_speed(job, shape)
    evaluate(job, outcome)
    return outcome


def inference_speed(job: Job, shape: tuple[int, int]):
    """Forward passes of one evaluation batch of random images, not of test images."""
    batch_size = job.settings.eval_batch
    x = torch.randn(batch_size, job.data.channels, *shape, device=job.runtime.accelerator.device)
    x = x.to(memory_format=torch.channels_last)
    job.runtime.progress(stage="timing: inference")
    timing = time_alone(lambda: job.model(x), job.runtime.accelerator.device, job.runtime.lease, warmup=2, repeats=7)
    protocol = costs.speed_protocol(job.spec.train, batch_size, shape)
    return costs.throughput("Inference", batch_size, timing, protocol)


def evaluate(job: Job, outcome: Outcome) -> None:
    """Evaluate ``outcome.model`` once on the test split: metrics, per-case values, predictions as files, pictures."""
    job.runtime.progress(stage="evaluating")
    data, settings, drawn = job.data, job.settings, []
    scores = MaskScores(data.class_names, left_out(data, settings), data.ignore)
    with torch.inference_mode(), job.runtime.accelerator.autocast():
        for i, logits in predict(outcome.model, data.test, Standardize(data), crop_shape(data, settings), settings,
                                 job.runtime.accelerator.device):
            job.runtime.lease.give_way()
            prediction, target = logits.argmax(0).numpy().astype(np.uint8), np.asarray(data.test.masks[i])
            scores.add(data.test.names[i], prediction, target)
            write_prediction(job.folder, data.test.names[i], prediction)
            if len(drawn) < settings.pictures:
                drawn.append((np.asarray(data.test.images[i]), target, prediction))
    outcome.metrics, outcome.cases = scores.metrics(), scores.cases()
    outcome.pictures = draw(job.folder, drawn, scores.names, data.ignore)


def draw(folder: Path, cases: list[tuple[np.ndarray, np.ndarray, np.ndarray]], names: Sequence[str],
         ignore: int | None) -> dict[str, Picture]:
    """Write images.png, truth.png and prediction.png: one row of tiles each, the same cases for every arm."""
    images, truths, predictions = zip(*cases)
    size = [min(LARGEST_TILE, max(image.shape[axis] for image in images)) for axis in (1, 2)]
    blank = 255 if ignore is None else ignore
    span = display_range(images)
    pixels = row_of_tiles([displayed(image, span) for image in images], size, 255)          # (C, h, k w)
    pixels = pixels[0] if len(pixels) == 1 else pixels[:3].transpose(1, 2, 0)
    Image.fromarray(pixels).save(folder / "images.png")
    smaller = count_smaller(images, size) > 0
    for name, masks in (("truth", truths), ("prediction", predictions)):
        picture = Image.fromarray(row_of_tiles(masks, size, blank), mode="P")
        whites = [ignore, blank if smaller else None]
        colours = [IGNORED if i in whites else PALETTE[i % len(PALETTE)] for i in range(256)]
        picture.putpalette([int(colour[k:k + 2], 16) for colour in colours for k in (1, 3, 5)])
        picture.save(folder / f"{name}.png")
    shown = ", ".join(names[:len(cases)])
    truth = "truth (white: does not count)" if smaller or ignore is not None else "truth"
    return {f"{name}.png": Picture(rows=1, columns=len(cases), caption=f"{caption}: {shown}", role=role)
            for name, role, caption in (("images", "input", f"test images{range_words(span)}"),
                                        ("truth", "truth", truth), ("prediction", "output", "prediction"))}
