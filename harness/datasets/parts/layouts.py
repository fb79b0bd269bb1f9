"""How people lay out folders of images: which files there are, and which split each is in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.dataset import SPLITS
from harness.datasets.parts.image_files import SUFFIXES, image_paths, is_hidden
from harness.datasets.parts.passed_over import beside, passed_over
from harness.datasets.parts.splits import (
    DEAL,
    SPLIT_NAMES,
    and_more,
    contiguous,
    deal_groups,
    from_csv,
    groups_from_csv,
    natural_key,
    nfc,
    read_rows,
    require_whole_groups,
    stratified,
)
from harness.errors import InputError

SPLIT_FILE, CLASSES_FILE = "split.csv", "classes.txt"


@dataclass(frozen=True)
class Parts:
    """Which of N cases is in which split, and how many groups were kept whole in each."""

    members: tuple[Sequence[int], ...]              # of train, validation and test
    groups: dict[str, int] | None = None


@dataclass(frozen=True)
class Pairs:
    """Images with their masks, a case each."""

    images: list[Path]
    masks: list[Path]
    names: list[str]
    parts: Parts
    passed_over: dict[str, int]                     # files that are not used, by kind


@dataclass(frozen=True)
class Labelled:
    """Images, in class folders or without classes."""

    images: list[Path]
    names: list[str]
    labels: np.ndarray | None                       # (N,) int64
    class_names: tuple[str, ...]
    parts: Parts
    passed_over: dict[str, int]                     # files that are not used, by kind


def split_folders(folder: Path) -> dict[str, Path] | None:
    """The folders of train, validation and test in ``folder``; None where its images are not parted by folders.

    Raises InputError where one of the three is missing or is there twice, or images lie beside them.
    """
    found: dict[str, Path] = {}
    others = []
    for path in visible_folders(folder):
        split = SPLIT_NAMES.get(path.name.lower())
        if split is None:
            others.append(path)
        elif split in found:
            raise InputError(f"{found[split]} and {path} are both for {split}; which one is meant?")
        else:
            found[split] = path
    beside = [path for path in others if path.name in ("images", "masks") or len(found) == len(SPLITS)]
    loose = image_paths(folder)
    if len(found) == len(SPLITS) and not beside and not loose:
        if (folder / SPLIT_FILE).is_file():
            raise InputError(f"{folder} has both {SPLIT_FILE} and the folders {_names(found)}; which one is meant?")
        return {split: found[split] for split in SPLITS}
    if len(found) == len(SPLITS):
        raise InputError(f"{(beside + loose)[0]} lies beside the folders {_names(found)}; put it into one of them")
    if len(found) == 2 and not others and not loose:
        missing = next(split for split in SPLITS if split not in found)
        raise InputError(f"{folder} has the folders {_names(found)}, but none for {missing}; all of train, val and "
                         "test are needed, or none")
    return None


def pairs(folder: Path) -> Pairs:
    """Images and masks of ``folder``: FOLDER/images and FOLDER/masks, or these two in each split's folder."""
    folders = split_folders(folder)
    if folders is None:
        images, masks = pairs_in(folder)
        if len(images) < len(SPLITS):
            raise InputError(f"{folder} has {count(images)}; at least 3 are needed, "
                             f"to train, to validate and to test{beside(folder, _used(folder, images, masks))}")
        stems = [nfc(path.stem) for path in images]
        unused = passed_over(folder, _used(folder, images, masks))
        return Pairs(images, masks, stems, parts_of(folder, stems), unused)
    every: tuple[list[Path], list[Path]] = [], []
    members, first = [], 0
    for part in folders.values():
        for all_paths, paths in zip(every, pairs_in(part), strict=True):
            all_paths.extend(paths)
        members.append(range(first, len(every[0])))
        first = len(every[0])
    # The folder is part of a case's name: splits may have files of equal names.
    names = [nfc(f"{path.parent.parent.name}/{path.stem}") for path in every[0]]
    return Pairs(*every, names, Parts(tuple(members)), passed_over(folder, _used(folder, *every)))


def _used(folder: Path, *paths: Sequence[Path]) -> set[Path]:
    """Everything that is read in ``folder``, where ``paths`` are its images and masks."""
    return {path for each in paths for path in each} | {folder / SPLIT_FILE, folder / CLASSES_FILE}


def parts_of(folder: Path, stems: Sequence[str]) -> Parts:
    """Splits as split.csv says; without one, three blocks in order. Groups without splits become blocks, too."""
    path = folder / SPLIT_FILE
    if not path.is_file():
        return Parts(contiguous(len(stems)))
    return parts_from(path, stems, lambda groups: deal_groups(groups, (2 / 3, 5 / 6), path))


def parts_from(path: Path, stems: Sequence[str], deal: Callable[[Sequence[str]], Sequence[Sequence[int]]]) -> Parts:
    """Splits as the file ``path`` says; where it has groups only, as ``deal`` deals them."""
    groups = groups_from_csv(path, stems)
    if groups is not None and "split" not in read_rows(path)[0]:
        return grouped(deal(groups), groups)
    members = from_csv(path, stems)
    if groups is None:
        return Parts(members)
    require_whole_groups(path, members, groups)
    return grouped(members, groups)


def grouped(members: Sequence[Sequence[int]], groups: Sequence[str]) -> Parts:
    return Parts(tuple(members), {split: len({groups[i] for i in part})
                                  for split, part in zip(SPLITS, members, strict=True)})


def pairs_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Image and mask files with equal stems, naturally sorted."""
    layout = f"expected {folder / 'images'} and {folder / 'masks'} with files of equal names"
    found = []
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise InputError(f"{folder} has no folder {kind!r}; {layout}")
        paths = image_paths(folder / kind)
        if not paths:
            raise InputError(f"no images in {folder / kind} ({', '.join(SUFFIXES)}); {layout}{beside(folder / kind)}")
        found.append(by_stem(paths))
    images, masks = found
    for one, other, kind in ((images, masks, "mask"), (masks, images, "image")):
        alone = [path for stem, path in one.items() if stem not in other]
        if alone:
            raise InputError(f"{alone[0]} has no {kind}{and_more(alone)}; "
                             f"expected {folder / (kind + 's') / alone[0].stem}.*")
    stems = sorted(images, key=natural_key)
    return [images[stem] for stem in stems], [masks[stem] for stem in stems]


def by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by their stems. Raises InputError for two of one stem, however its accents are written."""
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(nfc(path.stem), path)
        if other is not path:
            raise InputError(f"{other} and {path} have the same stem{written(other.stem, path.stem)}; "
                             "which one is meant?")
    return found


def written(one: str, other: str) -> str:
    return "" if one == other else " (accents are written as one character or as two)"


def labelled(folder: Path, seed: int) -> Labelled:
    """Images of ``folder``, loose or in class folders; of all of it, or of each split's folder."""
    folders = split_folders(folder)
    if folders is not None:
        return labelled_splits(folder, folders)
    paths, labels, class_names = classes_in(folder)
    used = _used(folder, paths)
    if len(paths) < len(DEAL):
        raise InputError(f"{folder} has {count(paths)}; at least {len(DEAL)} are needed, "
                         f"to train, to validate and to test{beside(folder, used)}")
    names = names_in(folder, paths)
    parts = Parts(stratified(labels, seed))
    if (folder / SPLIT_FILE).is_file():
        parts = labelled_parts(folder / SPLIT_FILE, names, seed)
    return Labelled(paths, names, labels if class_names else None, class_names, parts, passed_over(folder, used))


def names_in(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Paths in ``folder`` as names in NFC. Raises InputError for two that differ only in how accents are written."""
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(nfc(path.relative_to(folder).as_posix()), path)
        if other is not path:
            raise InputError(f"{other} and {path} have the same name{written(other.name, path.name)}; "
                             "which one is meant?")
    return list(found)


def labelled_parts(path: Path, names: Sequence[str], seed: int) -> Parts:
    """Splits as split.csv says, whose stems are names with or without suffix; groups without splits are dealt 60/10/30
    at random by ``seed``."""
    listed = {row.get("stem") for row in read_rows(path)[1]}
    stems = [name if name in listed else name.rpartition(".")[0] for name in names]
    order = np.random.default_rng(seed).permutation(len(stems))

    def deal(groups: Sequence[str]) -> list[list[int]]:
        dealt = deal_groups([groups[i] for i in order], (0.6, 0.7), path)
        return [sorted(int(order[i]) for i in part) for part in dealt]

    return parts_from(path, stems, deal)


def labelled_splits(folder: Path, folders: dict[str, Path]) -> Labelled:
    """Images in train, validation and test; the classes are the class folders of train."""
    paths, labels, class_names, members, silent = [], [], (), [], []
    for split, part in folders.items():
        inside = {path.name for path in visible_folders(part)}
        if "images" in inside and inside <= {"images", "masks"}:       # laid out for segmentation as well
            silent.append(part / "masks")
            part = part / "images"
        found, own, own_names = classes_in(part)
        if split == "train":
            class_names = own_names
        strange = [name for name in own_names if name not in class_names]
        if strange or bool(own_names) != bool(class_names):
            what = f"the class folder {strange[0]!r}" if strange else "no class folders"
            raise InputError(f"{part} has {what}, unlike {folders['train']}; all splits have the classes of train")
        members.append(range(len(paths), len(paths) + len(found)))
        paths.extend(found)
        labels.extend(class_names.index(own_names[label]) if class_names else 0 for label in own)
    return Labelled(paths, names_in(folder, paths), np.array(labels, np.int64) if class_names else None, class_names,
                    Parts(tuple(members)), passed_over(folder, _used(folder, paths), silent))


def classes_in(folder: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """Image files, labels (N,) int64 and class names; all 0 and () where there are no class folders."""
    loose, subfolders = image_paths(folder), visible_folders(folder)
    if {"images", "masks"} <= {path.name for path in subfolders}:
        raise InputError(f"{folder} is laid out for segmentation; for generation give {folder / 'images'}")
    classes = {}
    for path in subfolders:
        if nfc(path.name) in classes:
            raise InputError(f"{folder} has two class folders {nfc(path.name)!r}, whose accents are written in two "
                             "ways; give them one name")
        classes[nfc(path.name)] = image_paths(path)
    filled = [name for name, paths in classes.items() if paths]
    if loose and filled:
        raise InputError(f"images lie both in {folder} ({loose[0].name}) and in its folder {filled[0]!r}; "
                         "either all in class folders, or none")
    if loose:
        return loose, np.zeros(len(loose), np.int64), ()
    if not filled:
        raise InputError(f"no images in {folder} or its folders ({', '.join(SUFFIXES)}){beside(folder)}")
    empty = [name for name in classes if name not in filled]
    if empty:
        raise InputError(f"no images in the class folder {folder / empty[0]}{and_more(empty)}")
    paths = [path for name in classes for path in classes[name]]
    labels = np.repeat(np.arange(len(classes)), [len(classes[name]) for name in classes])
    return paths, labels, tuple(classes)


def visible_folders(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)),
                  key=lambda path: nfc(path.name))


def every_file(folder: Path, levels: int = 3) -> Iterator[Path]:
    """Every file that a layout could read, in ``folder`` and so many levels below: images, split.csv, classes.txt."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.name in (SPLIT_FILE, CLASSES_FILE) or entry.name.lower().endswith(SUFFIXES):
                yield Path(entry.path)
            elif levels and entry.is_dir():
                yield from every_file(Path(entry.path), levels - 1)


def count(paths: Sequence[Path]) -> str:
    return "1 single image" if len(paths) == 1 else f"{len(paths)} images"


def _names(found: dict[str, Path]) -> str:
    return ", ".join(found[split].name for split in SPLITS if split in found)
