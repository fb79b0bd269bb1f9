"""A network of tokens, drawn as its stack of blocks; folded at the middle where long skips join the two halves."""

from __future__ import annotations

from itertools import groupby

from harness.inspection.draw_boxes import (
    EDGES,
    Box,
    conditions,
    draw_legend,
    draw_pill,
    fill_boxes,
    is_port,
    make_boxes,
)
from harness.inspection.svg import INK, Canvas, text_width
from harness.inspection.trace import Unit

SLAB, THIN, STEP = 20, 7, 10                # pixels: height of a block, of one inside a long run, and between blocks
RUN = 4                                     # equal blocks in a row of which the inner ones are drawn thin
APART = 150                                 # pixels between the two halves of a folded stack


def words_of(box: Box) -> str:
    """"AdaptiveBlock: 256 tokens × 1152"."""
    shape = box.shape[1:]
    size = f"{shape[0]} tokens × {shape[1]}" if len(shape) == 2 else " × ".join(map(str, shape))
    name = next((unit.path for unit in box.units if unit.path in ("input", "output")), None)
    return f"{name or type(box.units[-1].module).__name__}: {size}"


def draw_stack(canvas: Canvas, units: list[Unit], inputs: tuple) -> None:
    """Downwards from the image; where blocks take long skips, they climb up on the other side."""
    boxes = make_boxes(units, inputs[0].shape, together=False)
    fill_boxes(boxes)
    place(boxes)
    for box in boxes:
        for i, (source, kind) in enumerate(box.sources):
            draw_edge(canvas, source, box, kind if i else "")
    for box in boxes:
        canvas.box(box.x, box.y, box.width, box.height, box.fills, tip=", ".join(u.path for u in box.units))
        if box.height == SLAB:
            canvas.text(box.x + box.width / 2, box.middle + 3.5, words_of(box), 10, bold=not is_port(box))
    for run in runs(boxes):
        if len(run) > RUN:
            x = run[0].right + 8
            canvas.line([(x, run[0].y), (x + 5, run[0].y), (x + 5, run[-1].bottom), (x, run[-1].bottom)], INK,
                        arrow=False)
            canvas.text(x + 12, (run[0].y + run[-1].bottom) / 2 + 4, f"{len(run)} ×", 13, anchor="start", bold=True)
    draw_conditions(canvas, boxes, units, inputs)
    draw_legend(canvas, boxes, canvas.bottom + 30)


def runs(boxes: list[Box]) -> list[list[Box]]:
    """Boxes after one another that are alike and have no long skip in or out."""
    leaving = [source for box in boxes for source, _ in box.sources[1:]]

    def kind(box: Box) -> tuple | None:
        alone = len(box.sources) == 1 and not any(box is other for other in leaving)
        return (type(box.units[0].module), len(box.units), box.shape) if alone else None

    return [list(run) for key, run in groupby(boxes, key=kind) if key is not None]


def place(boxes: list[Box]) -> None:
    """Pixels for every box."""
    width = max(text_width(words_of(box), 10) for box in boxes) + 16
    thin = [box for run in runs(boxes) if len(run) > RUN for box in run[1:-1]]
    climbing, before = False, None
    for box in boxes:
        box.width, box.height = width, THIN if any(box is other for other in thin) else SLAB
        side = box.sources[1][0] if len(box.sources) > 1 and box.sources[1][0] is not boxes[0] else None
        climbing = climbing or side is not None
        box.x = width + APART if climbing else 0
        if before is not None:
            gap = 2 if box.height == THIN or before.height == THIN else STEP
            box.y = before.y - box.height - gap if climbing else before.bottom + gap
        if side is not None and (before.x != box.x or side.y <= box.y):
            box.y = side.y
        before = box


def draw_edge(canvas: Canvas, source: Box, box: Box, kind: str) -> None:
    colour, dashed = EDGES.get(kind, INK), kind == "none"
    centre = box.x + box.width / 2
    if source.x != box.x:
        level = abs(source.middle - box.middle) < 1
        end = [(box.x, box.middle)] if level else [(centre, source.middle), (centre, box.bottom)]
        canvas.line([(source.right, source.middle), *end], colour, dashed=dashed)
        canvas.text((source.right + box.x) / 2, source.middle + 3, kind, 9, colour=colour, backed=True)
    elif kind:                                     # past what lies between, on the right
        x = source.right + 14
        canvas.line([(source.right, source.middle), (x, source.middle), (x, box.middle), (box.right, box.middle)],
                    colour, dashed=dashed)
    elif abs(source.middle - box.middle) >= SLAB:
        down = source.y < box.y
        canvas.line([(centre, source.bottom if down else source.y), (centre, box.y if down else box.bottom)], colour)


def draw_conditions(canvas: Canvas, boxes: list[Box], units: list[Unit], inputs: tuple) -> None:
    """Time and context in lines at the outer side of each half, with an arrow into every block that reads them."""
    foot = max(box.bottom for box in boxes)
    for (name, colour, readers), away, lower in zip(conditions(boxes, units, inputs), (24, 36), (0, 3)):
        if not readers:
            continue
        foot += 22                                 # below one another
        for side in {box.x for box in readers}:
            told = [box for box in readers if box.x == side]
            x = told[0].right + away if side else -away
            canvas.line([(x, min(box.middle for box in told) + lower), (x, foot), (-away, foot)], colour, arrow=False)
            for box in told:
                y = box.middle + lower
                canvas.line([(x, y), (box.right if side else box.x, y)], colour, width=0.8)
        draw_pill(canvas, -away, foot, name, colour)
