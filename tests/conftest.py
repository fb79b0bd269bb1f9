"""Small real pieces that several tests share: a tiny data set of each kind, and a spec that fits it."""

import csv
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Before torch is loaded, here and in the processes that tests start: the tensors are tiny, and on a busy
# machine threads that wait for each other take minutes where one takes seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A lease for every process of tests: those side by side need not wait for each other.
os.environ.setdefault("UNET_BENCH_LEASE", tempfile.mkdtemp(prefix="unet-bench-lease-"))

import numpy as np
import pytest

from harness.dataset import Dataset, Split
from harness.record import Record
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


@dataclass(frozen=True)
class Made:
    """A run and the files that it left."""

    record: Record
    folder: Path

    def rows(self, name):
        with open(self.folder / name, newline="") as file:
            return list(csv.DictReader(file))

    @property
    def curves(self):
        """[(step, name, value), ...], all as they are written."""
        return [(row["step"], row["name"], row["value"]) for row in self.rows("curves.csv")]

    def check(self):
        assert self.record.status == "ok", (self.folder / "traceback.txt").read_text()
        return self


@pytest.fixture(scope="session")
def suites_cache(tmp_path_factory):
    """One cache for all, so that the classifier of the same data is trained once."""
    return tmp_path_factory.mktemp("suites-cache")


@pytest.fixture
def run(tmp_path, suites_cache, monkeypatch):
    """run(spec, data, code, runs): make the run, with a classifier of few steps."""
    from harness.metrics import classifier
    monkeypatch.setitem(classifier.RECIPE, "steps", 10)

    def make(spec, data, code="c", runs=tmp_path / "runs"):
        import harness.run
        record = harness.run.run(spec, data, runs, suites_cache, code=code)
        return Made(record, runs / record.run_id)

    return make


@pytest.fixture(scope="session")
def made_before():
    return {}


@pytest.fixture
def usual(made_before, run, tiny_data, tiny_spec, tmp_path_factory):
    """usual(suite): the run of ``tiny_spec(suite)`` on ``tiny_data(suite)``, made once for all that look at it."""
    def make(suite):
        if suite not in made_before:
            made_before[suite] = run(tiny_spec(suite), tiny_data(suite), runs=tmp_path_factory.mktemp("usual")).check()
        return made_before[suite]

    return make
