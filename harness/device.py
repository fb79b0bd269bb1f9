"""Which device and precision a run gets, and a clear word where the machine lacks what was asked for."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from harness.errors import InputError


def resolve_device(device: str) -> str:
    """"auto" -> the fastest device that this machine has; any other stays, if the machine has it.

    Raises InputError where it has not.
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, there in has.items() if there)
    kind = device.partition(":")[0]
    if not has.get(kind, False):
        raise InputError(f"device {device!r} asked for, but PyTorch finds none on this machine; use --device cpu")
    return device


def default_precision(device: str) -> str:
    """bf16 where the hardware multiplies it natively (Ampere GPUs and later, AMX CPUs), otherwise fp32."""
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp32"
    if device == "cpu" and platform.system() == "Linux":
        return "bf16" if re.search(r"\bamx_bf16\b", Path("/proc/cpuinfo").read_text()) else "fp32"
    return "fp32"


def check_precision(device: str, precision: str) -> None:
    """Raises InputError for a precision that the device lacks."""
    if device == "cpu" and precision == "fp16":
        raise InputError("precision fp16 needs a GPU; use fp32 or bf16 on a CPU")
