"""Random images that nothing learns from: alike each time."""

import numpy as np

from harness.datasets import noise


def test_splits_are_disjoint_and_repeatable():
    data, again, other = noise.load(()), noise.load(()), noise.load((), seed=1)
    images = [image for split in (data.train, data.validation, data.test) for image in split.images]
    assert all(image.shape == (3, 8, 8) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == len(images) == 6
    assert data.fingerprint == again.fingerprint != other.fingerprint
    assert data.train.labels is None and data.class_names == ()
