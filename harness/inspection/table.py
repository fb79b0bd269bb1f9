"""What ``bench.py inspect`` prints: a network's modules as a table or as JSON, and its totals in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from harness.errors import InputError
from harness.measurement.network import Layer, Subject, layers, parse_changes, subject

ROWS_AT_MOST = 40           # of a table whose depth nobody asked for
FILE_WIDTH = 132            # characters, where the output is no terminal


def show(name: str, size: int | None, changes: Iterable[str], *, depth: int | None, as_json: bool,
         svg: Path | None) -> None:
    """What ``bench.py inspect`` prints and draws."""
    looked_at = subject(name, size, parse_changes(changes))
    rows = layers(looked_at.network, looked_at.inputs, name)
    if as_json:
        print(json.dumps(as_dict(looked_at, rows), indent=1, default=str))
    else:
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console.width = FILE_WIDTH
        arguments = ", ".join(f"{key}={value!r}" for key, value in looked_at.arguments.items())
        console.print(f"{name} ({looked_at.source or looked_at.kind}): {arguments}")
        console.print(as_table(rows, suited_depth(rows) if depth is None else depth))
        console.print(totals(rows[0], looked_at.inputs), soft_wrap=True)
        if looked_at.assumed:
            console.print(f"taken for granted: {'; '.join(looked_at.assumed)}", soft_wrap=True)
    if svg:
        from harness.inspection.draw_network import draw
        try:
            svg.parent.mkdir(parents=True, exist_ok=True)
            svg.write_text(draw(looked_at.network, looked_at.inputs, title=name.rpartition(":")[2]), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--svg {svg}: {error.strerror or error}") from error


def suited_depth(rows: list[Layer]) -> int:
    """The deepest level of which all rows fit in a table of ``ROWS_AT_MOST``; 1 where not even that fits."""
    deepest = max(layer.depth for layer in rows)
    return next((d for d in range(deepest, 1, -1) if sum(x.depth <= d for x in rows) <= ROWS_AT_MOST), 1)


def display_rows(rows: list[Layer], depth: int) -> Iterator[tuple[str, str, str, int, int]]:
    """(module, type, output, parameters, MACs) of every row down to ``depth``.

    What a module holds or spends outside of the modules shown under it has a row of its own, so that the rows
    under a module always add up to it.
    """
    for i, row in enumerate(rows):
        if not row.depth or row.depth > depth:
            continue
        start = len(row.parent.path) + 1 if row.parent.path else 0
        yield ("  " * (row.depth - 1) + row.path[start:], row.type + (f" ({row.calls} calls)" if row.calls > 1 else ""),
               shown_shapes(row), row.parameters, row.macs)
        has_rows = row.depth < depth and i + 1 < len(rows) and rows[i + 1].depth > row.depth
        if has_rows and (row.own_parameters or row.own_macs):
            yield "  " * row.depth + "(itself)", "", "", row.own_parameters, row.own_macs
    whole = rows[0]
    if depth and (whole.own_parameters or whole.own_macs):
        yield "(itself)", "", "", whole.own_parameters, whole.own_macs


def shown_shapes(row: Layer) -> str:
    """ "1x64x32x32", or "6 of 1x1x128" where a module returns several alike."""
    shapes = ["x".join(map(str, shape)) for shape in row.output]
    return " + ".join(f"{shapes.count(shape)} of {shape}" if shapes.count(shape) > 1 else shape
                      for shape in dict.fromkeys(shapes)) or "not called"


def human(count: int) -> str:
    """1234567 -> "1.235 M"."""
    for unit, name in ((10 ** 12, " T"), (10 ** 9, " G"), (10 ** 6, " M"), (10 ** 3, " k")):
        if count >= unit:
            return f"{count / unit:.4g}{name}"
    return str(count)


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else ""


def shown_inputs(inputs: tuple[Tensor | None, ...]) -> str:
    names = ("x", "t", "context")
    return ", ".join(f"{name} {'x'.join(map(str, tensor.shape))}" for name, tensor in zip(names, inputs)
                     if tensor is not None)


def totals(whole: Layer, inputs: tuple[Tensor | None, ...]) -> str:
    return (f"{whole.parameters:,} parameters ({whole.trainable:,} trainable); {whole.macs:,} MACs, "
            f"{2 * whole.macs:,} FLOPs (= 2 x MACs) at {shown_inputs(inputs)}")


def as_table(rows: list[Layer], depth: int) -> Table:
    """A rich table of the rows down to ``depth``."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("module", "type", "output"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", "share", "MACs", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for module, kind, output, parameters, macs in display_rows(rows, depth):
        table.add_row(Text(module), Text(kind), Text(output), f"{parameters:,}", share(parameters, rows[0].parameters),
                      human(macs), share(macs, rows[0].macs))
    return table


def as_dict(shown: Subject, rows: list[Layer]) -> dict[str, Any]:
    """Everything there is to know, for ``--json``: all modules at any depth."""
    whole = rows[0]
    return {"name": shown.name, "kind": shown.kind, "source": shown.source, "arguments": shown.arguments,
            "assumed": list(shown.assumed),
            "inputs": [None if x is None else list(x.shape) for x in shown.inputs], "output": whole.output,
            "parameters": whole.parameters, "trainable": whole.trainable, "macs": whole.macs, "flops": 2 * whole.macs,
            "modules": [{"path": row.path, "type": row.type, "depth": row.depth, "output": row.output,
                         "calls": row.calls, "parameters": row.parameters, "trainable": row.trainable,
                         "macs": row.macs, "own_parameters": row.own_parameters, "own_macs": row.own_macs}
                        for row in rows[1:]]}
