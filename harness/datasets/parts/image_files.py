"""Reading people's image files: every kind that is promised, and one clear line for each that is not.

Pillow reads what it reads without loss; 16-bit colour, which Pillow would silently cut to 8 bits, is
read byte by byte (PNG) or by tifffile (TIFF). A truncated file is an error, never half an image.

A file may say by its orientation tag (EXIF, TIFF, XMP) that its pixels are to be turned before anyone looks at them.
Pillow turns TIFFs while it reads them and nothing else; here the caller says whether pixels are turned.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from harness.datasets.parts.splits import natural_key
from harness.errors import InputError, one_line

warnings.filterwarnings("ignore", module=r"PIL\.")   # of damaged metadata; what cannot be read is an error

LEFT_BY_SYSTEMS = ("__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
                   "#recycle", "lost+found")
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif", ".avif",
            ".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k")
GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "I")
LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG 2000", "AVIF": "AVIF"}      # formats that change values
LOSSY_TIFF = {6: "JPEG", 7: "JPEG", 34887: "LERC", 34892: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000",
              34712: "JPEG 2000", 50001: "WebP", 34927: "WebP"}
ORIENTATION, BITS, COMPRESSION = 274, 258, 259      # tags of TIFF; the first is EXIF's as well

# Orientation -> pixels as they are to be seen, from pixels as they lie in the file (EXIF 2.3, TIFF 6.0); 1 turns none.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1], 3: lambda pixels: pixels[::-1, ::-1], 4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1), 6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1), 8: np.rot90}
BACK = {6: 8, 8: 6}                                 # what undoes them; the others undo themselves


@dataclass(frozen=True)
class Pixels:
    """A file's pixels (H, W) or (H, W, channels) in its own depth, and what it says of them."""

    values: np.ndarray
    orientation: int = 1                            # 1 to 8; 1: pixels lie as they are to be seen
    lossy: str | None = None                        # name of a compression that changes values

    def turned(self, upright: bool) -> np.ndarray:
        """Turn them as ``orientation`` says, or leave them as they lie in the file."""
        return UPRIGHT[self.orientation](self.values) if upright and self.orientation in UPRIGHT else self.values


def image_paths(folder: Path) -> list[Path]:
    """The image files of ``folder``, naturally sorted; hidden files and other kinds are left out.

    Raises InputError for a symbolic link that leads nowhere.
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not is_hidden(path.name)]
    for path in found:
        require_no_broken_link(path)
    return sorted((path for path in found if path.is_file()), key=lambda path: natural_key(path.name))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or is one that a system leaves behind unasked."""
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS


def require_no_broken_link(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path} is a symbolic link to {path.readlink()}, which does not exist")


def read_image(path: Path, *, upright: bool = False) -> tuple[np.ndarray, int]:
    """An image as (1, H, W) if grey or (3, H, W) if colour; uint8 0..255, or float32 0..1. And its orientation, 1 to 8.

    16-bit values are divided by 65535; floats must lie in 0..1. Alpha is dropped, a palette is applied. ``upright``
    turns it as its orientation says; without, pixels stay as they lie in the file. Raises InputError naming the file
    where it cannot be read whole, has several pages, or is neither 8- nor 16-bit nor float in 0..1.
    """
    read = _read(path)
    pixels = read.turned(upright)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[-1] in (2, 4):
        pixels = pixels[..., :-1]                    # alpha
    if pixels.shape[-1] not in (1, 3):
        raise InputError(f"{path} has {pixels.shape[-1]} channels; images are grey or colour")
    return _values(path, np.ascontiguousarray(pixels.transpose(2, 0, 1))), read.orientation


def _values(path: Path, pixels: np.ndarray) -> np.ndarray:
    """uint8 as it is, everything else as float32 0..1."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint8:
        return pixels
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f":
        if not (low >= 0 and high <= 1):             # NaN is neither
            raise InputError(f"{path} holds {pixels.dtype} values from {low:.6g} to {high:.6g}; floats must lie in "
                             "0..1: rescale all images by one range, or save them in 8 or 16 bit")
        return pixels.astype(np.float32)
    if pixels.dtype.kind not in "iu" or low < 0 or high > 65535:
        raise InputError(f"{path} is neither 8- nor 16-bit (it holds {pixels.dtype} values from {low} to {high}): "
                         "rescale all images by one range to 0..65535")
    return (pixels / 65535).astype(np.float32)


def read_mask(path: Path, *, upright: bool = False) -> Pixels:
    """A mask's values (H, W), integers: grey levels, or the indices of a palette image.

    Colour is accepted where all channels are equal, floats where all are whole; alpha is dropped; one bit reads as 0
    and 255. Raises InputError naming the file where it cannot be read whole, is in true colours, or was compressed by
    a method that changes values and holds others than 0 and 255.
    """
    read = _read(path, palette_index=True)
    pixels = read.turned(upright)
    if pixels.ndim == 3:
        pixels = pixels[..., :-1] if pixels.shape[-1] in (2, 4) else pixels
        if read.lossy is None and (pixels != pixels[..., :1]).any():
            raise InputError(f"mask {path} is in colours; save class ids as grey levels or as a palette image")
    if read.lossy is not None and not ((pixels == 0) | (pixels == 255)).all():
        raise InputError(lossy_words(path, read.lossy, f" (it holds {len(np.unique(pixels))} different ones)"))
    pixels = pixels[..., 0] if pixels.ndim == 3 else pixels
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype.kind == "f" and np.isfinite(pixels).all() and (pixels == np.rint(pixels)).all():
        pixels = pixels.astype(np.int64)
    if pixels.dtype.kind not in "iu":
        raise InputError(f"mask {path} holds {pixels.dtype} values; masks hold whole numbers")
    return replace(read, values=pixels)


def lossy_words(path: Path, compression: str, held: str = "") -> str:
    return (f"mask {path} is compressed as {compression}, which changes values{held}; save masks without loss, as PNG "
            "made from the original ones")


def _read(path: Path, *, palette_index: bool = False) -> Pixels:
    try:
        # As an open file: by its path, Pillow 13 maps a raw TIFF into memory, with its sides exchanged if it is turned.
        with open(path, "rb") as file, Image.open(file) as image:
            return _decode(path, image, palette_index)
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        if path.suffix.lower() in (".tif", ".tiff"):  # 64-bit labels, planar stacks: tifffile knows more kinds
            return _tifffile(path)
        reason = "not an image, or damaged" if path.stat().st_size else "the file is empty"
        raise InputError(f"cannot read {path}: {reason}") from None
    except Exception as error:                       # Pillow raises many kinds for a damaged file
        raise InputError(f"cannot read {path}: {one_line(error)}") from None


def _decode(path: Path, image: Image.Image, palette_index: bool) -> Pixels:
    try:
        pages = getattr(image, "n_frames", 1)
    except Exception as error:                       # of a TIFF each page says where the next one is
        raise InputError(f"cannot read {path}: its first page points to a next one that is none "
                         f"({one_line(error)})") from None
    if pages > 1 and image.format != "MPO":          # a phone's JPEG with a preview or a depth map behind the picture
        raise InputError(f"{path} holds {pages} pages; save each as an image of its own")
    tiff, lossy = image.format == "TIFF", _lossy(path, image)
    if tiff and len(image.tag_v2.get(BITS, ())) > 1 and max(image.tag_v2[BITS]) > 8:
        return _tifffile(path)
    if image.format == "PPM":
        _require_own_values(path, image, mask=palette_index)
    raw_mode = image.tile[0][3] if image.format == "PNG" and image.tile else ""
    stated = image.getexif().get(ORIENTATION, 1) if tiff else 1
    image.load()                                     # raises where the file is truncated
    left = image.getexif().get(ORIENTATION, 1)       # Pillow takes the tag away from what it has turned
    orientation = next((value for value in (stated, left) if value in UPRIGHT), 1)
    if raw_mode in ("LA;16B", "RGB;16B", "RGBA;16B"):
        return Pixels(_png16(path), orientation, lossy)
    if not (image.mode in GREY or image.mode in ("RGB", "F") or (image.mode == "P" and palette_index)):
        image = image.convert("RGB")                 # RGBA, P, PA, CMYK, YCbCr, LAB
    values = np.asarray(image)
    if stated in UPRIGHT and left != stated:
        values = UPRIGHT[BACK.get(orientation, orientation)](values)
    return Pixels(values, orientation, lossy)


def _lossy(path: Path, image: Image.Image) -> str | None:
    """Name the compression of an image where it changes values."""
    if image.format == "WEBP":
        with open(path, "rb") as file:               # the lossless kind says so in its first chunks
            return None if b"VP8L" in file.read(2**16) else "lossy WebP"
    if image.format == "TIFF":
        return LOSSY_TIFF.get(image.tag_v2.get(COMPRESSION))
    return LOSSY.get(image.format)


def _require_own_values(path: Path, image: Image.Image, *, mask: bool) -> None:
    """Raise InputError for a mask in PGM or PPM that Pillow would stretch to 0..255, and colour that it would cut."""
    most = image.tile[0][3][-1] if isinstance(image.tile[0][3], tuple) else 255
    if mask and image.mode != "1" and most not in (255, 65535):
        raise InputError(f"mask {path} states {most} as its largest value, and readers stretch that to 255; "
                         "save masks as PNG")
    if image.mode == "RGB" and most > 255:
        raise InputError(f"{path} is 16-bit colour, which is read from PNG and TIFF only; save it as one of these")


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


def _tifffile(path: Path) -> Pixels:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says of a damaged file is in its error, too
    try:
        with tifffile.TiffFile(path) as file:
            if len(file.pages) > 1:
                raise InputError(f"{path} holds {len(file.pages)} pages; save each as an image of its own")
            page = file.pages[0]
            pixels = page.asarray()
            planar = page.axes.startswith("S")       # channels first
            tag = page.tags.get(ORIENTATION)
            orientation, lossy = (1 if tag is None else int(tag.value)), LOSSY_TIFF.get(int(page.compression))
    except InputError:
        raise
    except Exception as error:                       # tifffile raises many kinds for a damaged file
        raise InputError(f"cannot read {path}: {one_line(error)}") from None
    if pixels.ndim == 3 and planar:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3):
        raise InputError(f"{path} is no flat image: its shape is {pixels.shape}")
    return Pixels(pixels, orientation if orientation in UPRIGHT else 1, lossy)
