"""Images as people see them in pictures: 8 bit, with the contrast stretched where they use little of their range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.dataset import to_uint8

ENDS = (0.5, 99.5)      # percentiles that become black and white
USED = 0.5              # share of the range from which on nothing is stretched

Range = tuple[float, float]


def display_range(images: Sequence[np.ndarray]) -> Range | None:
    """What becomes black and white, of values 0..1; None where ``images`` use at least half of their range.

    12-bit data in 16-bit files use a sixteenth, and would be black otherwise.
    """
    low, high = np.percentile(np.concatenate([to_uint_16(image).ravel() for image in images]), ENDS) / 65535
    return (float(low), float(high)) if 0 < high - low < USED else None


def displayed(image: np.ndarray, span: Range | None) -> np.ndarray:
    """``image``, uint8 or float32 0..1, as uint8 with ``span`` stretched from black to white."""
    if span is None:
        return to_uint8(image)
    values = image / 255 if image.dtype == np.uint8 else image
    return to_uint8(((values - span[0]) / (span[1] - span[0])).astype(np.float32))


def range_words(span: Range | None) -> str:
    """For a caption: " (contrast stretched: black 0.009, white 0.0625 of the full range)"; "" where none was."""
    return "" if span is None else f" (contrast stretched: black {span[0]:.3g}, white {span[1]:.3g} of the full range)"


def to_uint_16(image: np.ndarray) -> np.ndarray:
    return image.astype(np.uint16) * 257 if image.dtype == np.uint8 else np.rint(image * 65535).astype(np.uint16)


def row_of_tiles(arrays: Sequence[np.ndarray], size: Sequence[int], beyond: int) -> np.ndarray:
    """The middles of ``arrays`` (..., H, W) side by side as uint8, each of ``size``; around smaller ones ``beyond``."""
    tiles = []
    for array in arrays:
        top, left = (max(0, side - full) // 2 for side, full in zip(array.shape[-2:], size, strict=True))
        middle = array[..., top:top + size[0], left:left + size[1]].astype(np.uint8)
        tile = np.full((*array.shape[:-2], *size), beyond, np.uint8)
        top, left = ((full - side) // 2 for side, full in zip(middle.shape[-2:], size, strict=True))
        tile[..., top:top + middle.shape[-2], left:left + middle.shape[-1]] = middle
        tiles.append(tile)
    return np.concatenate(tiles, axis=-1)
