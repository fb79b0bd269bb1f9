"""From the values in people's masks to class ids 0..K-1 and their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.datasets.parts.arguments import read_lines
from harness.errors import InputError

MOST_CLASSES = 256                                  # masks are kept as uint8
MOST_UNNAMED = 64                                   # more grey levels than this are a picture, not classes


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The names in ``path``, one per line in order of class id; None where there is no such file."""
    if not path.is_file():
        return None
    names = [line.strip() for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    if not 2 <= len(names) <= MOST_CLASSES:
        raise InputError(f"{path} names {len(names)} classes; 2 to {MOST_CLASSES} are possible")
    if not all(names) or len(set(names)) < len(names):
        raise InputError(f"{path} has an empty or a repeated name; every class needs one of its own")
    return tuple(names)


def to_class_ids(paths: Sequence[Path], masks: Sequence[np.ndarray],
                 names: tuple[str, ...] | None) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Masks (H, W) of whole numbers as (H, W) uint8 class ids, and the class names.

    Two-valued masks of 0 and 255 become 0 and 1, and keep "0" and "255" as names if ``names`` is None.
    All other values are class ids: 0..K-1 with ``names`` of length K; without, K is the largest value
    plus one and every id below must occur somewhere.

    Raises
    ------
    InputError
        Naming the mask and the value: outside the range of the named classes; or, without names, above
        63 (a picture, or the artefacts of JPEG), or leaving a gap; or a single class in all masks.
    """
    values = [np.unique(mask) for mask in masks]
    every = np.unique(np.concatenate(values))
    if set(every) <= {0, 255} and 255 in every and (names is None or len(names) == 2):
        return [(mask == 255).astype(np.uint8) for mask in masks], names or ("0", "255")

    def holder(value: int) -> Path:
        return next(path for path, present in zip(paths, values, strict=True) if value in present)

    most = len(names) if names else MOST_UNNAMED
    bad = [value for value in every if not 0 <= value < most]
    if bad and names:
        raise InputError(f"mask {holder(bad[0])} holds the value {bad[0]}, outside the range 0..{most - 1} of the "
                         f"{most} classes in classes.txt")
    if bad == [255]:
        other = next(value for value in every if value not in (0, 255))
        raise InputError(f"mask {holder(255)} holds the value 255 and {holder(other)} the value {other}; "
                         f"masks hold either 0 and 255, or class ids from 0 to {most - 1}")
    if bad:
        raise InputError(f"mask {holder(bad[0])} holds the value {bad[0]}; masks hold 0 and 255, or class ids "
                         f"from 0 to {most - 1} (is it a picture, or a JPEG? more classes need a classes.txt)")
    if names is None:
        names = tuple(str(value) for value in range(every.max() + 1))
        if len(every) < 2:
            raise InputError(f"every mask in {paths[0].parent} holds the value {every[0]} only; "
                             "there is nothing to tell apart")
        gaps = sorted(set(range(len(names))) - set(every.tolist()))
        if gaps:
            largest = every.max()
            raise InputError(f"mask {holder(largest)} holds the value {largest}, but no mask holds {gaps[0]}; "
                             "if some classes do not occur here, name all of them in classes.txt")
    return [mask.astype(np.uint8) for mask in masks], names
