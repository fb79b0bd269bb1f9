"""Joules from counters as Linux and NVIDIA's driver have them; None where there are none."""

import types

import pytest
import torch

from harness.measurement import energy as module
from harness.measurement.energy import EnergyCounter, energy_counter, energy_per_call, rapl

CPU = torch.device("cpu")


def zone(folder, name, microjoules, most=1_000_000_000):
    folder.mkdir(exist_ok=True)
    for file, content in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        (folder / file).write_text(f"{content}\n")
    return folder / "energy_uj"


def test_packages_and_memory_are_added_and_nothing_is_counted_twice(tmp_path):
    package = zone(tmp_path / "intel-rapl:0", "package-0", 100)
    zone(tmp_path / "intel-rapl:0:0", "core", 50)                      # a part of the package
    memory = zone(tmp_path / "intel-rapl:0:1", "dram", 30)
    whole = zone(tmp_path / "intel-rapl:1", "psys", 500)               # the package is a part of this
    again = zone(tmp_path / "intel-rapl-mmio:0", "package-0", 100)     # the same counter by another way
    counter = energy_counter(CPU, tmp_path)
    assert counter.joules() == 0 and "package-0, dram" in counter.name
    for file in (package, whole, again):
        file.write_text("2000100")
    memory.write_text("500030")
    assert counter.joules() == pytest.approx(2.5)


def test_a_counter_that_starts_again(tmp_path):
    file = zone(tmp_path / "intel-rapl:0", "package-0", 900, most=999)
    counter = rapl(tmp_path)
    for now in (100, 600, 200):                                        # 200 on, then 500, then 600
        file.write_text(str(now))
        joules = counter.joules()
    assert joules == pytest.approx(1300e-6)


def test_no_counter(tmp_path):
    assert rapl(tmp_path / "absent") is None and rapl(tmp_path) is None
    zone(tmp_path / "intel-rapl:0", "psys", 1)
    assert rapl(tmp_path) is None
    zone(tmp_path / "intel-rapl:1", "package-0", 1).unlink()           # as where only root may read it
    assert rapl(tmp_path) is None
    assert energy_counter(torch.device("mps")) is None


class Driver:
    """NVML's three functions; ``fails`` names one that does not work."""

    def __init__(self, fails=""):
        self.fails, self.millijoules, self.asked = fails, 5000, []

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def function(*arguments):
            self.asked.append((name, arguments[0] if arguments else None))
            if name == "nvmlDeviceGetTotalEnergyConsumption":
                arguments[1]._obj.value = self.millijoules
            return int(name == self.fails)
        return function


@pytest.fixture
def driver(monkeypatch):
    def make(fails=""):
        made = Driver(fails)
        monkeypatch.setattr(module.ctypes, "CDLL", lambda name: made)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="12-34"))
        return made
    return make


def test_a_gpu_is_asked_by_its_own_name(driver):
    made = driver()
    counter = energy_counter(torch.device("cuda", 1))
    assert counter.joules() == 5.0 and "GPU" in counter.name
    made.millijoules = 7500
    assert counter.joules() == 7.5
    assert ("nvmlDeviceGetHandleByUUID", b"GPU-12-34") in made.asked


@pytest.mark.parametrize("fails", ["nvmlInit_v2", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"])
def test_a_gpu_that_does_not_say(fails, driver):
    driver(fails)
    assert energy_counter(torch.device("cuda")) is None


def test_no_driver():
    assert energy_counter(torch.device("cuda"), nvml="libabsent-of-all-machines.so") is None


def test_joules_of_one_call():
    used = [0.0]
    counter = EnergyCounter("mine", lambda: used[0])

    def call():
        used[0] += 3.0

    joules, calls = energy_per_call(call, counter, CPU, min_s=0.0)
    assert (joules, calls) == (3.0, 1)
    joules, calls = energy_per_call(call, counter, CPU, min_s=0.01)
    assert joules == pytest.approx(3.0) and calls > 1
