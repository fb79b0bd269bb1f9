"""Predicted masks as files: written by every segmentation run, and read from any tool that has written some.

A prediction has the name of its image (as the data set calls the case), in one of these forms::

    NAME.png        class ids, 0 and 255 where there are two classes, or a palette image; as masks are
    NAME.npy, .npz  class ids (H, W), or probabilities (K, H, W), (K, 1, H, W), (H, W) of class 1 of two

Of probabilities the likeliest class counts; of one map, 0.5 and more. nnU-Net writes both forms.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from harness.datasets.parts.image_files import SUFFIXES, read_mask
from harness.errors import InputError, one_line

ARRAYS = (".npy", ".npz")
FOLDER = "predictions"                             # of a run's folder


def write_prediction(folder: Path, name: str, ids: np.ndarray) -> None:
    """Write class ids (H, W) uint8 as ``folder/predictions/NAME.png``; a name may hold folders."""
    path = folder / FOLDER / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def prediction_files(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return case -> file for those of ``names`` that ``folder`` (or its ``predictions``) has a prediction of.

    A file's place below the folder, or else its bare name, is the case's. Raises InputError where there is no such
    folder, and where two files are one case's.
    """
    if not folder.is_dir():
        raise InputError(f"--predictions: {folder} is no folder")
    folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (*SUFFIXES, *ARRAYS) and not path.name.startswith(".") and path.is_file():
            place = path.relative_to(folder).with_suffix("").as_posix()
            for key in {_key(place), _key(path.stem)}:
                found.setdefault(key, []).append(path)
    files = {}
    for name in names:
        for key in (_key(name), _key(name.rpartition("/")[2])):
            if len(paths := found.get(key, [])) > 1:
                raise InputError(f"{paths[0]} and {paths[1]} are both predictions of {name!r}")
            if paths:
                files[name] = paths[0]
                break
    return files


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def read_prediction(path: Path, shape: tuple[int, int], classes: int) -> np.ndarray:
    """Read class ids (H, W) uint8 of an image of ``shape``, of ``classes`` classes.

    Raises InputError naming the file: unreadable, of another size, or with a value that is no class.
    """
    values = _array(path) if path.suffix.lower() in ARRAYS else read_mask(path).values
    while values.ndim > 3 or values.ndim == 3 and values.shape[0] == 1:
        squeezed = values.squeeze(0) if values.shape[0] == 1 else values.squeeze(1) if values.shape[1] == 1 else None
        if squeezed is None:
            raise InputError(f"prediction {path} has the shape {values.shape}; (H, W) or (classes, H, W) are read")
        values = squeezed
    if values.shape[-2:] != shape:
        raise InputError(f"prediction {path} is {values.shape[-1]} x {values.shape[-2]} pixels, but its image is "
                         f"{shape[1]} x {shape[0]}")
    if values.ndim == 3:
        if len(values) != classes:
            raise InputError(f"prediction {path} holds probabilities of {len(values)} classes, not of {classes}")
        if not np.isfinite(values).all():
            raise InputError(f"prediction {path} holds NaN or infinite probabilities")
        return values.argmax(0).astype(np.uint8)
    if values.dtype.kind == "f":
        if classes != 2 or not ((values >= 0) & (values <= 1)).all():      # NaN fails, too
            raise InputError(f"prediction {path} is a map of fractions; one map is read as the probability of class 1 "
                             f"of two, from 0 to 1")
        return (values >= 0.5).astype(np.uint8)
    present = np.unique(values)
    if classes == 2 and set(present.tolist()) <= {0, 255}:
        return (values == 255).astype(np.uint8)
    bad = present[(present < 0) | (present >= classes)]
    if len(bad):
        raise InputError(f"prediction {path} holds the value {bad[0]}, which is none of the {classes} classes "
                         f"0..{classes - 1}")
    return values.astype(np.uint8)


def _array(path: Path) -> np.ndarray:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            if len(content.files) != 1:
                raise InputError(f"prediction {path} holds the arrays {', '.join(content.files)}; one is read")
            return content[content.files[0]]
    except InputError:
        raise
    except Exception as error:                     # NumPy raises many kinds for a damaged file
        raise InputError(f"cannot read {path}: {one_line(error)}") from None
