"""Which file of an image and its mask is turned as its orientation tag says, so that the two lie alike.

Labelling tools show a picture upright and save masks without a tag; others work on the pixels as they lie in the file.
Nothing in the files says which, but sometimes their shapes do.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import NamedTuple

from harness.errors import InputError


class Side(NamedTuple):
    """An image or a mask of a pair."""

    path: Path
    shape: tuple[int, int]                          # (H, W) as the pixels lie in the file
    orientation: int                                # its tag, 1 to 8; 1: upright as it lies

    def shape_if(self, turned: bool) -> tuple[int, int]:
        return self.shape[::-1] if turned and self.orientation >= 5 else self.shape


class Turns(NamedTuple):
    """Which of a pair is turned."""

    image: bool
    mask: bool


def pair_turns(image: Side, mask: Side) -> Turns:
    """Both are turned where both have the same tag, otherwise as only one way fits.

    Raises InputError, saying what to do, where no way fits or several do.
    """
    if image.orientation == mask.orientation and image.shape == mask.shape:
        return Turns(image.orientation != 1, mask.orientation != 1)
    ways = [Turns(*way) for way in product(*((False, True) if side.orientation != 1 else (False,)
                                             for side in (image, mask)))]
    fitting = [way for way in ways if image.shape_if(way.image) == mask.shape_if(way.mask)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise InputError(f"{mask.path} is {_size(mask)} pixels but {image.path} is {_size(image)}")
    tagged, other = (image, mask) if image.orientation != 1 else (mask, image)
    raise InputError(f"{tagged.path} has the orientation tag {tagged.orientation} and fits {other.path} turned and as "
                     "it lies: save it upright where the mask was drawn on the upright picture, else remove the tag")


def _size(side: Side) -> str:
    tag = "" if side.orientation == 1 else f" (orientation tag {side.orientation})"
    return f"{side.shape[1]}x{side.shape[0]}{tag}"
