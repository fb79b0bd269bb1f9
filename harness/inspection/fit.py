"""The largest batch, or the largest image, that a memory holds: ``bench.py inspect NAME --memory SIZE``."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from harness.errors import InputError, unknown
from harness.identity import networks
from harness.measurement.memory import PRECISIONS, MemoryEstimate, predict_memory
from harness.measurement.network import Subject, parse_changes, subject, words
from harness.training.device import resolve_device

UNITS = {"B": 1, **{f"{prefix}B": 1000 ** (i + 1) for i, prefix in enumerate("kMGT")},
         **{f"{prefix}iB": 1024 ** (i + 1) for i, prefix in enumerate("KMGT")}}
LABELS = {"parameters": "parameters and buffers", "gradients": "gradients", "optimizer": "optimiser state (AdamW)",
          "ema": "averaged weights", "inputs": "batch and target", "activations": "activations saved for backward",
          "workspace": "being computed", "total": "total"}
LARGEST_BATCH, LARGEST_SIDE = 2 ** 20, 2 ** 14
STEPS = (1, 2, 4, 8, 16, 32, 64)                   # pixels by which the side of an image may have to grow
NOTE = ("Tensors are counted. A GPU's context, its libraries' workspaces and the allocator's gaps come on top: give "
        "--memory less than the card has.")
CPU_NOTE = ("These are a CPU's operators. On a GPU autocast keeps norms in fp32, and {precision} takes more: "
            "ask where the GPU is.")


def parse_bytes(text: str) -> int:
    """"24GB" -> 24 * 10^9, "24GiB" -> 24 * 2^30. Raises InputError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    if not found:
        raise InputError(f"--memory {text}: write it as a number and a unit, e.g. 24GB")
    unit = next((known for known in UNITS if known.lower() == found[2].lower()), None)
    if unit is None:
        raise unknown("unit of memory", found[2], UNITS)
    size = int(float(found[1]) * UNITS[unit])
    if not size:
        raise InputError(f"--memory {text}: that is nothing")
    return size


def shown_bytes(size: int) -> str:
    """1234567890 -> "1.23 GB"."""
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= 1000 and round(size / UNITS[unit], 2) >= 1:
            return f"{size / UNITS[unit]:.2f} {unit}"
    return f"{size} B"


def estimate(looked_at: Subject, batch: int, **asked: Any) -> MemoryEstimate:
    """Of ``batch`` images as the subject has one. Raises InputError for what the network refuses."""
    inputs = tuple(x if x is None else x.new_empty((batch, *x.shape[1:])) for x in looked_at.inputs)
    try:
        with networks.contained():
            return predict_memory(looked_at.network, inputs, **asked)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{looked_at.name} with images {'x'.join(map(str, inputs[0].shape))}: "
                         f"{words(error)}") from error


def largest(cost: Callable[[int], MemoryEstimate], limit: int, low: int, high: int,
            amount: Callable[[int], float] = float) -> int:
    """The largest n in ``low``..``high`` whose total is within ``limit``; ``low`` is.

    Totals are taken to grow with n, nearly as a straight line over ``amount(n)``. The next n to look at is where the
    line through the ends of the interval meets the limit; every third time it is the middle, so that a cost that is
    no line ends the search, too. Where totals fall again (half-precision attention on a CPU keeps no weights beyond
    a size), a larger n may fit as well.
    """
    def at(aim: float) -> int:                     # the largest n in the range whose amount is within the aim
        return low + bisect_right(range(low + 1, high + 1), aim, key=amount)

    below, n = cost(low).total, min(high, 2 * low + 1)
    while (above := cost(n).total) <= limit:       # go up until one does not fit
        if n == high:
            return high
        rate = max(1e-9, (above - below) / (amount(n) - amount(low)))
        aim = amount(n) + 1.05 * (limit - above) / rate
        low, below, n = n, above, max(min(high, 2 * n), min(high, at(aim) + 1))
    high, looks = n, 0
    while high - low > 1:
        looks += 1
        line = at(amount(low) + (limit - below) * (amount(high) - amount(low)) / (above - below))
        n = (low + high) // 2 if looks % 3 == 0 else min(max(line, low + 1), high - 1)
        total = cost(n).total
        if total <= limit:
            low, below = n, total
        else:
            high, above = n, total
    return low


def at_side(own: Subject, changes: dict, side: int) -> Subject:
    """The subject with images of ``side`` x ``side``; a preset's network is the same at every size."""
    if own.kind != "preset":
        return subject(own.name, side, changes)
    image, *others = own.inputs
    return replace(own, inputs=(image.new_empty((*image.shape[:2], side, side)), *others))


def sides(own: Subject, changes: dict) -> tuple[int, int]:
    """(smallest, step): the network takes square images of smallest + k step pixels. Raises InputError: only its own.

    Found by calling it, on the meta device.
    """
    name, size = own.name, own.inputs[0].shape[-1]

    def takes(side: int) -> bool:
        try:
            looked_at = at_side(own, changes, side)
            with networks.contained(), torch.no_grad(), torch.device("meta"):
                looked_at.network(*looked_at.inputs)
            return True
        except Exception:
            return False

    step = next((step for step in STEPS if takes(size + step) and takes(size + 3 * step)), None)
    if step is None:
        raise InputError(f"{name} takes images of {size} x {size} pixels only, so none is the largest; "
                         "leave --batch out to ask for the largest batch")
    first = size % step or step
    return next((side for side in range(first, size, step) if takes(side)), size), step


def refusal(name: str, memory: int, what: str, needed: MemoryEstimate) -> InputError:
    """Why not even the smallest fits: at best because of the parameters alone."""
    if needed.parameters > memory:
        why = f"its parameters alone take {shown_bytes(needed.parameters)}"
    elif needed.fixed > memory:
        why = f"its parameters with the optimiser's state take {shown_bytes(needed.fixed)}"
    else:
        why = f"{what} takes {shown_bytes(needed.total)}"
    return InputError(f"{name} does not fit into {shown_bytes(memory)}: {why}")


def fit(name: str, memory: int, *, size: int | None = None, batch: int | None = None,
        changes: dict[str, Any] | None = None, **asked: Any) -> tuple[int, int, MemoryEstimate]:
    """(batch, side in pixels, estimate): the largest batch at ``size``, or with ``batch`` the largest square image.

    ``memory`` in bytes; ``asked`` as :func:`harness.measurement.memory.predict_memory` takes it. Raises InputError
    where nothing fits, for an unknown name, and for a network that takes images of one size only.
    """
    seen: dict[int, MemoryEstimate] = {}
    changes = changes or {}
    if batch is None:
        looked_at, low, top = subject(name, size, changes), 1, LARGEST_BATCH
        side, amount = looked_at.inputs[0].shape[-1], float

        def compute(n: int) -> MemoryEstimate:
            return estimate(looked_at, n, **asked)
    else:
        own = subject(name, None, changes)
        first, step = sides(own, changes)
        low, top = 0, (LARGEST_SIDE - first) // step

        def amount(n: int) -> float:               # pixels
            return (first + n * step) ** 2

        def compute(n: int) -> MemoryEstimate:
            return estimate(at_side(own, changes, first + n * step), batch, **asked)

    def cost(n: int) -> MemoryEstimate:
        if n not in seen:
            seen[n] = compute(n)
        return seen[n]

    if cost(low).total > memory:
        what = (f"one image of {side} x {side} pixels" if batch is None
                else f"a batch of {batch} images of {first} x {first} pixels")
        raise refusal(name, memory, what, cost(low))
    found = largest(cost, memory, low, top, amount)
    return (found, side, cost(found)) if batch is None else (batch, first + found * step, cost(found))


def show(name: str, memory: str, size: int | None, *, batch: int | None, changes: Iterable[str], training: bool,
         precision: str, ema: bool, device: str) -> None:
    """Print the largest batch or image, and what holds the memory then.

    ``device`` "auto" is the GPU that this machine has, or else its CPU. Raises InputError for options that do not go
    together.
    """
    limit = parse_bytes(memory)
    if size is not None and batch is not None:
        raise InputError("give --size to find the largest batch, or --batch to find the largest image, not both")
    if ema and not training:
        raise InputError("--ema counts the averaged weights that training keeps; leave it out with --inference")
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    device = "cuda" if resolve_device(device).startswith("cuda") else "cpu"
    found, side, needs = fit(name, limit, size=size, batch=batch, changes=parse_changes(changes), training=training,
                             precision=precision, ema=ema, device=device)
    at_most = f" (the search ends at {found:,})" if batch is None and found == LARGEST_BATCH else ""
    answer = (f"batch {found:,}{at_most}, the largest of {side} x {side} pixels" if batch is None
              else f"{side} x {side} pixels, the largest in batches of {batch:,}")
    console = Console(highlight=False, markup=False)
    console.print(f"{name}, {'training' if training else 'inference'}, {precision}: {answer}, that fits into "
                  f"{shown_bytes(limit)}", soft_wrap=True)
    console.print(as_table(needs, LABELS if training else {**LABELS, "inputs": "batch"}))
    console.print(NOTE, soft_wrap=True)
    if device == "cpu" and precision != "fp32":
        console.print(CPU_NOTE.format(precision=precision), soft_wrap=True)


def as_table(needs: MemoryEstimate, labels: Mapping[str, str] = LABELS) -> Table:
    """What each part holds at the peak, and the most that it ever holds where that is another number."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("part")
    for column in ("at the peak", "share", "at most"):
        table.add_column(column, justify="right", no_wrap=True)
    most = {"activations": needs.saved, "gradients": needs.all_gradients}
    values = asdict(needs)
    for part, label in labels.items():
        if values[part] or most.get(part):
            table.add_row(label, shown_bytes(values[part]), f"{100 * values[part] / needs.total:.1f}%",
                          shown_bytes(most[part]) if most.get(part, values[part]) != values[part] else "")
    return table
