"""Images that stand in two splits, and the background, are known of a data set and are no part of old fingerprints."""

import numpy as np
import pytest

from harness.data_notes import notes, warnings
from harness.dataset import Dataset, Split, count_smaller
from harness.datasets.parts.store import keep, open_stored


def split(name, *values, shape=(6, 5)):
    images = [np.full((1, *shape), value, np.uint8) for value in values]
    return Split(images, [f"{name}{i}" for i in range(len(values))], [np.eye(*shape, dtype=np.uint8) for _ in values])


def dataset(train=(1, 2, 3), validation=(4,), test=(5, 6), **options):
    return Dataset("set", split("a", *train), split("b", *validation), split("c", *test), ("0", "1"), (6, 5), **options)


def test_images_in_two_splits_are_counted_and_said(tmp_path):
    data = dataset(validation=(3, 9), test=(1, 1, 9, 7))
    expected = {"validation": {"train": 1}, "test": {"train": 2, "validation": 1}}
    for one in (data, keep(data, tmp_path), open_stored(tmp_path, data.fingerprint)):
        assert one.describe()["duplicates"] == expected
    assert warnings(data.describe()) == ["1 of 2 validation images is also in train: equal pixels.",
                                         "2 of 4 test images are also in train: equal pixels.",
                                         "1 of 4 test images is also in validation: equal pixels."]
    assert "duplicates" not in dataset().describe() and warnings(dataset().describe()) == []


def test_a_background_other_than_class_0_is_part_of_the_content():
    ids = [dataset(**options).fingerprint for options in ({}, {"background": 0}, {"background": None},
                                                          {"background": 1})]
    assert ids[0] == ids[1] and len(set(ids)) == 3


@pytest.mark.parametrize("facts, words", [
    ({"crop": [128, 128], "padded_images": 2, "splits": {"train": 20, "validation": 5, "test": 5}},
     "2 of 30 images are smaller than the crop of 128 x 128 and are padded; what is padded does not count."),
    ({"few_samples": {"generated": 5, "train": 9, "features": 64}},
     "FID, KID, precision and recall come from 5 generated and 9 training images in 64 features: "),
    ({"left_out_of_means": "wall"}, "Means over classes leave out class 0 (wall), the background; the setting "
     "include_background: true counts it.")])
def test_what_is_said_of_facts(facts, words):
    (line,) = notes(facts)
    assert line.startswith(words)


def test_images_smaller_than_a_crop_in_one_direction_or_both(tmp_path):
    shapes = [(6, 5), (4, 9), (9, 4), (6, 6)]
    arrays = [np.zeros((1, *shape), np.uint8) for shape in shapes]
    assert [count_smaller(arrays, size) for size in ((6, 5), (7, 1), (1, 1), (10, 10))] == [2, 3, 0, 4]
    parts = (Split(arrays[:2], ["a", "b"]), Split(arrays[2:3], ["c"]), Split(arrays[3:], ["d"]))
    kept = keep(Dataset("set", *parts, (), (9, 9)), tmp_path)
    assert [count_smaller(part.images, (6, 5)) for part in (kept.train, kept.validation, kept.test)] == [1, 1, 0]
