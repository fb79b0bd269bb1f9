"""Predicted beside measured peak memory: ``python bench.py page memory`` -> results/memory/.

Every registered network takes training steps and forward passes on this machine's CPU, each in a fresh process. Two
things are measured: the peak of the tensors alive, from PyTorch's profiler, and the peak of the process's resident set.
"""

from __future__ import annotations

import csv
import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import variants
from harness.measurement.allocations import Mark, follow, storage_bytes, tensors_of
from harness.measurement.costs import PeakMemory
from harness.measurement.memory import (
    OPTIMIZERS,
    PRECISIONS,
    MemoryEstimate,
    empty_like_run,
    first_step,
    forward_loss,
    predict_memory,
)
from harness.measurement.network import VARIANT_ARGUMENTS, subject
from harness.record import capture_environment
from harness.training.device import keep_freed_memory
from harness.training.step import training_step

PAGE = Path(__file__).parent.parent.parent / "results" / "memory"
BATCH, SIZE = 32, 64
GOAL = 0.10
CASES = [(use, precision) for use in ("training", "inference") for precision in ("fp32", "bf16")]
PARTS = ("parameters", "gradients", "optimizer", "inputs", "activations", "workspace")
MEASURED = ("tensors_alive", "resident", "resident_kept")
COLUMNS = ("variant", "use", "precision", *PARTS, "predicted",
           *(column for measured in MEASURED for column in (measured, f"{measured}_ratio")))
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}    # bytes; mallopt(3), glibc


def batch_inputs(name: str, batch: int, size: int) -> tuple:
    """Meta tensors for ``batch`` images of ``size`` x ``size``."""
    return tuple(x if x is None else x.new_empty((batch, *x.shape[1:])) for x in subject(name, size).inputs)


def predicted(name: str, batch: int = BATCH, size: int = SIZE, use: str = "training",
              precision: str = "fp32") -> MemoryEstimate:
    """Of a training step, or of a forward pass ("inference")."""
    return predict_memory(subject(name, size).network, batch_inputs(name, batch, size), training=use == "training",
                          precision=precision)


def real_step(name: str, batch: int, size: int, use: str = "training", precision: str = "fp32"):
    """(a training step or forward pass to call, bytes of the tensors that are there before).

    These are the network and the batch, and for training AdamW's state and the target.
    """
    shapes = batch_inputs(name, batch, size)
    network = variants.build(name, **{**VARIANT_ARGUMENTS, "image_size": size})
    network = network.to(memory_format=torch.channels_last).train(use == "training")
    inputs = tuple(x if x is None else empty_like_run(x, "cpu").zero_() for x in shapes)
    there = [*network.parameters(), *network.buffers(), *tensors_of(inputs)]

    def autocast():
        return torch.autocast("cpu", PRECISIONS[precision], enabled=PRECISIONS[precision] is not None,
                              cache_enabled=use == "training")

    if use == "inference":
        def forward() -> None:                     # not inference mode, where AfterEach would see fewer operators
            with torch.no_grad(), autocast():
                network(*inputs)

        return forward, storage_bytes(there)

    with torch.device("meta"), torch.no_grad():
        target = [empty_like_run(y, "cpu").zero_() for y in tensors_of(subject(name, size).network(*shapes))]
    optimizer = OPTIMIZERS["adamw"](network.parameters())
    first_step(optimizer, list(network.parameters()))
    state = [tensor for one in optimizer.state.values() for tensor in tensors_of(one)]

    def step() -> None:
        training_step(lambda: forward_loss(network, inputs, target, autocast()), network, optimizer)

    return step, storage_bytes([*there, *target, *state])


class AfterEach(TorchDispatchMode):
    """Marks the moment after every operator, when it has given back its scratch space."""

    def __init__(self, mark: Mark):
        super().__init__()
        self.mark, self.count = mark, itertools.count()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        self.mark(f"operator {next(self.count)}")
        return result


def allocated(name: str, batch: int = BATCH, size: int = SIZE, use: str = "training",
              precision: str = "fp32") -> tuple[int, int]:
    """Bytes: the peak of what PyTorch's CPU allocator has given out, by the profiler: (between operators, ever).

    Between operators there are the tensors that they returned or saved; within one, its scratch space, too.
    """
    step, before = real_step(name, batch, size, use, precision)

    def marked(mark: Mark) -> None:
        with AfterEach(mark):
            step()

    found = follow(marked, torch.device("cpu"))
    return before + int(max(found.at.values())), before + int(found.peak)


def resident(name: str, batch: int = BATCH, size: int = SIZE, use: str = "training", precision: str = "fp32") -> int:
    """Bytes: the peak of the resident set in two of them above its level before the network was made.

    Only right in a process that has done nothing else. A tiny step before lets libraries load what they load once.
    """
    real_step(name, 1, size, use, precision)[0]()
    gc.collect()
    memory = PeakMemory(torch.device("cpu"))
    step, _ = real_step(name, batch, size, use, precision)
    step()
    step()
    return int(memory.stop({}).value)


def in_fresh_process(name: str, use: str, precision: str, kept: bool) -> list[int]:
    """What the process below prints: bytes, on one thread. With ``kept``, memory that is freed stays, as in runs."""
    done = subprocess.run([sys.executable, "-m", __spec__.name, name, use, precision, "kept" if kept else "returned"],
                          capture_output=True, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1", **({} if kept else GIVES_BACK)})
    if done.returncode:
        raise RuntimeError(f"{name}, {use}, {precision}: {done.stderr.strip()[-500:]}")
    return [int(word) for word in done.stdout.split()]


def measure(name: str, use: str, precision: str, what: str) -> None:
    """Print the resident set's peak and, unless freed memory is ``what`` is kept, that of the tensors alive."""
    if what == "kept":
        keep_freed_memory()
    print(resident(name, use=use, precision=precision))
    if what != "kept":
        print(allocated(name, use=use, precision=precision)[1])


def line(name: str, use: str, precision: str) -> dict:
    """A row of memory.csv; bytes, and measured / predicted."""
    paper = predicted(name, use=use, precision=precision)
    returned, alive = in_fresh_process(name, use, precision, kept=False)
    [kept] = in_fresh_process(name, use, precision, kept=True)
    row = {"variant": name, "use": use, "precision": precision, **{part: getattr(paper, part) for part in PARTS},
           "predicted": paper.total, "tensors_alive": alive, "resident": returned, "resident_kept": kept}
    for measured in MEASURED:
        row[f"{measured}_ratio"] = f"{row[measured] / paper.total:.4f}"
    return row


def agreement(rows: list[dict], measured: str) -> str:
    """How many of the rows meet the goal, and which is the farthest from it."""
    ratio = f"{measured}_ratio"
    met = sum(abs(float(row[ratio]) - 1) <= GOAL for row in rows)
    worst = max(rows, key=lambda row: abs(float(row[ratio]) - 1))
    return (f"{met} of {len(rows)} within {100 * GOAL:g} %, the farthest is {worst['variant']} in {worst['use']}, "
            f"{worst['precision']} ({worst[ratio]})")


def table(rows: list[dict]) -> str:
    """Millions of bytes."""
    shown = [part for part in PARTS if any(row[part] for row in rows)]
    columns = [*shown, "predicted", "tensors_alive", "resident"]
    titles = {"optimizer": "optimiser", "inputs": "batch", "tensors_alive": "tensors alive"}
    parts = ["| variant | " + " | ".join(titles.get(column, column) for column in columns)
             + " | tensors ratio | resident ratio |", "|---|" + "--:|" * (len(columns) + 2)]
    parts += [f"| {row['variant']} | " + " | ".join(f"{row[column] / 1e6:,.1f}" for column in columns)
              + f" | {row['tensors_alive_ratio']} | {row['resident_ratio']} |" for row in rows]
    return "\n".join(parts)


def page(rows: list[dict], machine: str) -> str:
    """The page in Markdown."""
    kept = [float(row["resident_kept_ratio"]) for row in rows]
    parts = [f"""# Memory on paper and measured

Training steps (mean squared error, clipped gradients, fused AdamW) and forward passes of every registered network,
channels last, in fp32 and under bf16 autocast: {BATCH} images of 3 x {SIZE} x {SIZE} with a time step.
`python bench.py page memory` makes this page again; `memory.csv` holds it in bytes.

*Predicted* is computed without running the network (`bench.py inspect NAME --memory SIZE` asks for that); the parts are
what each holds at the peak. *Tensors alive* is the peak of what PyTorch's CPU allocator gave out, from its profiler.
*Resident* is the peak of the process's resident set above its level before the network was made, after a step of one
image, with the C library told to return what is freed ({' '.join(f'{k}={v}' for k, v in GIVES_BACK.items())}). Each
was measured in a fresh process on one thread.

- Tensors alive / predicted: **{agreement(rows, 'tensors_alive')}**.
- Resident / predicted: **{agreement(rows, 'resident')}**.

What the prediction does not see: what kernels take beside PyTorch's allocator, as oneDNN's own scratch space, and
copies that they make inside themselves (of a convolution's maps and weights they are in, as *workspace*). These depend
on the processor and on PyTorch's version: with AVX2 alone, a bf16 convolution lays its map out in columns, k^2
times the map (in *tensors alive*). All are in
*resident*. Runs keep what they free for their next step, in pieces that the next tensors may not fit: there the
resident set was {min(kept):.2f} to {max(kept):.2f} times what was predicted (`resident_kept` in `memory.csv`). A GPU's
allocator keeps freed blocks, too; its `max_memory_allocated` does not count them.

Machine: {machine}.

Millions of bytes; ratios are measured / predicted.
"""]
    for use, precision in CASES:
        parts.append(f"## {use.capitalize()}, {precision}\n\n"
                     + table([row for row in rows if (row["use"], row["precision"]) == (use, precision)]) + "\n")
    return "\n".join(parts)


def machine() -> str:
    env = capture_environment("cpu")
    memory = f"{env['memory_bytes'] / 2 ** 30:.0f} GiB, " if env["memory_bytes"] else ""
    return (f"{env['cpu']}, {env['cores']} cores, {memory}{env['system']}, Python {env['python']}, "
            f"PyTorch {env['packages']['torch']}")


def main(folder: Path = PAGE) -> None:
    """Write README.md and memory.csv into ``folder``."""
    rows = []
    for use, precision in CASES:
        for name in variants.names():
            rows.append(line(name, use, precision))
            print(name, use, precision, *(rows[-1][f"{measured}_ratio"] for measured in MEASURED), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "memory.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "README.md").write_text(page(rows, machine()), encoding="utf-8")


if __name__ == "__main__":
    measure(*sys.argv[1:])                         # a process of its own for one network
