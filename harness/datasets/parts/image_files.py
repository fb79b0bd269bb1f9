"""Reading people's image files: every kind that is promised, and one clear line for each that is not.

Pillow reads what it reads without loss; 16-bit colour, which Pillow would silently cut to 8 bits, is
read byte by byte (PNG) or by tifffile (TIFF). A truncated file is an error, never half an image.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from harness.datasets.parts.splits import natural_key
from harness.errors import InputError, one_line

warnings.filterwarnings("ignore", module=r"PIL\.")   # of damaged metadata; what cannot be read is an error

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "I")


def image_paths(folder: Path) -> list[Path]:
    """The image files of ``folder``, naturally sorted; hidden files and other kinds are passed over."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES
             and not path.name.startswith(".") and path.is_file()]
    return sorted(found, key=lambda path: natural_key(path.name))


def read_image(path: Path, *, upright: bool = False) -> np.ndarray:
    """An image as (1, H, W) if grey or (3, H, W) if colour; uint8 0..255, or float32 0..1 from 16 bits.

    16-bit values are divided by 65535. Alpha is dropped, a palette is applied. ``upright`` turns it as
    its EXIF tag says; without, pixels stay as they lie in the file, as masks do. Raises InputError naming
    the file where it cannot be read whole, has several pages, or is neither 8- nor 16-bit.
    """
    pixels = _read(path, upright=upright)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[-1] in (2, 4):
        pixels = pixels[..., :-1]                    # alpha
    if pixels.shape[-1] not in (1, 3):
        raise InputError(f"{path} has {pixels.shape[-1]} channels; images are grey or colour")
    pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 65535:
        raise InputError(f"{path} is neither 8- nor 16-bit (it holds {pixels.dtype} values from "
                         f"{pixels.min()} to {pixels.max()})")
    return (pixels / 65535).astype(np.float32)


def read_mask(path: Path) -> np.ndarray:
    """A mask's values (H, W), integers: grey levels, or the indices of a palette image.

    Colour is accepted where all channels are equal; alpha is dropped; one bit reads as 0 and 255. Raises
    InputError naming the file where it cannot be read whole or is in true colours.
    """
    pixels = _read(path, palette_index=True)
    if pixels.ndim == 3:
        pixels = pixels[..., :-1] if pixels.shape[-1] in (2, 4) else pixels
        if (pixels != pixels[..., :1]).any():
            raise InputError(f"mask {path} is in colours; save class ids as grey levels or as a palette image")
        pixels = pixels[..., 0]
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype.kind not in "iu":
        raise InputError(f"mask {path} holds {pixels.dtype} values; masks hold whole numbers")
    return pixels


def _read(path: Path, *, palette_index: bool = False, upright: bool = False) -> np.ndarray:
    """Pixels (H, W) or (H, W, channels) in the file's own depth."""
    try:
        with Image.open(path) as image:
            return _decode(path, image, palette_index, upright)
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        if path.suffix.lower() in (".tif", ".tiff"):  # 64-bit labels, planar stacks: tifffile knows more kinds
            return _tifffile(path)
        reason = "not an image, or damaged" if path.stat().st_size else "the file is empty"
        raise InputError(f"cannot read {path}: {reason}") from None
    except Exception as error:                       # Pillow raises many kinds for a damaged file
        raise InputError(f"cannot read {path}: {one_line(error)}") from None


def _decode(path: Path, image: Image.Image, palette_index: bool, upright: bool) -> np.ndarray:
    try:
        pages = getattr(image, "n_frames", 1)
    except Exception as error:                       # of a TIFF each page says where the next one is
        raise InputError(f"cannot read {path}: its first page points to a next one that is none "
                         f"({one_line(error)})") from None
    if pages > 1:
        raise InputError(f"{path} holds {pages} pages; save each as an image of its own")
    tiff = image.format == "TIFF"
    if tiff and len(image.tag_v2.get(258, ())) > 1 and max(image.tag_v2[258]) > 8:      # BitsPerSample
        return _tifffile(path)
    raw_mode = image.tile[0][3] if image.format == "PNG" and image.tile else ""
    image.load()                                     # raises where the file is truncated
    if raw_mode in ("LA;16B", "RGB;16B", "RGBA;16B"):
        return _png16(path)
    if upright:
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode in GREY or image.mode in ("RGB", "F") or (image.mode == "P" and palette_index):
        return np.asarray(image)
    return np.asarray(image.convert("RGB"))          # RGBA, P, PA, CMYK, YCbCr, LAB


def _png16(path: Path) -> np.ndarray:
    """The 16-bit colour PNG that Pillow would cut to the high byte of each value: here, both bytes."""
    high, mode = _png_bytes(path, None)
    if mode == "LA;16B":                             # four bytes a pixel: grey and alpha, high and low
        grey, _ = _png_bytes(path, "RGBA")
        return grey[..., 0] * np.uint16(256) + grey[..., 1]
    low, _ = _png_bytes(path, mode[:-1] + "L")       # "high byte" read as if little-endian is the low one
    return high * np.uint16(256) + low


def _png_bytes(path: Path, raw_mode: str | None) -> tuple[np.ndarray, str]:
    """Pixels read as ``raw_mode`` (None: the file's own), and the file's own raw mode."""
    with Image.open(path) as image:
        codec, extents, offset, own = image.tile[0]
        image.tile = [(codec, extents, offset, raw_mode or own)]
        return np.asarray(image), own


def _tifffile(path: Path) -> np.ndarray:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says of a damaged file is in its error, too
    try:
        with tifffile.TiffFile(path) as file:
            if len(file.pages) > 1:
                raise InputError(f"{path} holds {len(file.pages)} pages; save each as an image of its own")
            page = file.pages[0]
            pixels = page.asarray()
            planar = page.axes.startswith("S")       # channels first
    except InputError:
        raise
    except Exception as error:                       # tifffile raises many kinds for a damaged file
        raise InputError(f"cannot read {path}: {one_line(error)}") from None
    if pixels.ndim == 3 and planar:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3):
        raise InputError(f"{path} is no flat image: its shape is {pixels.shape}")
    return pixels
