"""Sets that torchvision reads from their official files: one place for the split and the messages."""

from __future__ import annotations

import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np

from harness.dataset import Dataset, Split
from harness.datasets.parts.arguments import require_at_least
from harness.errors import InputError


def official_files(files: str, root: str | None) -> list[Path]:
    """The files of ``load_official`` that lie in ``root``; none before a download."""
    folder = None if root is None else Path(root) / files
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder and folder.is_dir() else []


def load_official(name: str, kind: str, files: str, *, root: str | None, download: bool,
                  train: int | None, validation: int, test: int | None) -> Dataset:
    """A torchvision set of labelled images, split as its makers split it.

    ``name`` is the data set's, ``kind`` the class in torchvision.datasets and ``files`` the folder that
    must lie in ``root``. The official test files are the test split; the last ``validation`` images of
    the official training files are the validation split and the rest, in the files' order, is for
    training. ``train`` and ``test`` keep the first so many (None = all). Images (C, H, W) uint8.

    Raises
    ------
    InputError
        No root, files absent or corrupt, a download that fails, more images asked for
        than there are.
    """
    require_at_least(1, validation=validation, **{key: value for key, value in (("train", train), ("test", test))
                                                  if value is not None})
    if root is None:
        raise InputError(f"{name} needs --data-root DIR, the folder that holds {files} "
                         "(add --download to fetch it into DIR)")
    images, labels, classes = _read(name, kind, files, Path(root), True, download)
    test_images, test_labels, _ = _read(name, kind, files, Path(root), False, download)
    kept = len(images) - validation
    train = _cap(name, "train", train, kept)
    test = _cap(name, "test", test, len(test_images))

    def split(images, labels, part, first, end):
        return Split(images[first:end], [f"{part}-{i:05d}" for i in range(first, end)], labels=labels[first:end])

    return Dataset(name, split(images, labels, "train", 0, train),
                   split(images, labels, "train", kept, kept + validation),
                   split(test_images, test_labels, "test", 0, test),
                   class_names=classes, image_size=images.shape[2:])


def _cap(name: str, option: str, wanted: int | None, available: int) -> int:
    wanted = available if wanted is None else wanted
    if available < 1 or wanted > available:
        raise InputError(f"{name} has {available} images for {option} (asked for {max(wanted, 1)})")
    return wanted


def _read(name: str, kind: str, files: str, root: Path, train: bool,
          download: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images (N, C, H, W) uint8, labels (N,) int64 and class names of one official part."""
    from torchvision import datasets

    absent = not (root / files).is_dir()
    try:
        data = getattr(datasets, kind)(root, train=train, download=download)
    except (RuntimeError, URLError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        if download:
            raise InputError(f"{name} could not be downloaded into {root}: {reason}") from None
        if absent:
            raise InputError(f"no {name} in {root}: expected the folder {root / files}; point --data-root "
                             "elsewhere, or add --download to fetch it") from None
        raise InputError(f"{name} in {root / files} is incomplete or corrupt ({reason}); remove the folder "
                         "and add --download to fetch it again") from None
    except (AssertionError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{name} in {root / files} is corrupt ({error or 'its files are too short'}); remove "
                         "the folder and add --download to fetch it again") from None
    images = np.asarray(data.data)
    images = images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    classes = tuple(name.partition(" - ")[0] for name in data.classes)       # MNIST's are "0 - zero"
    return images, np.asarray(data.targets), classes
