"""From the values in people's masks to class ids 0..K-1 and their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.parts.arguments import read_lines
from harness.datasets.parts.splits import nfc
from harness.errors import InputError

MOST_CLASSES = 256                                  # masks are kept as uint8
MOST_UNNAMED = 64                                   # more grey levels than this are a picture, not classes
IGNORE = 255                                        # beside class ids: pixels that do not count


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The names in ``path``, one per line in order of class id; None where there is no such file."""
    if not path.is_file():
        return None
    names = [nfc(line.strip()) for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    if not 2 <= len(names) <= MOST_CLASSES:
        raise InputError(f"{path} names {len(names)} classes; 2 to {MOST_CLASSES} are possible")
    if not all(names) or len(set(names)) < len(names):
        raise InputError(f"{path} has an empty or a repeated name; every class needs one of its own")
    return tuple(names)


@dataclass(frozen=True)
class Classes:
    """What the values of a data set's masks mean."""

    names: tuple[str, ...]                          # by class id
    two_valued: bool                                # values are 0 and 255, which mean class 0 and 1
    ignore: int | None                              # the value of pixels that do not count


def is_two_valued(values: Sequence[int]) -> bool:
    """Whether a mask of these values can be one of 0 and 255."""
    return set(values) <= {0, IGNORE}


def read_classes(paths: Sequence[Path], values: Sequence[Sequence[int]], names: tuple[str, ...] | None) -> Classes:
    """What the masks ``paths`` hold, from the ``values`` that occur in each.

    Masks of 0 and 255 only are two classes, named "0" and "255" if ``names`` is None (with more than two names, 255
    is not a class). Otherwise values are class ids: 0..K-1 with ``names`` of length K; without, K is the largest value
    plus one and every id below must occur somewhere. Beside ids, 255 means "does not count", as in PASCAL VOC,
    Cityscapes and ADE20K, unless 256 classes are named.

    Raises
    ------
    InputError
        Naming the mask and the value: outside the range of the named classes; or, without names, above
        63 (a picture, or the artefacts of JPEG), or leaving a gap; or a single class in all masks.
    """
    every = sorted(set().union(*values))
    if every == [0, IGNORE] and (names is None or len(names) == 2):
        return Classes(names or ("0", "255"), True, None)
    if every == [IGNORE]:
        raise InputError(f"every mask in {paths[0].parent} holds the value 255 only; there is nothing to tell apart")

    def holder(value: int) -> Path:
        return next(path for path, present in zip(paths, values, strict=True) if value in present)

    ignore = IGNORE if IGNORE in every and (names is None or len(names) <= IGNORE) else None
    ids = [value for value in every if value != ignore]
    most = len(names) if names else MOST_UNNAMED
    bad = [value for value in ids if not 0 <= value < most]
    if bad and names:
        raise InputError(f"mask {holder(bad[0])} holds the value {bad[0]}, outside the range 0..{most - 1} of the "
                         f"{most} classes in classes.txt (255, beside class ids, does not count)")
    if bad:
        raise InputError(f"mask {holder(bad[0])} holds the value {bad[0]}; masks hold 0 and 255, or class ids "
                         f"from 0 to {most - 1} (is it a picture, or a JPEG? more classes need a classes.txt)")
    if len(ids) < 2:
        only = f"{ids[0]}{' (and 255, which does not count)' * (ignore is not None)}" if ids else "255"
        raise InputError(f"every mask in {paths[0].parent} holds the value {only} only; "
                         "there is nothing to tell apart")
    if names is None:
        names = tuple(str(value) for value in range(ids[-1] + 1))
        gaps = sorted(set(range(len(names))) - set(ids))
        if gaps:
            raise InputError(f"mask {holder(ids[-1])} holds the value {ids[-1]}, but no mask holds {gaps[0]}; "
                             "if some classes do not occur here, name all of them in classes.txt")
    return Classes(names, False, ignore)
