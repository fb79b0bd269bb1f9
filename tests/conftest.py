"""Small real pieces that several tests share: a tiny data set of each kind, and a spec that fits it."""

import os
import sys
import tempfile

# Before torch is loaded, here and in the processes that tests start: the tensors are tiny, and on a busy
# machine threads that wait for each other take minutes where one takes seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A lease for every process of tests: those side by side need not wait for each other.
os.environ.setdefault("UNET_BENCH_LEASE", tempfile.mkdtemp(prefix="unet-bench-lease-"))

import numpy as np
import pytest

from harness.dataset import Dataset, Split
from harness.spec import DataSpec, RunSpec, Seeds, TrainSpec


def split(count, prefix, seed, task):
    draws = np.random.default_rng(seed)
    images, masks = [], []
    for _ in range(count):
        mask = np.zeros((16, 16), np.uint8)
        row, column = draws.integers(2, 10, 2)
        mask[row:row + 4, column:column + 4] = 1
        noise = draws.integers(0, 60, (1, 16, 16))
        images.append((mask * 180 + noise).astype(np.uint8))
        masks.append(mask)
    held = {"masks": masks} if task == "segmentation" else {"labels": np.arange(count) % 2}
    return Split(images, [f"{prefix}{i}" for i in range(count)], **held)


@pytest.fixture
def tiny_data():
    """tiny_data(task): squares on noise, 16 x 16; two classes; masks for "segmentation", else labels."""
    def make(task):
        parts = (split(16, "train", 0, task), split(6, "val", 1, task), split(8, "test", 2, task))
        return Dataset("tiny", *parts, class_names=("background", "square"), image_size=(16, 16))
    return make


@pytest.fixture
def tiny_spec():
    """tiny_spec(suite, **changes): a run of seconds."""
    def make(suite, **changes):
        settings = {"segmentation": {"eval_batch": 4},
                    "generation": {"num_inference_steps": 3, "samples": 8, "sample_batch": 4}}[suite]
        fields = dict(suite=suite, variant="plain", options={"width": 4}, data=DataSpec(name="digits"),
                      settings=settings,
                      train=TrainSpec(steps=12, batch_size=4, learning_rate=1e-2, ema_decay=0.9, validate_every=6),
                      seeds=Seeds())
        return RunSpec(**{**fields, **changes})
    return make


@pytest.fixture(autouse=True)
def short_timings(monkeypatch):
    """Time a few steps, once: no test asserts a time."""
    for module, values in (("harness.training.train", {"TIMED_STEPS": 3, "TIMED_WARMUP": 1}),
                           ("harness.measurement.timing", {"ATTEMPTS": 1})):
        for name, value in values.items() if module in sys.modules else ():
            monkeypatch.setattr(sys.modules[module], name, value)
