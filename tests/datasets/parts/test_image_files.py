import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from harness.datasets.parts import image_files
from harness.datasets.parts.image_files import image_paths
from harness.errors import InputError

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (9, 7), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (9, 7), dtype=np.uint16)
COLOUR8 = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
COLOUR16 = RNG.integers(0, 65536, (9, 7, 4), dtype=np.uint16)


def read_image(path, **options):
    """The pixels alone."""
    return image_files.read_image(path, **options)[0]


def read_mask(path, **options):
    return image_files.read_mask(path, **options).values


def write_png16(path, pixels):
    """A 16-bit PNG of 1 to 4 channels (Pillow writes grey only), by the PNG specification."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".PNG"])
def test_8_bit_is_kept_exactly(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(GREY8).save(path)
    assert np.array_equal(read_image(path), GREY8[None]) and read_image(path).dtype == np.uint8
    Image.fromarray(COLOUR8).save(path)
    assert np.array_equal(read_image(path), COLOUR8.transpose(2, 0, 1))


def test_jpeg_is_read(tmp_path):
    Image.fromarray(COLOUR8).save(tmp_path / "a.jpeg")
    assert read_image(tmp_path / "a.jpeg").shape == (3, 9, 7)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_every_bit_and_drops_alpha(tmp_path, channels):
    path = tmp_path / "a.png"
    write_png16(path, COLOUR16[..., :channels])
    kept = 1 if channels < 3 else 3
    image = read_image(path)
    assert image.dtype == np.float32
    assert np.array_equal(np.rint(image * 65535.0), COLOUR16[..., :kept].transpose(2, 0, 1))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_16_bit_grey_tiff(tmp_path, compression):
    path = tmp_path / "a.tif"
    Image.fromarray(GREY16).save(path, compression=compression)
    assert np.array_equal(np.rint(read_image(path) * 65535.0), GREY16[None])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_colour_tiff(tmp_path, planar):
    path = tmp_path / "a.tif"
    pixels = COLOUR16[..., :3] if planar == "contig" else np.moveaxis(COLOUR16[..., :3], -1, 0)
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig=planar)
    assert np.array_equal(np.rint(read_image(path) * 65535.0), COLOUR16[..., :3].transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "shape"), [("RGBA", (3, 9, 7)), ("LA", (1, 9, 7)), ("1", (1, 9, 7)),
                                             ("P", (3, 9, 7))])
def test_other_modes_become_grey_or_colour(tmp_path, mode, shape):
    Image.fromarray(COLOUR8).convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == shape and image.dtype == np.uint8
    if mode == "RGBA":
        assert np.array_equal(image, COLOUR8.transpose(2, 0, 1))


def test_upright_follows_exif_only_when_asked(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6                                 # Orientation: turn by 90 degrees
    Image.fromarray(GREY8).save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png").shape == (1, 9, 7)
    assert np.array_equal(read_image(tmp_path / "a.png", upright=True)[0], np.rot90(GREY8, -1))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.6])
def test_truncated_files_are_named(tmp_path, suffix, keep):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(keep * len(whole))])
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match=f"cut{suffix}"):
            read(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_text_named_as_an_image_is_named(tmp_path, suffix):
    (tmp_path / f"notes{suffix}").write_text("these are notes, at some length, and not an image at all")
    with pytest.raises(InputError, match=f"notes{suffix}"):
        read_image(tmp_path / f"notes{suffix}")


def test_several_pages_and_other_depths_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 9, 7), np.uint8))
    with pytest.raises(InputError, match=r"stack\.tif holds 5 pages"):
        read_image(tmp_path / "stack.tif")
    tifffile.imwrite(tmp_path / "deep.tif", GREY16.astype(np.int32) * 10)
    with pytest.raises(InputError, match=r"deep\.tif is neither 8- nor 16-bit"):
        read_image(tmp_path / "deep.tif")


@pytest.mark.parametrize("bits, channels", [(8, 1), (16, 3)])     # by Pillow, by tifffile
@pytest.mark.parametrize("leads", ["to itself", "nowhere", "into the header"])
def test_a_tiff_whose_next_page_is_none(tmp_path, bits, channels, leads):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((9, 7, channels), f"uint{bits}").squeeze())
    content = bytearray(path.read_bytes())
    [first] = struct.unpack_from("<I", content, 4)
    [entries] = struct.unpack_from("<H", content, first)
    target = {"to itself": first, "nowhere": 10**9, "into the header": 3}[leads]
    struct.pack_into("<I", content, first + 2 + 12 * entries, target)
    path.write_bytes(content)
    if leads == "to itself":                         # no page is new, so there is one
        assert read_image(path).shape == (channels, 9, 7)
    else:
        with pytest.raises(InputError, match=f"cannot read {path}: its first page points to a next one that is none"):
            read_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_mask_ids_in_any_integer_type(tmp_path, dtype):
    ids = (GREY8 % 5).astype(dtype)
    tifffile.imwrite(tmp_path / "m.tif", ids)
    assert np.array_equal(read_mask(tmp_path / "m.tif"), ids)


def test_palette_mask_gives_indices(tmp_path):
    mask = Image.new("P", (7, 9))
    mask.putdata((GREY8 % 3).ravel().tolist())
    mask.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30])
    mask.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), GREY8 % 3)


def test_mask_of_equal_channels_is_grey_and_of_true_colours_an_error(tmp_path):
    Image.fromarray(np.repeat((GREY8 % 2 * 255)[..., None], 3, -1).astype(np.uint8)).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), GREY8 % 2 * 255)
    Image.fromarray(COLOUR8).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png is in colours"):
        read_mask(tmp_path / "m.png")


def test_one_bit_mask_reads_as_0_and_255(tmp_path):
    Image.fromarray(GREY8 > 127).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), (GREY8 > 127) * 255)


def test_hidden_and_other_files_are_passed_over(tmp_path):
    for name in ("b10.PNG", "b9.png", ".hidden.png", "._b9.png"):
        Image.fromarray(GREY8).save(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_paths(tmp_path)] == ["b9.png", "b10.PNG"]


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".jfif", ".pgm", ".ppm", ".pbm", ".jp2"])
def test_other_formats_are_images(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(GREY8 > 127) if suffix == ".pbm" else Image.fromarray(COLOUR8)
    image.save(path, **({"format": "JPEG"} if suffix == ".jfif" else {"lossless": True} if suffix == ".webp" else {}))
    assert image_paths(tmp_path) == [path] and read_image(path).shape[1:] == (9, 7)
    if suffix in (".webp", ".ppm"):
        assert np.array_equal(read_image(path), COLOUR8.transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "webp", "tif", "lzw", "16 bit", "16 bit colour"])
def test_an_orientation_tag_turns_pixels_only_where_asked(tmp_path, kind, orientation):
    upright = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose,
               6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}[orientation]
    tag, exif = [(274, "H", 1, orientation, True)], Image.Exif()
    exif[274] = orientation
    path, stored = tmp_path / ("a.webp" if kind == "webp" else "a.png" if kind == "png" else "a.tif"), GREY8
    if kind in ("png", "webp"):
        Image.fromarray(GREY8).save(path, exif=exif, **({"lossless": True} if kind == "webp" else {}))
    elif kind == "lzw":
        Image.fromarray(GREY8).save(path, compression="tiff_lzw", tiffinfo={274: orientation})
    else:
        stored = {"tif": GREY8, "16 bit": GREY16, "16 bit colour": COLOUR16[..., :3]}[kind]
        tifffile.imwrite(path, stored, photometric="rgb" if stored.ndim == 3 else "minisblack", extratags=tag)
    first = stored[..., 0] if stored.ndim == 3 else stored
    for asked, expected in ((False, first), (True, upright(first))):
        pixels, found = image_files.read_image(path, upright=asked)
        values = np.rint(pixels[0] * 65535.0) if pixels.dtype == np.float32 else pixels[0]
        assert found == orientation and np.array_equal(values, expected)
    if stored.ndim == 2:
        assert np.array_equal(read_mask(path, upright=True), upright(stored)) or kind == "webp"


def test_floats_in_0_to_1_are_kept_and_others_refused(tmp_path):
    path = tmp_path / "f.tif"
    for dtype in (np.float32, np.float64, np.float16):
        pixels = np.linspace(0, 1, 63, dtype=dtype).reshape(9, 7)
        tifffile.imwrite(path, pixels)
        assert read_image(path).dtype == np.float32 and np.array_equal(read_image(path)[0], pixels.astype(np.float32))
    for bad in (-0.5, 1.5, np.nan, np.inf):
        pixels[0, 0] = bad
        tifffile.imwrite(path, pixels.astype(np.float32))
        with pytest.raises(InputError, match=r"f\.tif holds float32 values from .* floats must lie in 0\.\.1: rescale"):
            read_image(path)


def test_masks_of_floats_hold_whole_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", (GREY8 % 3).astype(np.float32))
    assert np.array_equal(read_mask(tmp_path / "m.tif"), GREY8 % 3)
    tifffile.imwrite(tmp_path / "m.tif", np.full((9, 7), 0.5, np.float32))
    with pytest.raises(InputError, match="masks hold whole numbers"):
        read_mask(tmp_path / "m.tif")


@pytest.mark.parametrize("suffix, options", [(".jpg", {}), (".png", {"format": "JPEG"}), (".webp", {"quality": 80}),
                                             (".tif", {"compression": "jpeg"}), (".avif", {})])
def test_lossy_masks_are_refused(tmp_path, suffix, options):
    path = tmp_path / f"m{suffix}"
    Image.fromarray(np.kron(GREY8 % 4, np.ones((4, 4), np.uint8)) * 60).save(path, **options)
    with pytest.raises(InputError, match=f"mask .*m{suffix} is compressed as .*, which changes values"):
        read_mask(path)


def test_a_lossy_mask_of_0_and_255_alone_and_a_lossless_webp_are_masks(tmp_path):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "m.jpg")
    assert not read_mask(tmp_path / "m.jpg").any()
    Image.fromarray(GREY8 % 5).save(tmp_path / "m.webp", lossless=True)
    assert np.array_equal(read_mask(tmp_path / "m.webp"), GREY8 % 5)


def test_a_mask_whose_values_readers_stretch_is_refused(tmp_path):
    (tmp_path / "m.pgm").write_bytes(b"P5 3 1 3\n" + bytes([0, 1, 3]))
    with pytest.raises(InputError, match=r"m\.pgm states 3 as its largest value"):
        read_mask(tmp_path / "m.pgm")


def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"a\.png is a symbolic link to .*gone\.png, which does not exist"):
        image_paths(tmp_path)


def test_16_bit_colour_that_would_be_cut_to_8_is_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 65535\n" + bytes(range(6)))
    with pytest.raises(InputError, match=r"a\.ppm is 16-bit colour, which is read from PNG and TIFF only"):
        read_image(tmp_path / "a.ppm")
