"""The machine's best: rates follow from times, are measured once, and say how."""

import json

import pytest
import torch

from harness.measurement import roofline as module
from harness.measurement.roofline import Roofline, roofline

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch):
    """Names of what was measured; nothing is, really."""
    names = []
    monkeypatch.setattr(module, "matrix_rate",
                        lambda device, precision: names.append(precision) or {"flops_per_s": 1e11, "how": "not at all"})
    monkeypatch.setattr(module, "bandwidth",
                        lambda device: names.append("bandwidth") or {"bytes_per_s": 2e10, "how": "not at all"})
    return names


def test_below_the_ridge_memory_decides_and_above_it_the_matrix_rate():
    machine = Roofline(flops_per_s=1e11, bytes_per_s=2e10)
    assert machine.attainable(1) == 2e10 and machine.attainable(5) == 1e11 and machine.attainable(500) == 1e11


def test_rates_follow_from_the_fastest_call(monkeypatch):
    calls = []

    def times(call, device, *, warmup, repeats):
        calls.append(call())
        return [0.5, 0.25, 0.75]

    monkeypatch.setattr(module, "time_calls", times)
    monkeypatch.setattr(module, "SIDES", (8, 16, 32))
    found = module.matrix_rate(CPU, "bf16")
    assert found["flops_per_s"] == 2 * 8 ** 3 / 0.25 and found["side"] == 8    # slow: no larger one is tried
    assert calls[0].dtype == torch.bfloat16 and "up to 8" in found["how"]

    monkeypatch.setattr(module, "last_cache", lambda device: 4096)
    found = module.bandwidth(CPU)
    assert found["array_bytes"] == 4 * 4096 and found["bytes_per_s"] == 3 * 4 * 4096 / 0.25
    assert calls[-1].nbytes == 4 * 4096 and (calls[-1] == 4).all()


def test_the_largest_rate_over_the_sides_counts(monkeypatch):
    seconds = iter([1e-3, 1e-6, 1e-2])
    monkeypatch.setattr(module, "fastest", lambda call, device: next(seconds))
    monkeypatch.setattr(module, "SIDES", (8, 16, 32))
    assert module.matrix_rate(CPU, "fp32")["side"] == 16


def test_this_machine_multiplies_and_moves_something(monkeypatch):
    monkeypatch.setattr(module, "SIDES", (32,))
    monkeypatch.setattr(module, "last_cache", lambda device: 2 ** 16)
    assert module.matrix_rate(CPU, "fp32")["flops_per_s"] > 0 and module.bandwidth(CPU)["bytes_per_s"] > 0


def test_measured_once_per_precision_and_kept(measured, tmp_path):
    folder = tmp_path / "cache"
    first = roofline(CPU, "fp32", folder)
    assert first == Roofline(1e11, 2e10) and measured == ["fp32", "bandwidth"]
    assert roofline(CPU, "fp32", folder) == first and measured == ["fp32", "bandwidth"]
    roofline(CPU, "bf16", folder)
    assert measured == ["fp32", "bandwidth", "bf16"]
    [path] = folder.iterdir()
    kept = json.loads(path.read_text())
    assert kept["machine"]["threads"] == torch.get_num_threads()
    for name in ("matrix product, fp32", "matrix product, bf16", "bandwidth"):
        assert kept[name]["how"] and kept[name]["measured"].startswith("20")


def test_another_number_of_threads_is_another_machine(measured, tmp_path):
    before = torch.get_num_threads()
    roofline(CPU, "fp32", tmp_path)
    try:
        torch.set_num_threads(before + 1)
        roofline(CPU, "fp32", tmp_path)
    finally:
        torch.set_num_threads(before)
    assert len(list(tmp_path.iterdir())) == 2 and measured == ["fp32", "bandwidth"] * 2


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"machine": {}}', "\xff",
                                     '{"machine": {}, "bandwidth": {"bytes_per_s": 1}}'])
def test_what_cannot_be_read_or_is_another_machines_is_measured_again(content, measured, tmp_path):
    roofline(CPU, "fp32", tmp_path)
    [path] = tmp_path.iterdir()
    path.write_text(content, encoding="latin-1")
    assert roofline(CPU, "fp32", tmp_path) == Roofline(1e11, 2e10) and measured == ["fp32", "bandwidth"] * 2


@pytest.mark.parametrize("missing", ["bandwidth", "matrix product, fp32"])
def test_a_spoilt_entry_alone_is_measured_again(missing, measured, tmp_path):
    roofline(CPU, "fp32", tmp_path)
    [path] = tmp_path.iterdir()
    kept = json.loads(path.read_text())
    kept[missing] = {name: 0 for name in kept[missing]}
    path.write_text(json.dumps(kept))
    roofline(CPU, "fp32", tmp_path)
    assert measured[2:] == [missing.removeprefix("matrix product, ")]


def test_file_names():
    machine = {"device": "cpu", "cpu": "Some(R) CPU @ 2.5GHz", "cores": 8, "threads": 4, "torch": "2.6.0+cu126"}
    assert module.file_name(machine) == "roofline-Some-R-CPU-2.5GHz-8-cores-4-threads-torch-2.6.0-cu126.json"
    assert module.file_name({**machine, "device": "cuda", "gpu": "GPU 9/X"}).startswith("roofline-GPU-9-X-8-cores")
    assert module.file_name({**machine, "device": "mps"}).startswith("roofline-mps-Some-R-CPU")


def test_the_largest_cache_counts(monkeypatch, tmp_path):
    for i, size in enumerate(("48K", "1M", "32768K", "4K")):
        (tmp_path / f"index{i}").mkdir()
        (tmp_path / f"index{i}/size").write_text(size + "\n")
    monkeypatch.setattr(module, "CACHES", tmp_path)
    assert module.last_cache(CPU) == 2 ** 25
    monkeypatch.setattr(module, "CACHES", tmp_path / "absent")
    assert module.last_cache(CPU) == module.ASSUMED_CACHE
