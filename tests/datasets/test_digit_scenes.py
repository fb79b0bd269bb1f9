from importlib.metadata import distribution
from importlib.resources import files

import numpy as np
import pytest
from scipy import ndimage

from harness.datasets import digit_scenes


@pytest.fixture(scope="module")
def data():
    return digit_scenes.load(("images", "masks"), train=60, validation=12, test=24)


def test_photographs_are_shared_by_no_two_splits():
    names = [name for part in digit_scenes.PHOTOGRAPHS.values() for name in part]
    assert len(set(names)) == len(names)


def test_photographs_come_with_the_packages_and_are_not_downloaded():
    shipped = {file.name for package in ("scikit-image", "scikit-learn") for file in distribution(package).files}
    assert {name for part in digit_scenes.PHOTOGRAPHS.values() for name in part} <= shipped
    assert (files("skimage") / "data" / "coffee.png").is_file()


def test_digits_are_shared_by_no_two_splits(monkeypatch):
    members = []

    class Recording(digit_scenes.Pen):
        def __init__(self, digits, chosen):
            super().__init__(digits, chosen)
            members.append(set(chosen.tolist()))

    monkeypatch.setattr(digit_scenes, "Pen", Recording)
    digit_scenes.load(("images", "masks"), train=1, validation=1, test=1)
    train, validation, test = members
    assert not (train & validation or train & test or validation & test)
    assert len(train | validation | test) == 1797


def test_every_scene_has_two_to_four_digits_on_mostly_background(data):
    for mask in data.train.masks:
        # a stroke may be broken in two by the grid, so parts within two pixels count as one digit
        digits = sum(ndimage.label(ndimage.binary_dilation(mask == k, iterations=2))[1] for k in range(1, 11))
        assert 1 <= digits <= 7
        assert len(np.unique(mask)) >= 2
    share = np.mean(data.train.masks > 0)
    assert 0.04 < share < 0.12


def test_every_class_occurs(data):
    assert set(np.unique(data.train.masks)) == set(range(11))


def test_strokes_are_thin(data):
    depth = [ndimage.distance_transform_cdt(mask > 0).max() for mask in data.train.masks]
    assert np.median(depth) <= 2 and max(depth) <= 4


def test_ink_differs_from_its_surroundings_but_not_in_one_direction(data):
    differences = []
    for image, mask in zip(data.train.images, data.train.masks, strict=True):
        grey = image.mean(0)
        for k in np.unique(mask)[1:]:
            near = ndimage.binary_dilation(mask == k, iterations=4) & (mask == 0)
            differences.append(grey[mask == k].mean() - grey[near].mean())
    differences = np.array(differences)
    assert np.median(np.abs(differences)) > 20
    assert 0.2 < np.mean(differences > 0) < 0.8
