"""Energy in joules, where the platform counts it: RAPL on Linux, NVML on NVIDIA's GPUs. Elsewhere None, no estimate."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.measurement.timing import synchronize

POWERCAP = Path("/sys/class/powercap")             # Linux's interface to RAPL, of Intel's and AMD's processors
NVML = "libnvidia-ml.so.1"                         # part of NVIDIA's driver
MIN_S = 1.0                                        # counters move 10 to 1000 times a second


@dataclass(frozen=True)
class EnergyCounter:
    """``joules()`` since some moment in the past; ``name`` says whose energy that is."""

    name: str
    joules: Callable[[], float]


def energy_counter(device: torch.device, powercap: Path = POWERCAP, nvml: str = NVML) -> EnergyCounter | None:
    """What counts the energy that ``device`` draws; None where nothing does, or it may not be read."""
    if device.type == "cpu":
        return rapl(powercap)
    return gpu(device, nvml) if device.type == "cuda" else None


def energy_per_call(call: Callable[[], object], counter: EnergyCounter, device: torch.device,
                    min_s: float = MIN_S) -> tuple[float, int]:
    """(joules of one call, how many were made): as many as ``min_s`` seconds take."""
    synchronize(device)
    before, started, calls = counter.joules(), time.perf_counter(), 0
    while not calls or time.perf_counter() - started < min_s:
        call()
        synchronize(device)
        calls += 1
    return (counter.joules() - before) / calls, calls


class Zone:
    """One domain of RAPL: joules since it was made. Its counter starts again at 0 after ``max_energy_range_uj``."""

    def __init__(self, folder: Path):
        self.folder, self.range, self.total = folder, int((folder / "max_energy_range_uj").read_text()) + 1, 0
        self.last = self.now()

    def now(self) -> int:
        return int((self.folder / "energy_uj").read_text())

    def joules(self) -> float:
        now = self.now()
        self.total += (now - self.last) % self.range
        self.last = now
        return self.total / 1e6


def rapl(powercap: Path = POWERCAP) -> EnergyCounter | None:
    """All processor packages, and their memory where it is counted apart; idle parts and other programs included.

    Since 2020 most systems let only root read it (CVE-2020-8694).
    """
    try:
        folders = {folder: (folder / "name").read_text().strip() for folder in sorted(powercap.glob("intel-rapl:*"))}
        zones = [Zone(folder) for folder, name in folders.items() if name.startswith("package") or name == "dram"]
    except (OSError, ValueError):
        return None
    if not any(folders[zone.folder].startswith("package") for zone in zones):
        return None
    names = ", ".join(folders[zone.folder] for zone in zones)
    return EnergyCounter(f"RAPL, all of {names}", lambda: sum(zone.joules() for zone in zones))


def gpu(device: torch.device, nvml: str = NVML) -> EnergyCounter | None:
    """The GPU's board since the driver was loaded (Volta and later); not the computer that it is in."""
    try:
        library = ctypes.CDLL(nvml)
    except OSError:
        return None
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    uuid = f"GPU-{str(torch.cuda.get_device_properties(device).uuid).removeprefix('GPU-')}"

    def joules() -> float:
        if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
            raise RuntimeError("NVML does not say the GPU's energy any more")
        return millijoules.value / 1e3

    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)):
        return None
    try:
        joules()
    except RuntimeError:                           # an older GPU, or a share of one
        return None
    return EnergyCounter("NVML, the GPU's board", joules)
