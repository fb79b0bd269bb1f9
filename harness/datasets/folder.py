"""Your own images: DIR with images/ and masks/ (segmentation), or a folder of images (generation).

Segmentation::

    DIR/images/NAME.png     png, jpg, jpeg, tif, tiff or bmp; 8- or 16-bit; grey or colour, all alike
    DIR/masks/NAME.png      0 and 255, class ids 0..K-1, or a palette image (index = class id)
    DIR/classes.txt         optional: one class name per line, in order of class id
    DIR/split.csv           optional: columns stem,split; split is train, validation or test

Without split.csv the naturally sorted stems ("img2" before "img10") are cut into three blocks: the first
2/3 to train, then 1/6 to validate and 1/6 to test. Blocks, not a draw: neighbouring slices of a stack, or
frames of a film, are near duplicates, and a random split would put one into training and its twin into
the test. Classes are named by mask value ("0", "255") unless classes.txt names them; with two names,
masks of 0 and 255 keep their meaning.

Generation::

    DIR/NAME.png            without labels, or
    DIR/CLASS/NAME.png      one folder per class, ids in order of the folder names

Images are turned as their EXIF tag says, cut to the centred square and resized (bicubic, antialiased) to
``image_size``; where grey and colour are mixed, all become colour. Split 60/10/30 % at random by
``seed``, every class in the same proportions.

Everywhere: 16-bit values are divided by 65535 and kept as float32 0..1 (8-bit ones too, where a set mixes
both), alpha is dropped, hidden files and other kinds of files are passed over. A TIFF of several pages is
an error: save each page as a file, so that every case has a name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from harness.dataset import Dataset, Split
from harness.datasets.parts.arguments import require_at_least, require_task
from harness.datasets.parts.image_files import SUFFIXES, image_paths, read_image, read_mask
from harness.datasets.parts.mask_classes import read_class_names, to_class_ids
from harness.datasets.parts.splits import DEAL, and_more, contiguous, from_csv, natural_key, stratified
from harness.errors import InputError

TASKS = ("segmentation", "generation")


def load(task: str, *, root: str | None = None, download: bool = False, image_size: int | None = None,
         seed: int = 0) -> Dataset:
    """The images under ``root``, laid out as this file's top says; the data set is named as the folder.

    ``image_size`` (32 if None) and ``seed`` are for generation: segmentation keeps every image's own size
    and draws nothing at random. ``download`` is not used.

    Raises
    ------
    InputError
        One line naming the file: no such folder, another layout, an empty folder, too few images
        (segmentation 3, generation 10), an image without mask or the reverse, two files of one stem,
        unequal sizes, grey among colour, a file that cannot be read whole, a mask value that is no
        class, a split.csv that does not fit.
    """
    require_task("folder", task, TASKS)
    if root is None:
        raise InputError("data set 'folder' needs a folder of images: --data DIR")
    folder = Path(root)
    if not folder.is_dir():
        raise InputError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}")
    if task == "segmentation":
        if image_size is not None:
            raise InputError("image_size is for generation; segmentation keeps every image's own size")
        return _segmentation(folder)
    image_size = 32 if image_size is None else image_size
    require_at_least(4, image_size=image_size)
    return _generation(folder, image_size, seed)


def _segmentation(folder: Path) -> Dataset:
    image_files, mask_files = _pairs(folder)
    images = _one_depth([read_image(path) for path in image_files])
    _require_one_kind(image_files, images)
    masks = [read_mask(path) for path in mask_files]
    for image, image_file, mask, mask_file in zip(images, image_files, masks, mask_files, strict=True):
        if image.shape[1:] != mask.shape:
            raise InputError(f"{mask_file} is {_size(mask)} pixels but {image_file} is {_size(image)}")
    masks, class_names = to_class_ids(mask_files, masks, read_class_names(folder / "classes.txt"))

    stems = [path.stem for path in image_files]
    chosen = folder / "split.csv"
    parts = from_csv(chosen, stems) if chosen.is_file() else contiguous(len(stems))
    splits = (Split(*([items[i] for i in part] for items in (images, masks, stems))) for part in parts)
    smallest = tuple(min(image.shape[axis] for image in images) for axis in (1, 2))
    return Dataset(folder.resolve().name, "segmentation", *splits, class_names=class_names, image_size=smallest)


def _pairs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Image and mask files with equal stems, naturally sorted."""
    layout = f"expected {folder / 'images'} and {folder / 'masks'} with files of equal names"
    found = []
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise InputError(f"{folder} has no folder {kind!r}; {layout}")
        paths = image_paths(folder / kind)
        if not paths:
            raise InputError(f"no images in {folder / kind} ({', '.join(SUFFIXES)}); {layout}")
        by_stem: dict[str, Path] = {}
        for path in paths:
            if path.stem in by_stem:
                raise InputError(f"{by_stem[path.stem]} and {path} have the same stem; which one is meant?")
            by_stem[path.stem] = path
        found.append(by_stem)
    images, masks = found
    for one, other, kind in ((images, masks, "mask"), (masks, images, "image")):
        alone = [path for stem, path in one.items() if stem not in other]
        if alone:
            raise InputError(f"{alone[0]} has no {kind}{and_more(alone)}; "
                             f"expected {folder / (kind + 's') / alone[0].stem}.*")
    if len(images) < 3:
        raise InputError(f"{folder} has {_count(images)}; at least 3 are needed, "
                         "to train, to validate and to test")
    stems = sorted(images, key=natural_key)
    return [images[stem] for stem in stems], [masks[stem] for stem in stems]


def _require_one_kind(paths: Sequence[Path], images: Sequence[np.ndarray]) -> None:
    """Raise InputError naming an image that is grey among colour ones, or the reverse."""
    kinds = Counter(len(image) for image in images)
    if len(kinds) > 1:
        rare = min(kinds, key=lambda channels: (kinds[channels], channels != len(images[-1])))
        odd = next(path for path, image in zip(paths, images, strict=True) if len(image) == rare)
        this, rest = ("grey", "colour") if rare == 1 else ("colour", "grey")
        raise InputError(f"{odd} is {this} but {len(images) - kinds[rare]} of {len(images)} images are {rest}; "
                         "save all alike")


def _generation(folder: Path, image_size: int, seed: int) -> Dataset:
    paths, labels, class_names = _labelled(folder)
    if len(paths) < len(DEAL):
        raise InputError(f"{folder} has {_count(paths)}; at least {len(DEAL)} are needed, "
                         "to train, to validate and to test")
    images = _one_depth([_square(read_image(path, upright=True), image_size) for path in paths])
    if len({len(image) for image in images}) > 1:
        images = [np.repeat(image, 3, axis=0) if len(image) == 1 else image for image in images]
    splits = (Split(np.stack([images[i] for i in part]), labels[part] if class_names else None,
                    [paths[i].relative_to(folder).as_posix() for i in part])
              for part in stratified(labels, seed))
    return Dataset(folder.resolve().name, "generation", *splits, class_names=class_names,
                   image_size=(image_size, image_size))


def _labelled(folder: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """Image files, labels (N,) int64 and class names; all 0 and () where there are no class folders."""
    loose = image_paths(folder)
    subfolders = sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")),
                        key=lambda path: path.name)
    if {"images", "masks"} <= {path.name for path in subfolders}:
        raise InputError(f"{folder} is laid out for segmentation; for generation give {folder / 'images'}")
    classes = {path.name: image_paths(path) for path in subfolders}
    filled = [name for name, paths in classes.items() if paths]
    if loose and filled:
        raise InputError(f"images lie both in {folder} ({loose[0].name}) and in its folder {filled[0]!r}; "
                         "either all in class folders, or none")
    if loose:
        return loose, np.zeros(len(loose), np.int64), ()
    if not filled:
        raise InputError(f"no images in {folder} or its folders ({', '.join(SUFFIXES)})")
    empty = [name for name in classes if name not in filled]
    if empty:
        raise InputError(f"no images in the class folder {folder / empty[0]}{and_more(empty)}")
    paths = [path for name in classes for path in classes[name]]
    labels = np.repeat(np.arange(len(classes)), [len(classes[name]) for name in classes])
    return paths, labels, tuple(classes)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    """(C, H, W) cut to its centred square and resized to (C, size, size), in the same depth."""
    height, width = image.shape[1:]
    side = min(height, width)
    x, y = (width - side) / 2, (height - side) / 2
    channels = [Image.fromarray(channel).resize((size, size), Image.Resampling.BICUBIC,
                                                box=(x, y, x + side, y + side)) for channel in image]
    resized = np.stack([np.asarray(channel) for channel in channels])
    return resized if resized.dtype == np.uint8 else np.clip(resized, 0, 1)     # bicubic overshoots


def _one_depth(images: list[np.ndarray]) -> list[np.ndarray]:
    """All uint8, or all float32 0..1 where one is."""
    if len({image.dtype for image in images}) == 1:
        return images
    return [image if image.dtype == np.float32 else image.astype(np.float32) / 255 for image in images]


def _count(paths) -> str:
    return "1 single image" if len(paths) == 1 else f"{len(paths)} images"


def _size(array: np.ndarray) -> str:
    return f"{array.shape[-1]}x{array.shape[-2]}"
