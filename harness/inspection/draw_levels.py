"""A network of feature maps, drawn by its resolutions: a U for a U-Net, a staircase for a classifier.

A box's height is its resolution, its width its channels; a row holds one resolution, and time runs to the
right. Skips are drawn across; time and context run along the bottom.
"""

from __future__ import annotations

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
from harness.inspection.svg import FAINT, INK, Canvas, text_width
from harness.inspection.trace import Unit

GAP, LANE = 18, 9                           # pixels between boxes, and between lines that run above one another
TALLEST, LOWEST = 120, 22                   # pixels of the largest and smallest map
WIDEST, NARROWER, MANY = 74, 44, 16         # pixels of the most channels; where there are many columns
TWO_LINES = 40                              # pixels of height that hold two lines of text
SCALE = "height: resolution; width: channels; ×n: modules in a row"


def place(boxes: list[Box]) -> None:
    """Columns by the longest way from the image, rows by resolution; pixels for both."""
    taken = set()
    for box in boxes:
        box.column = 1 + max((source.column for source, _ in box.sources), default=-1)
        while (box.column, box.level) in taken:
            box.column += 1
        taken.add((box.column, box.level))
    for box in reversed([box for box in boxes if len(box.sources) == 1]):
        # What is needed late stands late, as the scores of an FCN.
        needed = min((other.column for other in boxes if any(source is box for source, _ in other.sources)),
                     default=box.column + 1)
        late = next(c for c in range(needed - 1, -1, -1) if c == box.column or (c, box.level) not in taken)
        taken ^= {(box.column, box.level)} ^ {(late, box.level)}
        box.column = late
    used = sorted({box.column for box in boxes})
    for box in boxes:
        box.column = used.index(box.column)
    most, widest = max(box.shape[1] for box in boxes), WIDEST if len(used) <= MANY else NARROWER
    largest = max(max(box.shape[2:]) for box in boxes if len(box.shape) == 4)
    for box in boxes:
        side = box.shape[2] if len(box.shape) == 4 else 1
        box.height = max(LOWEST, TALLEST * (side / largest) ** 0.7)
        box.width = max(text_width(max(labels(box), key=len), 10) + 6, widest * (box.shape[1] / most) ** 0.7)
    lefts, x = {}, 0.0
    for column in range(max(box.column for box in boxes) + 1):
        lefts[column] = x
        x += GAP + max((box.width for box in boxes if box.column == column), default=0)
    y = 0.0
    for level in range(min(box.level for box in boxes), max(box.level for box in boxes) + 1):
        row = [box for box in boxes if box.level == level]
        tallest = max((box.height for box in row), default=0)
        y += LANE * max((lane for lane, _ in lanes(boxes, level).values()), default=0)
        for box in row:
            box.x, box.y = lefts[box.column], y + (tallest - box.height) / 2
        y += tallest + 34


def lanes(boxes: list[Box], level: int) -> dict[tuple[Box, Box], tuple[int, str]]:
    """(from, to) -> (lane, kind) of the lines within a row that must pass above boxes; lane 1 is the lowest."""
    row = [box for box in boxes if box.level == level]
    spans = sorted(((source, box, kind) for box in row for source, kind in box.sources if source.level == level and any(
        source.column < other.column < box.column for other in row)), key=lambda s: s[1].column - s[0].column)
    given: dict[tuple[Box, Box], tuple[int, str]] = {}
    for source, box, kind in spans:
        under = [lane for (a, b), (lane, _) in given.items() if a.column < box.column and source.column < b.column]
        given[source, box] = (1 + max(under, default=0), kind)
    return given


def draw_levels(canvas: Canvas, units: list[Unit], inputs: tuple) -> None:
    """The whole drawing, with its legend, from the origin downwards and to the right."""
    boxes = make_boxes(units, inputs[0].shape)
    place(boxes)
    fill_boxes(boxes)
    foot = draw_buses(canvas, boxes, units, inputs)
    for level in sorted({box.level for box in boxes}):
        draw_skips_above(canvas, lanes(boxes, level))
    for box in boxes:
        for source, kind in box.sources:
            draw_edge(canvas, source, box, kind, boxes)
    for box in boxes:
        draw_box(canvas, box)
    for level in sorted({box.level for box in boxes}):
        draw_sizes(canvas, [box for box in boxes if box.level == level])
    draw_legend(canvas, boxes, foot + 34, SCALE)


def draw_box(canvas: Canvas, box: Box) -> None:
    parts = ", ".join(f"{type(unit.module).__name__} ({unit.path})" for unit in box.units)
    canvas.box(box.x, box.y, box.width, box.height, box.fills, tip=f"{parts}: {' x '.join(map(str, box.shape[1:]))}")
    centre, written = box.x + box.width / 2, labels(box)
    canvas.text(centre, box.middle + (3.5 if len(written) == 1 else -1), written[0], 10, bold=True)
    for below in written[1:]:
        canvas.text(centre, box.middle + 11, below, 9, colour=FAINT)


def labels(box: Box) -> list[str]:
    """Channels, and how many modules with parameters are in a row: on two lines where the box is tall enough."""
    channels = str(box.shape[1])
    weighty = len(box.weighty)
    if weighty < 2 or is_port(box):
        return [channels]
    return [channels, f"×{weighty}"] if box.height >= TWO_LINES else [f"{channels} ×{weighty}"]


def draw_sizes(canvas: Canvas, row: list[Box]) -> None:
    """H x W: left of the row, and once more under the first box where it changes."""
    last = None
    for box in sorted(row, key=lambda box: box.column):
        if box.shape[2:] != last and len(box.shape) == 4:
            words = f"{box.shape[2]}×{box.shape[3]}"
            if last is None:
                canvas.text(-10, box.middle + 3.5, words, 10, anchor="end", colour=FAINT)
            else:
                canvas.text(box.x + box.width / 2, box.bottom + 12, words, 9, colour=FAINT, backed=True)
        last = box.shape[2:]


def draw_skips_above(canvas: Canvas, row: dict[tuple[Box, Box], tuple[int, str]]) -> None:
    """Lines of one row that pass above boxes; a run of one kind says it once, at the top."""
    top = max((lane for lane, _ in row.values()), default=0)
    kinds = {kind for _, kind in row.values()}
    for (source, box), (lane, kind) in row.items():
        above = min(other.y for pair in row for other in pair) - 4 - LANE * lane
        start, end = source.x + source.width * 0.75, box.x + box.width * 0.3
        canvas.line([(start, source.y), (start, above), (end, above), (end, box.y)], EDGES.get(kind, INK),
                    dashed=kind == "none")
        if lane == top or len(kinds) > 1:
            canvas.text((start + end) / 2, above + 3, kind, 9, colour=EDGES.get(kind, INK), backed=True)


def draw_edge(canvas: Canvas, source: Box, box: Box, kind: str, boxes: list[Box]) -> None:
    colour, dashed = EDGES.get(kind, INK), kind == "none"
    if source.level == box.level:
        if (source, box) in lanes(boxes, box.level):
            return
        y = source.middle if not kind else max(source.y, box.y) + min(source.height, box.height) * 0.25
        canvas.line([(source.right, y), (box.x, y)], colour, dashed=dashed)
        if kind and box.x - source.right > text_width(kind, 10) + 20:
            canvas.text((source.right + box.x) / 2, y + 3, kind, 10, colour=colour, backed=True)
    elif source.level < box.level and (kind or box.level - source.level > 1):
        bend = (box.x - source.right) / 2
        canvas.line([(source.right, source.middle), (source.right + bend, source.middle), (box.x - bend, box.middle),
                     (box.x, box.middle)], colour, dashed=dashed, curved=True)
        if kind:
            canvas.text((source.right + box.x) / 2, (source.middle + box.middle) / 2, kind, 10, colour=colour,
                        backed=True)
    elif source.level < box.level:
        x = box.x + min(8, box.width / 2)
        canvas.line([(source.right, source.bottom - 8), (x, source.bottom - 8), (x, box.y)], colour)
    else:
        x = box.x + min(4, 0.3 * box.width) if kind else box.right - min(8, 0.25 * box.width)
        y = source.middle if kind else source.y + 8
        canvas.line([(source.right, y), (x, y), (x, box.bottom)], colour, dashed=dashed)
        if kind:
            canvas.text(x - 5, box.bottom + 26, kind, 10, anchor="end", colour=colour)


def draw_buses(canvas: Canvas, boxes: list[Box], units: list[Unit], inputs: tuple) -> float:
    """Time and context along the bottom, with a line up to every box that reads them; returns the lowest y."""
    foot = max(box.bottom for box in boxes)
    for (name, colour, readers), shift in zip(conditions(boxes, units, inputs), (0.3, 0.5)):
        if not readers:
            continue
        foot += 24
        ends = [box.x + box.width * shift for box in readers]
        canvas.line([(0, foot), (max(ends), foot)], colour, arrow=False)
        for box, x in zip(readers, ends):
            canvas.line([(x, foot), (x, box.bottom)], colour, width=0.8)
        draw_pill(canvas, 0, foot, name, colour)
    return foot
