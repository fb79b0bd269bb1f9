"""A small classifier of one data set: feature extractor for FID without Inception, and the classes of samples.

Inception's weights cannot be had everywhere, and say little about 8x8 grey images. This network is trained
once on the data set's training split (real labels, or which of four rotations where there are none), cached
with its hash and test accuracy, and always named after itself: "digits-cnn", never "inception".
Rotations as labels: Gidaris et al. 2018, arXiv:1803.07728.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from harness.dataset import Dataset, Split, item_shapes, stack, to_uint8
from harness.errors import InputError
from harness.metrics.fidelity import Extractor
from harness.record import Metric, atomic_write
from harness.spec import digest

RECIPE = {
    "steps":         500,
    "batch_size":    128,
    "learning_rate": 4e-3,                         # AdamW, one cycle: 20 % warm-up, cosine to 0
    "weight_decay":  1e-2,
    "rotation":      0.15,                         # radians; each drawn uniformly between -x and x
    "scale":         0.10,                         # of the size
    "shift":         0.08,                         # of the size
}


@dataclass(frozen=True)
class Classifier(Extractor):
    """An :class:`Extractor` that also names classes."""

    test_accuracy: float = field(default=float("nan"), compare=False)  # share right on the test split
    labelled: bool = field(default=True, compare=False)  # trained on labels; False: on rotations

    def predict(self, images, device: str | torch.device = "cpu") -> np.ndarray:
        """Class ids (N,) int64 of ``images`` (N, C, H, W) uint8; quarter turns where not ``labelled``."""
        features = self.features(images, device)
        with torch.inference_mode():
            return self.module.head(features.to(device)).argmax(1).cpu().numpy()


def train_ahead(dataset: Dataset, cache: Path, *, seed: int = 0, device: str | torch.device = "cpu") -> None:
    """Train the classifier of ``dataset`` and put it into ``cache``, unless it is there or another process is at it.

    The test split is not read. Raises InputError as :func:`classifier_extractor`.
    """
    with suppress(Timeout):
        _trained(dataset, cache, seed, device, wait=False)


def classifier_extractor(dataset: Dataset, cache: Path, *, seed: int = 0,
                         device: str | torch.device = "cpu") -> Classifier:
    """Get the classifier of ``dataset``, from ``cache`` or trained now and put there.

    The file's name carries the data's fingerprint and a hash of the recipe (settings and code), so a change
    of either trains anew; a damaged file is trained anew with a warning. The test split is only scored, after
    training. Same seed, same machine, same weights. Raises :class:`harness.errors.InputError` where ``cache``
    cannot be written, and for images that are neither grey nor RGB or not all of one size.
    """
    network, facts, stem = _trained(dataset, cache, seed, device)
    if facts["test_accuracy"] is None:
        with FileLock(cache / f".{stem}.lock"):
            facts = _write(cache, stem, network, {
                **facts, "test_accuracy": _accuracy(network, Examples(dataset.test, facts["recipe"]["labelled"]))})
    details = {"resize": "none", "dtype": "float32", "layer": f"pooled {SmallCNN.FEATURES}"}
    return Classifier(facts["name"], facts["sha256"][:16], details, network.eval(),
                      test_accuracy=facts["test_accuracy"], labelled=facts["recipe"]["labelled"])


def _trained(dataset: Dataset, cache: Path, seed: int, device: str | torch.device, *,
             wait: bool = True) -> tuple[SmallCNN, dict, str]:
    """The network, the facts beside it and the stem of their files. Raises Timeout where another process trains it."""
    labelled = dataset.train.labels is not None
    name = f"{dataset.name}-cnn" if labelled else f"{dataset.name}-rotation-cnn"
    recipe = {**RECIPE, "seed": seed, "labelled": labelled, "code": _code_hash()}
    stem = f"{name}-{dataset.fingerprint}-{digest(recipe)}"
    num_classes = len(dataset.class_names) if labelled else 4
    with torch.random.fork_rng(devices=[]):        # the caller's random state is not ours to move
        torch.default_generator.manual_seed(seed)
        network = SmallCNN(dataset.channels, num_classes, min(dataset.image_size))

    facts = _read(cache, stem, network)
    if facts is None:
        _make_writable(cache)
        with FileLock(cache / f".{stem}.lock").acquire(blocking=wait):    # runs side by side need one, not one each
            facts = _read(cache, stem, network)
            if facts is None:
                _train(network, Examples(dataset.train, labelled), seed=seed, device=device)
                facts = _write(cache, stem, network, {"name": name, "test_accuracy": None, "recipe": recipe,
                                                      "torch": torch.__version__})
    return network, facts, stem


def label_agreement(generated, labels, extractor: Classifier, *, device: str | torch.device = "cpu") -> Metric:
    """Share of ``generated`` (N, C, H, W) uint8 in which the classifier sees the asked-for ``labels`` (N,).

    Its ``real_data_reference`` is the classifier's accuracy on real test images: what perfect samples would score.
    """
    assert extractor.labelled and len(generated) == len(labels)
    agreed = extractor.predict(generated, device) == np.asarray(labels)
    return Metric(
        value=float(agreed.mean()), label=f"label agreement ({extractor.name})", unit="", direction="higher",
        protocol={"classifier": extractor.name, "weights_hash": extractor.weights_hash,
                  "classifier_test_accuracy": extractor.test_accuracy},
        n=len(agreed), real_data_reference=extractor.test_accuracy)


class SmallCNN(nn.Module):
    """uint8 (N, C, H, W) -> features (N, 64), pooled over the image; ``head`` turns them into logits.

    The first convolution's stride brings any size from 8 to 64 pixels to 8..16, so that cost and receptive
    field stay alike. Strided convolutions only: the gradient of max-pooling is not deterministic on GPUs.
    """

    FEATURES = 64

    def __init__(self, channels: int, num_classes: int, image_size: int):
        super().__init__()
        stride = 1 if image_size <= 16 else 2 if image_size <= 32 else 4
        self.trunk = nn.Sequential(
            *_layer(channels, 32, kernel=stride + 2, stride=stride),
            *_layer(32, 48),
            *_layer(48, 64, stride=2),
            *_layer(64, 64),
            *_layer(64, self.FEATURES))
        self.head = nn.Linear(self.FEATURES, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images.float() / 127.5 - 1)

    def embed(self, images: Tensor) -> Tensor:
        """Features of images (N, C, H, W) in -1..1."""
        return self.trunk(images).mean((2, 3))


def _layer(in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    return (nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels), nn.ReLU())


def _train(network: SmallCNN, examples: Examples, *, seed: int, device: str | torch.device) -> None:
    """Train in place for a fixed number of steps; the last weights are the weights, nothing is picked."""
    draws = torch.Generator().manual_seed(seed)
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RECIPE["learning_rate"],
                                  weight_decay=RECIPE["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RECIPE["learning_rate"], RECIPE["steps"],
                                                   pct_start=0.2)
    with torch.backends.cudnn.flags(deterministic=True, benchmark=False), _one_thread():
        for _ in range(RECIPE["steps"]):
            images, labels = examples.at(torch.randint(len(examples), (RECIPE["batch_size"],), generator=draws))
            batch = _augment(images.float() / 127.5 - 1, draws).to(device)
            loss = F.cross_entropy(network.head(network.embed(batch)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.cpu().eval()


@contextmanager
def _one_thread():
    """Sums then run in one order whatever the machine's load or settings, and nets this small lose little."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _augment(images: Tensor, draws: torch.Generator) -> Tensor:
    """Rotate, scale and shift each image (N, C, H, W) a little; what comes in from outside repeats the edge."""
    angle, scale, *shift = (2 * torch.rand(4, len(images), generator=draws) - 1).unbind()
    angle, scale = RECIPE["rotation"] * angle, 1 + RECIPE["scale"] * scale
    cos, sin = scale * angle.cos(), scale * angle.sin()
    x, y = (2 * RECIPE["shift"] * each for each in shift)        # the grid runs from -1 to 1
    theta = torch.stack((cos, -sin, x, sin, cos, y), 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


class Examples:
    """Images and labels of a split, read where asked for; without labels, its four rotations and which.

    Raises InputError for images that are neither grey nor RGB or not all of one size.
    """

    def __init__(self, split: Split, labelled: bool):
        shapes = item_shapes(split.images)
        if len(shapes) > 1 or next(iter(shapes))[0] not in (1, 3):
            raise InputError(f"a classifier needs grey or RGB images of one size, got shapes {sorted(shapes)[:3]}")
        self.images, self.turns = split.images, 1 if labelled else 4
        self.labels = torch.tensor(np.asarray(split.labels), dtype=torch.int64) if labelled else None

    def __len__(self) -> int:
        return self.turns * len(self.images)

    def at(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) uint8 and labels (n,) at ``chosen`` (n,); turn k of image i is number k N + i."""
        count = len(self.images)
        images = torch.from_numpy(to_uint8(stack(self.images, (chosen % count).numpy())))
        if self.labels is not None:
            return images, self.labels[chosen]
        side = min(images.shape[-2:])              # a quarter turn must not change the shape
        top, left = (images.shape[-2] - side) // 2, (images.shape[-1] - side) // 2
        square, turns = images[..., top:top + side, left:left + side], chosen // count
        return torch.stack([image.rot90(int(turn), (1, 2)) for image, turn in zip(square, turns)]), turns


def _accuracy(network: SmallCNN, examples: Examples) -> float:
    right = 0
    with torch.inference_mode():
        for chosen in torch.arange(len(examples)).split(512):
            images, labels = examples.at(chosen)
            right += int((network.head(network(images)).argmax(1) == labels).sum())
    return right / len(examples)


def _code_hash() -> str:
    parts = (SmallCNN, _layer, _train, _augment, Examples)
    return hashlib.sha256("".join(inspect.getsource(part) for part in parts).encode()).hexdigest()[:16]


def _make_writable(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        probe = cache / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write the classifier cache {cache}: {error.strerror}") from None


def _read(cache: Path, stem: str, network: SmallCNN) -> dict | None:
    """Load cached weights into ``network`` and return the facts beside them; None where there are none."""
    weights, facts = cache / f"{stem}.safetensors", cache / f"{stem}.json"
    if not facts.exists():                         # written last: without it nothing is finished
        return None
    try:
        known, data = json.loads(facts.read_bytes()), weights.read_bytes()
        if hashlib.sha256(data).hexdigest() != known["sha256"]:
            raise ValueError("its SHA-256 is not the recorded one")
        network.load_state_dict(load(data))
        return known
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        warnings.warn(f"damaged classifier cache {weights.name} ({error}); training it again", stacklevel=3)
        return None


def _write(cache: Path, stem: str, network: SmallCNN, facts: dict) -> dict:
    data = save(network.state_dict())
    facts = {**facts, "sha256": hashlib.sha256(data).hexdigest()}
    atomic_write(cache / f"{stem}.safetensors", data)
    atomic_write(cache / f"{stem}.json", (json.dumps(facts, indent=1) + "\n").encode())
    return facts
