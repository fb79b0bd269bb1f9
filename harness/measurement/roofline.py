"""What this machine can do at best: its rate of matrix products and its memory's bandwidth, measured once and kept.

Attained over attainable, min(peak, intensity x bandwidth), is a share of the roofline (Williams et al. 2009,
doi:10.1145/1498765.1498785). What is kept says when and how it was measured; delete the file to measure again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.measurement.timing import time_calls
from harness.record import capture_environment

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIDES = (256, 512, 1024, 2048, 4096, 8192)         # of the matrices; the largest rate counts
SLOW_S = 0.1                                       # no larger product after one that takes this long
REPEATS = 5                                        # of each call, of which the fastest counts
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
ASSUMED_CACHE = 64 * 2 ** 20                       # bytes, where the system does not say
TIMES_CACHE = 4                                    # a streamed array is this much larger than the last cache


@dataclass(frozen=True)
class Roofline:
    """Of one machine at one precision."""

    flops_per_s: float                             # peak of matrix products; a multiply-accumulate is two
    bytes_per_s: float                             # read and written together, from and to main or GPU memory

    def attainable(self, intensity: float) -> float:
        """FLOP/s of work that does ``intensity`` FLOP for each byte that it moves."""
        return min(self.flops_per_s, intensity * self.bytes_per_s)


def roofline(device: torch.device, precision: str, folder: Path) -> Roofline:
    """This machine's, from the file in ``folder`` where it is there; else measured, which takes seconds, and kept."""
    machine = describe(device)
    path = folder / file_name(machine)
    kept = read(path, machine)
    wanted = {f"matrix product, {precision}": lambda: matrix_rate(device, precision),
              "bandwidth": lambda: bandwidth(device)}
    missing = {name: measure for name, measure in wanted.items() if name not in kept}
    if missing:
        for name, measure in missing.items():
            kept[name] = {**measure(), "measured": datetime.now(UTC).isoformat(timespec="seconds")}
        write(path, {"machine": machine, **kept})
    product, stream = (kept[name] for name in wanted)
    return Roofline(product["flops_per_s"], stream["bytes_per_s"])


def describe(device: torch.device) -> dict[str, Any]:
    """What the rates depend on."""
    env = capture_environment(str(device))
    return {**({"gpu": env["gpu"]} if "gpu" in env else {}), "device": device.type, "cpu": env["cpu"],
            "cores": env["cores"], "threads": env["threads"], "torch": env["packages"]["torch"]}


def file_name(machine: dict[str, Any]) -> str:
    """ "roofline-AMD-EPYC-2-cores-1-threads-torch-2.6.0.json"."""
    name = machine.get("gpu", machine["cpu"] if machine["device"] == "cpu" else f"{machine['device']} {machine['cpu']}")
    words = f"roofline {name} {machine['cores']} cores {machine['threads']} threads torch {machine['torch']}"
    return re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-") + ".json"


def read(path: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """What was measured on this machine: name -> entry; {} where there is nothing, or nothing that can be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        rates = {"bandwidth": "bytes_per_s"}
        return {name: entry for name, entry in kept.items()
                if kept["machine"] == machine and name != "machine"
                and entry[rates.get(name, "flops_per_s")] > 0}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def write(path: Path, kept: dict[str, Any]) -> None:
    """Whole or not at all, as two runs may measure at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def fastest(call: Callable[[], object], device: torch.device) -> float:
    """Seconds."""
    return min(time_calls(call, device, warmup=1, repeats=REPEATS))


def matrix_rate(device: torch.device, precision: str) -> dict[str, Any]:
    """FLOP/s of the fastest product of two square matrices."""
    best: dict[str, Any] = {"flops_per_s": 0.0}
    with convolutions_fp32(device):
        for side in SIDES:
            a, b = (torch.randn(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
            out = torch.empty_like(a)
            seconds = fastest(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
            if 2 * side ** 3 / seconds > best["flops_per_s"]:
                best = {"flops_per_s": 2 * side ** 3 / seconds, "side": side}
            if seconds > SLOW_S:
                break
    how = f"torch.mm of square matrices of up to {side}, the fastest of {REPEATS} calls each"
    tf32 = precision == "fp32" and device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return {**best, "how": how + (", TensorFloat-32 allowed" if tf32 else "")}


@contextmanager
def convolutions_fp32(device: torch.device):
    """Let matrix products in fp32 use TensorFloat-32 where PyTorch lets convolutions: networks are made of these."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def bandwidth(device: torch.device) -> dict[str, Any]:
    """B/s of c = a + s b over arrays that no cache holds (the triad of McCalpin's STREAM)."""
    size = TIMES_CACHE * last_cache(device)
    a, b, c = (torch.ones(size // 4, device=device) for _ in range(3))

    def triad() -> Tensor:
        return torch.add(a, b, alpha=3.0, out=c)

    return {"bytes_per_s": 3 * size / fastest(triad, device), "array_bytes": size,
            "how": f"a + s b -> c over arrays of fp32, the fastest of {REPEATS} calls"}


def last_cache(device: torch.device) -> int:
    """Bytes of the largest cache before main or GPU memory."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    units = {"K": 2 ** 10, "M": 2 ** 20, "G": 2 ** 30}
    try:
        sizes = [path.read_text().strip() for path in CACHES.glob("index*/size")]
        return max(int(size[:-1]) * units[size[-1]] for size in sizes)
    except (OSError, ValueError, LookupError):
        return ASSUMED_CACHE
