"""Predicted beside measured peak memory: ``python -m harness.inspection.memory_page`` -> results/memory/.

Every registered network takes a training step on this machine's CPU, each in a fresh process. Two things are
measured: the peak of the tensors alive, from PyTorch's profiler, and the peak of the process's resident set.
"""

from __future__ import annotations

import csv
import gc
import os
import subprocess
import sys
from pathlib import Path

import torch

import variants
from harness.inspection.memory import (
    OPTIMIZERS,
    MemoryEstimate,
    empty_like_run,
    first_step,
    predict_memory,
    training_step,
)
from harness.inspection.network import VARIANT_ARGUMENTS, subject, tensors_of
from harness.measure import PeakMemory
from harness.record import capture_environment

PAGE = Path(__file__).parent.parent.parent / "results" / "memory"
BATCH, SIZE = 32, 64
GOAL = 0.10
COLUMNS = ("variant", "parameters", "gradients", "optimizer", "ema", "inputs", "activations", "workspace", "predicted",
           "tensors_alive", "tensors_ratio", "resident", "resident_ratio")


def batch_inputs(name: str, batch: int, size: int) -> tuple:
    """Meta tensors for ``batch`` images of ``size`` x ``size``."""
    return tuple(x if x is None else x.new_empty((batch, *x.shape[1:])) for x in subject(name, size).inputs)


def predicted(name: str, batch: int = BATCH, size: int = SIZE) -> MemoryEstimate:
    """Of a training step in fp32."""
    return predict_memory(subject(name, size).network, batch_inputs(name, batch, size), training=True)


def real_step(name: str, batch: int, size: int):
    """(a training step to call, bytes of the tensors that are there before): network, AdamW's state, batch, target."""
    shapes = batch_inputs(name, batch, size)
    with torch.device("meta"), torch.no_grad():
        out = tensors_of(subject(name, size).network(*shapes))
    network = variants.build(name, **{**VARIANT_ARGUMENTS, "image_size": size})
    network = network.to(memory_format=torch.channels_last).train()
    inputs = tuple(x if x is None else empty_like_run(x, "cpu").zero_() for x in shapes)
    target = [empty_like_run(y, "cpu").zero_() for y in out]
    optimizer = OPTIMIZERS["adamw"](network.parameters())
    first_step(optimizer, list(network.parameters()))
    state = [tensor for one in optimizer.state.values() for tensor in tensors_of(one)]
    there = [*network.parameters(), *network.buffers(), *tensors_of(inputs), *target, *state]

    def step() -> None:
        training_step(network, inputs, target, optimizer, torch.autocast("cpu", enabled=False))

    return step, sum(tensor.untyped_storage().nbytes() for tensor in there)


def tensors_alive(name: str, batch: int = BATCH, size: int = SIZE) -> int:
    """Bytes: the peak of what PyTorch's CPU allocator has given out in a training step, by the profiler."""
    step, before = real_step(name, batch, size)
    gc.collect()
    with torch.autograd.profiler.profile(profile_memory=True) as profiled:
        step()
    events = [event for event in profiled.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return before + peak


def resident(name: str, batch: int = BATCH, size: int = SIZE) -> int:
    """Bytes: the peak of the resident set in two training steps above its level before the network was made.

    Only right in a process that has done nothing else. A tiny step before lets libraries load what they load once.
    """
    real_step(name, 1, size)[0]()
    gc.collect()
    memory = PeakMemory(torch.device("cpu"))
    step, _ = real_step(name, batch, size)
    step()
    step()
    return int(memory.stop({}).value)


def in_fresh_process(what: str, name: str) -> int:
    """``tensors_alive`` or ``resident`` of a variant, on one thread."""
    done = subprocess.run([sys.executable, "-m", __spec__.name, what, name], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        raise RuntimeError(f"{what} of {name}: {done.stderr.strip()[-500:]}")
    return int(done.stdout.split()[-1])


def line(name: str) -> dict:
    """A row of memory.csv; bytes, and measured / predicted."""
    paper = predicted(name)
    alive, held = in_fresh_process("tensors_alive", name), in_fresh_process("resident", name)
    parts = {part: getattr(paper, part) for part in COLUMNS[1:8]}
    return {"variant": name, **parts, "predicted": paper.total, "tensors_alive": alive,
            "tensors_ratio": f"{alive / paper.total:.4f}", "resident": held,
            "resident_ratio": f"{held / paper.total:.4f}"}


def page(rows: list[dict], machine: str) -> str:
    """The page in Markdown."""
    def within(column: str) -> str:
        met = sum(abs(float(row[column]) - 1) <= GOAL for row in rows)
        worst = max(rows, key=lambda row: abs(float(row[column]) - 1))
        return f"{met} of {len(rows)} within {100 * GOAL:g} %, the farthest is {worst['variant']} ({worst[column]})"

    def mb(row: dict, column: str) -> str:
        return f"{row[column] / 1e6:,.1f}"

    shown = ("parameters", "gradients", "optimizer", "inputs", "activations", "workspace", "predicted",
             "tensors_alive", "resident")
    parts = [f"""# Memory on paper and measured

A training step (mean squared error, clipped gradients, fused AdamW) of every registered network in fp32, channels
last: {BATCH} images of 3 x {SIZE} x {SIZE} with a time step. `python -m harness.inspection.memory_page` makes this page
again; `memory.csv` holds it in bytes.

*Predicted* is computed without running the network (`harness/inspection/memory.py`, `bench.py fit`); the parts are
what each holds at the peak. *Tensors alive* is the peak of what PyTorch's CPU allocator gave out, from its profiler.
*Resident* is the peak of the process's resident set above its level before the network was made, after a step of one
image. Each was measured in a fresh process on one thread.

- Tensors alive / predicted: **{within('tensors_ratio')}**.
- Resident / predicted: **{within('resident_ratio')}**.

What the prediction does not see: oneDNN's scratch space and reordered weights, which PyTorch's allocator does not
give out; copies that kernels make inside themselves (a convolution's own are in, as *workspace*); what the C library
keeps between two uses. All of these are in *resident*.

Machine: {machine}.

Millions of bytes; ratios are measured / predicted.
""",
             "| variant | parameters | gradients | optimiser | batch | activations | workspace | predicted | "
             "tensors alive | resident | tensors ratio | resident ratio |",
             "|---|" + "--:|" * 11]
    parts += [f"| {row['variant']} | " + " | ".join(mb(row, column) for column in shown)
              + f" | {row['tensors_ratio']} | {row['resident_ratio']} |" for row in rows]
    return "\n".join(parts) + "\n"


def machine() -> str:
    env = capture_environment("cpu")
    memory = f"{env['memory_bytes'] / 2 ** 30:.0f} GiB, " if env["memory_bytes"] else ""
    return (f"{env['cpu']}, {env['cores']} cores, {memory}{env['system']}, Python {env['python']}, "
            f"PyTorch {env['packages']['torch']}")


def main(folder: Path = PAGE) -> None:
    """Write README.md and memory.csv into ``folder``."""
    rows = []
    for name in variants.names():
        rows.append(line(name))
        print(name, rows[-1]["tensors_ratio"], rows[-1]["resident_ratio"], flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "memory.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "README.md").write_text(page(rows, machine()), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        print({"tensors_alive": tensors_alive, "resident": resident}[sys.argv[1]](sys.argv[2]))
    else:
        main()
