"""What all data sets that need no files keep to."""

import numpy as np
import pytest

from harness.datasets import cells, digit_scenes
from harness.errors import InputError

SMALL = {"train": 12, "validation": 3, "test": 5}
SCENES = [pytest.param(cells, id="cells"), pytest.param(digit_scenes, id="digit_scenes")]


@pytest.mark.parametrize("module", SCENES)
def test_shapes_dtypes_and_names(module):
    data = module.load(("images", "masks"), image_size=48, **SMALL)
    channels = {"cells": 1, "digit_scenes": 3}[data.name]
    names = []
    for split, count in zip((data.train, data.validation, data.test), SMALL.values(), strict=True):
        assert split.images.shape == (count, channels, 48, 48) and split.images.dtype == np.uint8
        assert split.masks.shape == (count, 48, 48) and split.masks.dtype == np.uint8
        assert split.masks.max() < len(data.class_names)
        assert all(np.unique(mask).size >= 2 for mask in split.masks)
        names += split.names
    assert len(set(names)) == len(names) == 20
    assert data.image_size == (48, 48)


@pytest.mark.parametrize("module", SCENES)
def test_same_seed_same_data_and_another_seed_other_data(module):
    first, again = (module.load(("images", "masks"), **SMALL) for _ in range(2))
    other = module.load(("images", "masks"), **SMALL, seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize("module", SCENES)
def test_a_longer_split_begins_with_the_shorter_and_leaves_the_others_alone(module):
    short = module.load(("images", "masks"), **SMALL)
    long = module.load(("images", "masks"), **SMALL | {"train": 15})
    assert np.array_equal(long.train.images[:12], short.train.images)
    assert np.array_equal(long.test.images, short.test.images)


@pytest.mark.parametrize("module", SCENES)
def test_splits_differ(module):
    data = module.load(("images", "masks"), train=3, validation=3, test=3)
    assert not (data.train.images == data.test.images).all((1, 2, 3)).any()


@pytest.mark.parametrize("module", SCENES)
@pytest.mark.parametrize("options", [{"train": 0}, {"test": -1}, {"image_size": 8}, {"train": 1.5}])
def test_bad_sizes_name_the_option(module, options):
    with pytest.raises(InputError, match=next(iter(options))):
        module.load(("images", "masks"), **SMALL | options)
