"""Images are never turned against their masks, whatever tags either of them has."""

import numpy as np
import pytest
from PIL import Image

from harness.datasets import folder
from harness.errors import InputError

MASKS, IMAGES = ("images", "masks"), ("images",)
UPRIGHT_MASK = np.zeros((12, 20), np.uint8)
UPRIGHT_MASK[2:5, 3:6] = 255
BACK = {3: 2, 6: 1, 8: 3}                          # turns of 90 degrees from upright pixels to stored ones


def write(root, *, image=1, mask=1, drawn_upright=True, picture=UPRIGHT_MASK, suffix="png"):
    """Three pairs whose pictures are bright where the upright mask is; tags of image and mask."""
    for kind, tag in (("images", image), ("masks", mask)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        stored = np.rot90(picture, BACK[image]) if image != 1 and (kind == "images" or not drawn_upright) else picture
        exif = Image.Exif()
        exif[274] = tag
        for i in range(3):
            pixels = stored if kind == "masks" else np.maximum(stored // 2, i).astype(np.uint8)
            Image.fromarray(np.ascontiguousarray(pixels)).save(root / kind / f"{i}.{suffix}", exif=exif)
    return str(root)


def fits(data):
    """Every image is bright exactly where its mask is."""
    for split in (data.train, data.validation, data.test):
        for image, mask in zip(split.images, split.masks, strict=True):
            assert np.array_equal(image[0] > 100, mask == 1)
    return data


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("tag", [6, 8])
def test_images_are_turned_where_only_that_fits(tag, suffix, tmp_path):
    data = fits(folder.load(MASKS, root=write(tmp_path, image=tag, suffix=suffix)))
    assert data.image_size == (12, 20)


@pytest.mark.parametrize("tag", [6, 8])
def test_images_stay_where_only_that_fits(tag, tmp_path):
    data = fits(folder.load(MASKS, root=write(tmp_path, image=tag, drawn_upright=False)))
    assert data.image_size == (20, 12)


@pytest.mark.parametrize("tag", [3, 6, 8])
def test_pairs_of_one_tag_are_turned_alike(tag, tmp_path):
    fits(folder.load(MASKS, root=write(tmp_path, image=tag, mask=tag, drawn_upright=False)))


@pytest.mark.parametrize("tags, square, odd", [
    ({"image": 3}, False, "images/0.png"), ({"image": 6}, True, "images/0.png"), ({"mask": 2}, False, "masks/0.png"),
    ({"mask": 6}, True, "masks/0.png"), ({"image": 3, "mask": 6}, True, "images/0.png")])
def test_pairs_that_fit_in_two_ways_are_refused(tags, square, odd, tmp_path):
    root = write(tmp_path, **tags, picture=UPRIGHT_MASK[:, :12] if square else UPRIGHT_MASK)
    with pytest.raises(InputError, match=rf"{odd} has the orientation tag \d and fits .* turned and as it lies: save "
                       "it upright where the mask was drawn on the upright picture, else remove the tag"):
        folder.load(MASKS, root=root)


def test_pairs_that_fit_in_no_way_are_refused(tmp_path):
    root = write(tmp_path, image=6)
    Image.fromarray(UPRIGHT_MASK[:9]).save(tmp_path / "masks" / "1.png")
    with pytest.raises(InputError, match=r"masks/1.png is 20x9 pixels but .*images/1.png is 12x20 .orientation tag 6"):
        folder.load(MASKS, root=root)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_images_to_generate_are_upright(suffix, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    stored = np.zeros((8, 8), np.uint8)
    stored[:4] = 200                                 # the upper half; upright, the right one
    for i in range(10):
        Image.fromarray(stored + i).save(tmp_path / f"{i}.{suffix}", exif=exif)
    image = folder.load(IMAGES, root=str(tmp_path), image_size=8).train.images[0][0]
    assert image[:, 6:].min() > 150 > 50 > image[:, :2].max()
