"""Your own images: DIR with images/ and masks/ (to segment), or a folder of images (to generate).

To segment::

    DIR/images/NAME.png     any of parts/image_files.SUFFIXES; 8- or 16-bit, or floats in 0..1; grey or colour
    DIR/masks/NAME.png      0 and 255, class ids 0..K-1, or a palette image (index = class id)
    DIR/classes.txt         optional: one class name per line, in order of class id
    DIR/split.csv           optional: columns stem,split; or stem,group; or stem,split,group

or images/ and masks/ in each of DIR/train, DIR/val and DIR/test (also training, valid, validation, testing). Beside
class ids, 255 in a mask means "does not count": such pixels are left out of the loss and of every metric. Class 0 is
the background, whatever its name. Masks from lossy files are refused unless all of them hold 0 and 255 only. An image
with an orientation tag is turned where only then it fits its mask, and refused where it fits both ways
(parts/orientation.py).

``split`` is train, validation or test. ``group`` says what belongs together (a patient, a slide, a film) and is never
parted; with groups only, whole groups are dealt into the splits. Without split.csv the naturally sorted stems ("img2"
before "img10") are cut into three blocks: the first 2/3 to train, then 1/6 to validate and 1/6 to test. Blocks, not a
draw: neighbouring slices of a stack, or frames of a film, are near duplicates, and a random split would put one into
training and its twin into the test. Classes are named by mask value ("0", "255") unless classes.txt names them; with
two names, masks of 0 and 255 keep their meaning.

To generate::

    DIR/NAME.png            without labels, or
    DIR/CLASS/NAME.png      one folder per class, ids in order of the folder names

or either of these in each of DIR/train, DIR/val and DIR/test. Images are turned as their orientation tag says, cut to
the centred square and resized (bicubic, antialiased) to ``image_size``. Without split folders or split.csv (whose
stems are then paths in DIR, as in "cat/1") they are split 60/10/30 % at random by ``seed``, every class in the same
proportions.

Everywhere: 16-bit values are divided by 65535 and kept as float32 0..1 (8-bit ones too, where a set mixes both); where
grey and colour are mixed, all become colour; alpha is dropped. Names are in Unicode NFC. Files that are not used are
counted (``Dataset.passed_over``), hidden ones are not. A TIFF of several pages is an error: save each page as a file,
so that every case has a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from harness.dataset import SPLITS, Dataset, Split
from harness.datasets.parts.arguments import require_at_least
from harness.datasets.parts.decoding import Decode, Decoded, Fact, decode_in_memory
from harness.datasets.parts.image_files import lossy_words, read_image, read_mask
from harness.datasets.parts.layouts import CLASSES_FILE, Pairs, every_file, labelled, pairs
from harness.datasets.parts.mask_classes import IGNORE, Classes, is_two_valued, read_class_names, read_classes
from harness.datasets.parts.orientation import Side, Turns, pair_turns
from harness.datasets.parts.splits import nfc
from harness.errors import InputError

FIELDS = ("images", "masks", "labels")


def load(needs: tuple[str, ...], *, root: str | None = None, download: bool = False, image_size: int | None = None,
         seed: int = 0, decode: Decode = decode_in_memory) -> Dataset:
    """The images under ``root``, laid out as this file's top says; the data set is named as the folder.

    With "masks" among ``needs`` these are read as well, and images keep their size. Otherwise images become squares
    of ``image_size`` (32 if None), with labels where there are class folders; ``seed`` splits them. ``download`` is
    not used. ``decode`` reads many files.

    Raises
    ------
    InputError
        One line naming the file: no such folder, another layout, an empty folder, too few images (with masks 3,
        without 10), an image without mask or the reverse, two files of one stem, unequal sizes, an orientation tag
        that leaves two ways, a link that leads nowhere, a file that cannot be read whole, a lossy mask, a mask value
        that is no class, a single class, a split.csv that does not fit, a group in two splits.
    """
    folder = _existing(root)
    if "masks" in needs:
        if image_size is not None:
            raise InputError("image_size is for generation; segmentation keeps every image's own size")
        return _with_masks(folder, decode)
    image_size = 32 if image_size is None else image_size
    require_at_least(4, image_size=image_size)
    return _squares(folder, image_size, seed, decode)


def sources(*, root: str | None = None, **options) -> list[Path]:
    """Every file that :func:`load` may read. Raises InputError where there is no such folder."""
    return list(every_file(_existing(root)))


def passed_over(needs: tuple[str, ...], *, root: str | None = None, seed: int = 0, **options) -> dict[str, int]:
    """How many files of which kind lie under ``root`` and :func:`load` does not use. Raises InputError as it does."""
    folder = _existing(root)
    return (pairs(folder) if "masks" in needs else labelled(folder, seed)).passed_over


def _existing(root: str | None) -> Path:
    if root is None:
        raise InputError("data set 'folder' needs a folder of images: --data DIR")
    folder = Path(root)
    if not folder.is_dir():
        raise InputError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}")
    return folder


def _with_masks(folder: Path, decode: Decode) -> Dataset:
    found = pairs(folder)
    class_names = read_class_names(folder / CLASSES_FILE)
    order = [i for part in found.parts.members for i in part]        # a split is a run of items
    image_files, mask_files = ([paths[i] for i in order] for paths in (found.images, found.masks))
    images = _alike([(path, False) for path in image_files], "images", partial(_image), decode)
    masks = decode(partial(_mask, two_valued=True), [(path, False) for path in mask_files], "masks")
    images, masks, upright = _laid_alike(image_files, mask_files, images, masks, order, decode)
    notes: list[MaskNote] = [fact.note for fact in _in_order(masks.facts, order)]
    values = [note.values for note in notes]
    classes = read_classes(found.masks, values, class_names)
    for path, note in zip(found.masks, notes, strict=True):
        if note.lossy is not None and not classes.two_valued:     # small ids are gone: such a mask may be empty now
            raise InputError(lossy_words(path, note.lossy))
    if not classes.two_valued and any(IGNORE in each and is_two_valued(each) for each in values):
        masks = decode(partial(_mask, two_valued=False), upright, "masks")           # its 255 was no class 1
    shapes = [fact.shape for fact in images.facts]
    return Dataset(nfc(folder.resolve().name), *_splits(found, images, masks), class_names=classes.names,
                   image_size=tuple(max(shape[axis] for shape in shapes) for axis in (1, 2)),
                   ignore=classes.ignore, ignored_pixels=_ignored(found, masks.facts, classes),
                   groups=found.parts.groups, passed_over=found.passed_over)


def _laid_alike(image_files: Sequence[Path], mask_files: Sequence[Path], images: Decoded, masks: Decoded,
                order: Sequence[int], decode: Decode) -> tuple[Decoded, Decoded, list[tuple[Path, bool]]]:
    """``images`` and ``masks``, both decoded as they lie in their files, with those turned that must be; and the
    items that the masks were decoded from.

    Raises InputError, for the first pair by name, as :func:`pair_turns` does.
    """
    turns: list[Turns] = [Turns(False, False)] * len(order)
    for i in np.argsort(order):
        image, mask = images.facts[i], masks.facts[i]
        turns[i] = pair_turns(Side(image_files[i], image.shape[-2:], image.note),
                              Side(mask_files[i], mask.shape, mask.note.orientation))
    image_items = [(path, turn.image) for path, turn in zip(image_files, turns, strict=True)]
    mask_items = [(path, turn.mask) for path, turn in zip(mask_files, turns, strict=True)]
    if any(turn.image for turn in turns):
        images = _alike(image_items, "images", partial(_image), decode)
    if any(turn.mask for turn in turns):
        masks = decode(partial(_mask, two_valued=True), mask_items, "masks")
    return images, masks, mask_items


def _splits(found: Pairs, images: Decoded, masks: Decoded) -> list[Split]:
    splits, first = [], 0
    for part in found.parts.members:
        last = first + len(part)
        splits.append(Split(images.part(first, last), [found.names[i] for i in part], masks.part(first, last)))
        first = last
    return splits


def _ignored(found: Pairs, facts: Sequence[Fact], classes: Classes) -> dict[str, int] | None:
    if classes.ignore is None:
        return None
    counts, first = {}, 0
    for split, part in zip(SPLITS, found.parts.members, strict=True):
        counts[split] = sum(fact.note.ignored for fact in facts[first:first + len(part)])
        first += len(part)
    return counts


def _in_order(facts: Sequence[Fact], order: Sequence[int]) -> list[Fact]:
    """``facts`` of the items ``order`` in the order 0, 1, ...: messages name the first file by name."""
    return [facts[place] for place in np.argsort(order)]


def _image(item: tuple[Path, bool], *, square: int | None = None, depth: str | None = None,
           channels: int | None = None) -> tuple[np.ndarray, int]:
    """An image as (C, H, W), cut and resized to a square, as float32, in colour where asked for; and its orientation.

    ``item``: the file, and whether it is turned as its orientation says.
    """
    path, upright = item
    image, orientation = read_image(path, upright=upright)
    if square is not None:
        image = _square(image, square)
    if depth == "float32" and image.dtype == np.uint8:
        image = image.astype(np.float32) / 255
    if channels == 3 and len(image) == 1:
        image = np.repeat(image, 3, axis=0)
    return image, orientation


class MaskNote(NamedTuple):
    """What a mask's file says."""

    values: tuple[int, ...]                        # that occur
    ignored: int                                   # pixels of the value 255
    orientation: int                               # its tag, 1 to 8
    lossy: str | None                              # compression that changes values


def _mask(item: tuple[Path, bool], *, two_valued: bool) -> tuple[np.ndarray, MaskNote]:
    """A mask as (H, W) uint8.

    ``two_valued``: 255 becomes 1 in a mask of 0 and 255 only. Values beyond uint8 wrap: they are no class, and noted.
    """
    path, upright = item
    read = read_mask(path, upright=upright)
    mask = read.values
    if mask.dtype == np.uint8:
        counts = np.bincount(mask.ravel(), minlength=256)
        values = tuple(map(int, np.flatnonzero(counts)))
    else:
        values = tuple(map(int, np.unique(mask)))
        mask = mask.astype(np.uint8)
    ignored = int((mask == IGNORE).sum()) if IGNORE in values else 0
    if two_valued and is_two_valued(values):
        mask = (mask == IGNORE).astype(np.uint8)
    return mask, MaskNote(values, ignored, read.orientation, read.lossy)


def _squares(folder: Path, image_size: int, seed: int, decode: Decode) -> Dataset:
    found = labelled(folder, seed)
    order = [i for part in found.parts.members for i in part]
    images = _alike([(found.images[i], True) for i in order], "images", partial(_image, square=image_size), decode)
    splits, first = [], 0
    for part in found.parts.members:
        last = first + len(part)
        splits.append(Split(images.part(first, last), [found.names[i] for i in part],
                            labels=None if found.labels is None else found.labels[list(part)]))
        first = last
    return Dataset(nfc(folder.resolve().name), *splits, class_names=found.class_names,
                   image_size=(image_size, image_size), groups=found.parts.groups, passed_over=found.passed_over)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    """(C, H, W) cut to its centred square and resized to (C, size, size), in the same depth."""
    height, width = image.shape[1:]
    side = min(height, width)
    x, y = (width - side) / 2, (height - side) / 2
    channels = [Image.fromarray(channel).resize((size, size), Image.Resampling.BICUBIC,
                                                box=(x, y, x + side, y + side)) for channel in image]
    resized = np.stack([np.asarray(channel) for channel in channels])
    return resized if resized.dtype == np.uint8 else np.clip(resized, 0, 1)     # bicubic overshoots


def _alike(items: Sequence[tuple[Path, bool]], label: str, read: partial, decode: Decode) -> Decoded:
    """Images all uint8, or all float32 0..1 where one is; all grey, or all in colour where one is.

    What a set mixes shows only once all are read: then they are read again.
    """
    images = decode(read, items, label)
    mixed = {}
    if len({fact.dtype for fact in images.facts}) > 1:
        mixed["depth"] = "float32"
    if len({fact.shape[0] for fact in images.facts}) > 1:
        mixed["channels"] = 3
    return decode(partial(read, **mixed), items, label) if mixed else images
