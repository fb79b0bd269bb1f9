"""Weights, inputs and outputs by the closed-form rule of ``tests/reference/golden.json``, and counts on meta.

Imported by the tests beside it as ``golden``: nothing here knows of a network or a family.
"""

import json
import zlib
from pathlib import Path

import torch
from torch import Tensor

from harness.measurement.costs import count_macs

REFERENCE = Path(__file__).parents[2] / "reference"
ENTRIES = {entry["name"]: entry for entry in json.loads((REFERENCE / "golden.json").read_text())["entries"]}
COUNTS = {row["name"]: row for row in json.loads((REFERENCE / "counts.json").read_text())}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}          # of the output's standard deviation


def rows(*families: str) -> list[dict]:
    """The counted networks of these families, in the file's order."""
    return [row for row in COUNTS.values() if row["family"] in families]


def noise(shape, phase: float) -> Tensor:
    """(frac(sin(i * 12.9898 + phase) * 43758.5453) - 0.5) * sqrt(12) over the flat index i; float64."""
    count = torch.Size(shape).numel()
    wave = torch.sin(torch.arange(count, dtype=torch.float64) * 12.9898 + phase) * 43758.5453
    return ((wave - wave.floor() - 0.5) * 12 ** 0.5).reshape(shape)


def weights(keys_and_shapes, dtype=torch.float64, kept=None) -> dict[str, Tensor]:
    """A state dict of the golden rule.

    ``keys_and_shapes`` rows of (key, shape), a third field marking those that the official network keeps as
    it makes them: these come from ``kept``, or are zero where they count batches.
    """
    made = {}
    for key, shape, *mark in keys_and_shapes:
        if key.endswith("num_batches_tracked"):
            made[key] = torch.zeros(shape, dtype=torch.int64)
        elif mark:
            made[key] = kept[key]
        else:
            made[key] = weight(key, shape).to(dtype)
    return made


def weight(key: str, shape) -> Tensor:
    w = noise(shape, (zlib.crc32(key.encode()) % 10007) * 0.01)
    if len(shape) == 0:
        return torch.full_like(w, 0.5)
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        return 1 + 0.1 * w
    return 0.1 * w if len(shape) == 1 else w * (2 * shape[0] / w.numel()) ** 0.5


def image(shape, phase: float = 0.0, dtype=torch.float64) -> Tensor:
    """An input of the golden rule; ``phase`` as the entry's constructor line states it."""
    return noise(shape, 100 + phase).to(dtype)


def assert_output(entry: dict, output) -> None:
    """``output``, a tensor or one for each of the entry's outputs, agrees with the record."""
    outputs = [output] if isinstance(output, Tensor) else list(output)
    assert len(outputs) == len(entry["outputs"])
    for got, record in zip(outputs, entry["outputs"]):
        assert list(got.shape) == record["shape"] and str(got.dtype) == f"torch.{entry['dtype']}"
        tolerance = TOLERANCE[got.dtype] * record["std"]
        flat = got.detach().double().flatten()
        sample = flat[torch.tensor(record["sample_index"])]
        # The record rounds samples to nine paths.
        torch.testing.assert_close(sample, torch.tensor(record["sample"], dtype=torch.float64),
                                   atol=tolerance + 5e-10, rtol=0)
        assert abs(flat.mean() - record["mean"]) <= tolerance
        assert abs(flat.std() - record["std"]) <= tolerance
        assert abs(flat.abs().max() - record["absmax"]) <= tolerance
        assert abs(flat.norm() - record["l2"]) <= tolerance * len(flat) ** 0.5


def assert_counts(row: dict, network, *inputs) -> None:
    """Parameters, trainable ones, MACs and the output's shape of a ``network`` on the meta device, exactly."""
    assert sum(p.numel() for p in network.parameters()) == row["params"]
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == row["trainable_params"]
    assert count_macs(network, *inputs)["flops"].value == row["flops"]
    assert 2 * row["macs"] == row["flops"]
