"""Which device and precision a run gets, and a clear word where the machine lacks what was asked for."""

from __future__ import annotations

import ctypes
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
    """bf16 where the hardware multiplies it natively (Ampere GPUs and later, AMX or AVX512-BF16 CPUs), else fp32."""
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp32"
    if device == "cpu" and platform.system() == "Linux":
        return "bf16" if re.search(r"\b(amx_bf16|avx512_bf16)\b", Path("/proc/cpuinfo").read_text()) else "fp32"
    return "fp32"


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees, to use it again (Linux with the GNU C library; else nothing).

    A training step on a CPU takes and frees the same maps every time. Given back to the system, their pages are
    made and cleared anew in every step, which took a third of its time and more.
    """
    mmap_max, trim_threshold = -4, -1                  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    if library := _gnu_c_library():
        library.mallopt(mmap_max, 0)                   # large blocks come from the heap, too
        library.mallopt(trim_threshold, -1)            # whose end is never given back


def give_back_freed_memory() -> None:
    """Give back, once, what this process has freed and kept: else what is taken next would not show as memory used."""
    if library := _gnu_c_library():
        library.malloc_trim(0)


def _gnu_c_library() -> ctypes.CDLL | None:
    is_gnu = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
    return ctypes.CDLL(None) if is_gnu else None


def check_precision(device: str, precision: str) -> None:
    """Raises InputError for a precision that the device lacks."""
    if device == "cpu" and precision == "fp16":
        raise InputError("precision fp16 needs a GPU; use fp32 or bf16 on a CPU")
