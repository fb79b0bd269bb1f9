"""Comparisons -> one picture in which people see the difference. No torch import.

What a picture shows is its role. Outputs of the same cases stand side by side behind input and truth, a case a row,
with a legend of classes where they are masks. Outputs that stand for themselves (samples) lie one under the other,
below a reference of real data, so that their columns meet. Pixels are enlarged by whole factors
without smoothing. The first finished seed of each arm is shown.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from harness.analysis.comparison import Arm, Group, Run
from harness.errors import one_line
from harness.formatting import format_value

TILE = {"samples": 60, "cases": 116}               # least side of a shown tile, pixels
MOST = {"samples": 16, "cases": 8}                 # arms of one sheet
ROWS = {"samples": 2, "cases": 6}                  # rows of tiles of one arm; test cases
GAP, MARGIN, LABELS = 10, 16, 168                  # pixels
LIGHT, DARK = ("#1f2329", "#ffffff"), ("#e8eaed", "#16181c")  # ink, paper


@dataclass(frozen=True)
class Sheet:
    """A written contact sheet. ``light`` and ``dark`` are PNG bytes for a page; ``path`` holds ``light``."""

    caption: str
    path: Path
    light: bytes
    dark: bytes


@dataclass(frozen=True)
class Tiles:
    """A run's picture cut up: rows of equal images, and the label of whose it is."""

    label: str
    detail: str
    rows: list[list[Image.Image]]


def write_sheet(folder: Path, group: Group) -> Sheet | None:
    """Draw this comparison's sheet into ``folder``; None where its records have no pictures.

    A picture that is missing, broken or not of the recorded tiling is named in ``group.problems``, and so
    is an arm whose test cases are not those of the others.
    """
    roles = {picture.role for run in group.runs for picture in run.record.pictures.values()}
    if "output" not in roles:
        return None
    drawn = _cases(group) if "truth" in roles else _samples(group)
    if drawn is None:
        return None
    draw, caption = drawn
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{group.slug}-sheet.png"
    light, dark = (_png(draw(*theme)) for theme in (LIGHT, DARK))
    path.write_bytes(light)
    return Sheet(caption, path, light, dark)


def _samples(group: Group):
    """A function (ink, paper) -> sheet of samples, and its caption."""
    arms = _with_output(group)
    readable = (tiles for arm, run in arms if (tiles := _cut(group, run, "output", arm.label)))
    shown = list(islice(readable, MOST["samples"]))  # the pictures of other arms are not opened
    if not shown:
        return None
    reals = (_cut(group, run, "reference", "real images") for _, run in arms if name_of(run, "reference"))
    real = next((tiles for tiles in reals if tiles), None)
    blocks = ([real] if real else []) + shown
    columns = min(12, max(len(tiles.rows[0]) for tiles in blocks))
    heads = arms[0][1].record.pictures[name_of(arms[0][1], "output")].heads

    def draw(ink: str, paper: str) -> Image.Image:
        tile = _tile_size(blocks[-1].rows[0][0], TILE["samples"])
        heights = [min(ROWS["samples"], len(block.rows)) * tile[1] for block in blocks]
        top = MARGIN + (22 if heads else 0)
        sheet = Image.new("RGB", (MARGIN + LABELS + columns * tile[0] + MARGIN,
                                  top + sum(heights) + GAP * (len(blocks) - 1) + MARGIN), paper)
        pen = ImageDraw.Draw(sheet)
        for i, name in enumerate(heads[:columns]):
            at = (MARGIN + LABELS + (i + .5) * tile[0], top - 6)
            pen.text(at, _fit(name, tile[0] - 4, 13), ink, _font(13), anchor="ms")
        y = top
        for block, height in zip(blocks, heights, strict=True):
            pen.text((MARGIN, y + 2), _fit(block.label, LABELS - 8, 15), ink, _font(15), anchor="la")
            pen.text((MARGIN, y + 24), _fit(block.detail, LABELS - 8, 12), ink, _font(12), anchor="la")
            for row, images in enumerate(block.rows[:ROWS["samples"]]):
                for column, image in enumerate(images[:columns]):
                    sheet.paste(_enlarge(image, tile), (MARGIN + LABELS + column * tile[0], y + row * tile[1]))
            y += height + GAP
        return sheet

    seeds = {run.record.spec.seeds.sampling for _, run in arms}
    noise = ", from the same starting noise" if len(seeds) == 1 else ""
    caption = (f"Samples of each arm's first finished seed{noise}{'; a column is a class' if heads else ''}. "
               f"Best arm first.{_left_out(len(arms), 'samples')}")
    return draw, caption


def _cases(group: Group):
    """A function (ink, paper) -> sheet of test cases, and its caption."""
    images = truth = None
    shown: list[Tiles] = []
    arms = _with_output(group)
    for arm, run in arms:
        if len(shown) == MOST["cases"]:
            break                                  # the pictures of other arms are not opened
        inputs, its_truth, output = (_cut(group, run, role, arm.label) for role in ("input", "truth", "output"))
        if inputs is None or its_truth is None or output is None:
            continue
        if truth is None:
            images, truth = inputs, its_truth
        if [tile.tobytes() for tile in its_truth.rows[0]] != [tile.tobytes() for tile in truth.rows[0]]:
            group.problems.append(f"{arm.label}: {run.folder.name}/{name_of(run, 'truth')} shows other test cases "
                                  "than the rest")
            continue
        shown.append(output)
    if not shown:
        return None
    columns = [Tiles("image", "", images.rows), Tiles("truth", "", truth.rows), *shown]
    cases = min(ROWS["cases"], *(len(column.rows[0]) for column in columns))
    legend = _legend(group, truth, columns[1:], cases)

    def draw(ink: str, paper: str) -> Image.Image:
        tile = _tile_size(truth.rows[0][0], TILE["cases"])
        top, step = MARGIN + 40, (tile[0] + GAP, tile[1] + GAP)
        width = 2 * MARGIN + len(columns) * step[0] - GAP
        sheet = Image.new("RGB", (width, top + cases * step[1] - GAP + MARGIN + (28 if legend else 0)), paper)
        pen = ImageDraw.Draw(sheet)
        for i, column in enumerate(columns):
            x = MARGIN + i * step[0]
            pen.text((x, top - 24), _fit(column.label, tile[0], 14), ink, _font(14), anchor="ls")
            pen.text((x, top - 8), _fit(column.detail, tile[0], 11), ink, _font(11), anchor="ls")
            for row in range(cases):
                sheet.paste(_enlarge(column.rows[0][row], tile), (x, top + row * step[1]))
        x, y = MARGIN, top + cases * step[1] + 8
        for name, colour in legend:
            pen.rectangle((x, y, x + 14, y + 14), fill=colour, outline=ink)
            pen.text((x + 21, y + 7), name, ink, _font(13), anchor="lm")
            x += 21 + int(_font(13).getlength(name)) + 20
        return sheet

    caption = ("Test cases: image, truth, and the prediction of each arm's first finished seed, best arm first."
               f"{_left_out(len(arms), 'cases')}")
    return draw, caption


def name_of(run: Run, role: str) -> str:
    """Find the file of the run's first picture of a role; "" where it has none."""
    return next((name for name, picture in run.record.pictures.items() if picture.role == role), "")


def _with_output(group: Group) -> list[tuple[Arm, Run]]:
    """The first finished seed of each arm that recorded an output, in the group's order."""
    found = ((arm, next((run for run in arm.finished if name_of(run, "output")), None)) for arm in group.arms)
    return [(arm, run) for arm, run in found if run is not None]


def _cut(group: Group, run: Run, role: str, label: str) -> Tiles | None:
    name = name_of(run, role)
    picture, path = run.record.pictures.get(name), run.picture(name)
    try:
        if picture is None:
            raise ValueError("not in the record")
        with Image.open(path) as opened:
            whole = opened.copy() if opened.mode in ("P", "L", "RGB") else opened.convert("RGB")
        width, height = whole.width // picture.columns, whole.height // picture.rows
        if (width * picture.columns, height * picture.rows) != whole.size:
            raise ValueError(f"{whole.width}x{whole.height} pixels are not {picture.rows}x{picture.columns} tiles")
        if not (width and height):
            raise ValueError("it has no pixels")
    except Exception as error:                     # Pillow raises many kinds for a damaged file
        group.problems.append(f"unreadable picture {run.folder.name}/{name or f'of the {role}'}: {one_line(error)}")
        return None
    rows = [[whole.crop((x, y, x + width, y + height)) for x in range(0, whole.width, width)]
            for y in range(0, whole.height, height)]
    value = group.headline and group.headline.of(run)
    detail = f"{group.headline.label} {format_value(value.value)}" if value and role != "reference" else ""
    return Tiles(label, detail, rows)


def _legend(group: Group, truth: Tiles, columns: Sequence[Tiles], cases: int) -> list[tuple[str, tuple[int, ...]]]:
    """(class name, colour) of the classes that are seen; none where masks carry no palette."""
    if truth.rows[0][0].mode != "P":
        return []
    palette = truth.rows[0][0].getpalette()
    seen = {i for column in columns for tile in column.rows[0][:cases] if tile.mode == "P"
            for _, i in tile.getcolors() or ()}
    names = next((run.record.data["classes"] for run in group.runs if run.record.data.get("classes")), [])
    ignore = next((run.record.data["ignore"] for run in group.runs if "ignore" in run.record.data), None)

    def name(i: int) -> str:
        return " ".join(str(names[i]).split()) if i < len(names) else "does not count" if i == ignore else f"class {i}"

    return [(name(i), tuple(palette[3 * i:3 * i + 3]))
            for i in sorted(i for i in seen if isinstance(i, int) and 3 * i + 2 < len(palette))]


def _tile_size(image: Image.Image, least: int) -> tuple[int, int]:
    """Shown size: the smallest whole multiple whose sides reach ``least``; at most about twice that."""
    factor = -(-least // min(image.size))
    shrink = min(1.0, 2 * least / max(image.width * factor, image.height * factor))
    return max(1, round(image.width * factor * shrink)), max(1, round(image.height * factor * shrink))


def _enlarge(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    smooth = image.mode != "P" and image.width > size[0]  # photographs may be made smaller smoothly, masks never
    return image.convert("RGB").resize(size, Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)


def _left_out(arms: int, kind: str) -> str:
    return f" The best {MOST[kind]} of {arms} arms." if arms > MOST[kind] else ""


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _fit(text: str, width: int, size: int) -> str:
    """The text, its end replaced by an ellipsis where it is wider than ``width`` pixels."""
    text = " ".join(text.split())
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
