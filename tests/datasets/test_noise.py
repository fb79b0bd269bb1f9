"""Random images that nothing learns from: alike each time, and for the efficiency suite only."""

import numpy as np
import pytest

from harness.datasets import noise
from harness.errors import InputError


def test_splits_are_disjoint_and_repeatable():
    data, again, other = noise.load("efficiency"), noise.load("efficiency"), noise.load("efficiency", seed=1)
    images = [image for split in (data.train, data.validation, data.test) for image in split.images]
    assert all(image.shape == (3, 8, 8) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == len(images) == 6
    assert data.fingerprint == again.fingerprint != other.fingerprint
    assert data.train.targets is None and data.class_names == ()


def test_another_task():
    with pytest.raises(InputError, match="'noise' is for efficiency, not for generation"):
        noise.load("generation")
