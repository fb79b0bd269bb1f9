"""A network's shape as a drawing: the U with its levels, channels and skips, or the stack of a transformer."""

from __future__ import annotations

from torch import Tensor, nn

from harness.inspection.draw_levels import draw_levels
from harness.inspection.draw_stack import draw_stack
from harness.inspection.svg import FAINT, Canvas
from harness.inspection.trace import trace


def draw(network: nn.Module, inputs: tuple[Tensor | None, ...], title: str) -> str:
    """SVG of a network on the meta device. ``title`` stands above it."""
    units = trace(network, inputs)
    canvas = Canvas()
    seeing = [unit for unit in units if unit.sees]
    of_tokens = sum(len(unit.shape) == 3 for unit in seeing) > len(seeing) / 2
    (draw_stack if of_tokens else draw_levels)(canvas, units, inputs)
    shapes = [" × ".join(map(str, shape[1:])) for shape in (inputs[0].shape, units[-1].shape)]
    parameters = sum(p.numel() for p in network.parameters())
    top = canvas.top
    canvas.text(canvas.left, top - 30, title, 16, anchor="start", bold=True)
    canvas.text(canvas.left, top - 13, f"{shapes[0]} → {shapes[1]}, {parameters:,} parameters", 11, anchor="start",
                colour=FAINT)
    return canvas.svg(title)
