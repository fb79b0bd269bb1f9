"""What all drawings are made of: units put together to boxes, their colours, and the words below them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.inspection.svg import FAINT, PAPER, Canvas, text_width
from harness.inspection.trace import CONTEXT, TIME, Unit, X
from variants.parts.skips import SKIPS

PLAIN_FILL, ATTENTION_FILL, CONTEXT_FILL, PORT_FILL = "#dbe7f5", "#fbe3b3", "#e6d3f2", "#eeeeee"
TIME_COLOUR, CONTEXT_COLOUR = "#c2410c", "#7e22ce"
EDGES = {"concat": "#2563a8", "gate": "#b45309", "add": "#15803d", "none": "#9aa0a6", "": "#57606a"}
MEANINGS = {"concat": "concatenated", "gate": "gated, then concatenated", "add": "added", "none": "left, but not used"}
KIND_OF = {skip: kind for kind, skip in SKIPS.items()}


@dataclass(eq=False)
class Box:
    """Units in a row that share a resolution, and where they are drawn."""

    units: list[Unit]
    level: int = 0                                 # halvings of the image
    lead: int = 0                                  # units that only bring the map to the box's resolution
    column: int = 0
    fills: str = PLAIN_FILL
    sources: list[tuple[Box, str]] = field(default_factory=list)   # (from, kind); the first is the main one
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.units[-1].shape

    @property
    def weighty(self) -> list[Unit]:
        """Units that convolve or multiply: not skips, norms and activations, nor what brought the map here."""
        return [unit for unit in self.units[self.lead:] if not unit.skip
                and any(p.dim() > 1 for p in unit.module.parameters())]

    @property
    def only_resamples(self) -> bool:
        """Is it a resampled map, perhaps normalised, and nothing else yet?"""
        return (len(self.sources) == 1 and self.sources[0][0].level != self.level
                and set(self.weighty) <= {self.units[0]})

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


def join_kind(unit: Unit) -> str:
    """How a unit joins what it reads: concat, gate, add, or "" where that cannot be told."""
    known = (kind for cls, kind in KIND_OF.items() if isinstance(unit.module, cls))
    return next(known, unit.joined) if unit.skip else unit.joined


def make_boxes(units: list[Unit], image: tuple[int, ...], together: bool = True) -> list[Box]:
    """The boxes of all units that the image reaches, the image's own first.

    A skip shares the box of what follows; ``together``, so do resampling and units of equal channels.
    """
    entrance = Unit(X, units[-1].module, "input", tuple(image), sees=True)
    seen = {X: entrance, **{unit.index: unit for unit in units if unit.sees}}
    feeds = {unit.index: sorted(s for s in unit.sources if s in seen) for unit in seen.values()}
    dropped = {unit.index: sorted(s for s in unit.given if s in seen and s not in unit.sources) if unit.skip
               else [] for unit in seen.values()}
    takers: dict[int, list[int]] = {index: [] for index in seen}
    for index in seen:
        for source in feeds[index] + dropped[index]:
            takers[source].append(index)
    levels, homes, boxes = {X: 0}, {X: Box([entrance])}, []
    for index, unit in list(seen.items())[1:]:
        *others, main = feeds[index]
        before = seen[main]
        steps = halvings(before.shape, unit.shape)
        levels[index] = 0 if unit.shape[2:] == image[2:] else max(0, steps) if main == X else levels[main] + steps
        follows = main != X and takers[main] == [index] and levels[main] == levels[index]
        resampled = together and follows and homes[main].only_resamples
        alike = before.skip or together and before.shape[1] == unit.shape[1]
        if resampled or follows and alike and not others and not dropped[index]:
            box = homes[main]
            box.lead = len(box.units) if resampled else box.lead
            box.units.append(unit)
        else:
            box = Box([unit], levels[index], sources=[(homes[main], "")])
            boxes.append(box)
        box.sources += [(homes[s], join_kind(unit)) for s in reversed(others)]
        box.sources += [(homes[s], "none") for s in dropped[index]]
        homes[index] = box
    return [homes[X], *boxes]


def halvings(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """How often a map's side was halved; negative where it was doubled. What unpadded convolutions trim is none."""
    if len(before) != 4 or len(after) != 4:
        return 0
    times = math.log2(before[2] / after[2])
    return int(math.copysign(math.floor(abs(times) + 0.25), times))


def is_port(box: Box) -> bool:
    """The image, or the network's output."""
    return any(unit.path in ("input", "output") for unit in box.units)


def fill_boxes(boxes: Iterable[Box]) -> None:
    for box in boxes:
        read = {source for unit in box.units for source in unit.sources}
        if is_port(box):
            box.fills = PORT_FILL
        elif any(unit.attends for unit in box.units):
            box.fills = CONTEXT_FILL if CONTEXT in read else ATTENTION_FILL


def conditions(boxes: list[Box], units: list[Unit], inputs: tuple) -> list[tuple[str, str, list[Box]]]:
    """(name, colour, boxes that read it) of the embedded time (with what else is embedded), and of the context."""
    prepared = [unit for unit in units if not unit.sees and unit.sources]
    raw = {source for unit in prepared for source in unit.sources} | {TIME}
    said = [name for name, source in (("t", TIME), ("context", CONTEXT)) if source in raw]
    embedded = f"{' + '.join(said)} → {prepared[0].shape[-1]}" if prepared else "t"
    told = {TIME, *(unit.index for unit in prepared)}
    shape = inputs[2].shape[1:] if len(inputs) > 2 and inputs[2] is not None else ()
    return [(name, colour, [box for box in boxes if any(reads & unit.sources for unit in box.units)])
            for name, colour, reads in ((embedded, TIME_COLOUR, told),
                                        (f"context {'×'.join(map(str, shape))}".strip(), CONTEXT_COLOUR, {CONTEXT}))]


def draw_pill(canvas: Canvas, right: float, y: float, name: str, colour: str) -> None:
    width = text_width(name, 10) + 12
    canvas.box(right - width, y - 9, width, 18, PAPER, colour, round_by=9)
    canvas.text(right - width / 2, y + 3.5, name, 10, colour=colour)


def draw_legend(canvas: Canvas, boxes: list[Box], y: float, scale: str = "") -> None:
    x = 0.0
    fills = {box.fills for box in boxes}
    for fill, words in ((PORT_FILL, "image"), (PLAIN_FILL, "block"), (ATTENTION_FILL, "with self-attention"),
                        (CONTEXT_FILL, "with attention to the context")):
        if fill in fills:
            canvas.box(x, y - 9, 16, 11, fill)
            canvas.text(x + 22, y, words, 10, anchor="start", colour=FAINT)
            x += 40 + text_width(words, 10)
    lines = [(EDGES[kind], kind == "none", MEANINGS[kind]) for kind in _kinds(boxes)]
    lines += [(colour, False, words) for colour, words in ((TIME_COLOUR, "time embedding"), (CONTEXT_COLOUR, "context"))
              if colour in canvas.colours]
    for colour, dashed, words in lines:
        canvas.line([(x, y - 4), (x + 22, y - 4)], colour, dashed=dashed)
        canvas.text(x + 28, y, words, 10, anchor="start", colour=FAINT)
        x += 46 + text_width(words, 10)
    canvas.text(x, y, scale, 10, anchor="start", colour=FAINT)


def _kinds(boxes: Iterable[Box]) -> list[str]:
    used = {kind for box in boxes for _, kind in box.sources}
    return [kind for kind in MEANINGS if kind in used]
