import numpy as np
import pytest
from scipy import ndimage

from harness.datasets import cells


@pytest.fixture(scope="module")
def data():
    return cells.load(("images", "masks"), train=40, validation=4, test=4)


def test_border_is_a_rim_no_wider_than_two_pixels_and_encloses_every_cell(data):
    for mask in data.train.masks:
        # inside a cell there is no step from cell to background without border between
        inside, outside = mask == 1, mask == 0
        assert not (ndimage.binary_dilation(inside) & outside).any()
        # an erosion by more than the rim leaves nothing of it
        assert not ndimage.binary_erosion(mask == 2, np.ones((4, 4))).any()


def test_cells_touch(data):
    touching = 0
    for mask in data.train.masks:
        clumps = ndimage.label(mask > 0)[1]
        bodies = ndimage.label(mask == 1)[1]
        touching += bodies > clumps
    assert touching > 0.9 * len(data.train)


def test_class_shares_are_useful(data):
    share = np.bincount(data.train.masks.ravel(), minlength=3) / data.train.masks.size
    assert share[0] > 0.4 and share[1] > 0.2 and 0.05 < share[2] < 0.2


def test_cells_are_brighter_than_background_yet_no_threshold_finds_them(data):
    image, inside = data.train.images[:, 0], data.train.masks > 0
    assert image[inside].mean() > image[~inside].mean() + 30
    best = max(np.mean((image > level) == inside) for level in range(0, 255, 5))
    assert best < 0.97


def test_a_larger_image_shows_more_cells_of_the_same_size():
    count = []
    for size in (48, 144):
        masks = cells.load(("images", "masks"), image_size=size, train=6, validation=1, test=1).train.masks
        count.append(np.mean([ndimage.label(mask == 1)[1] for mask in masks]))
    assert 5 < count[1] / count[0] < 15
