import numpy as np

from harness.datasets import digits


def test_every_digit_once_scaled_to_the_full_range():
    from sklearn.datasets import load_digits

    raw = load_digits()
    data = digits.load(("images",))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1078, 180, 539]
    seen = []
    for split in (data.train, data.validation, data.test):
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (1, 8, 8)
        for image, label, name in zip(split.images, split.labels, split.names, strict=True):
            index = int(name)
            assert label == raw.target[index]
            assert np.abs(image[0] - raw.images[index] * 255 / 16).max() <= 0.5
            seen.append(index)
    assert sorted(seen) == list(range(1797))


def test_classes_have_the_same_shares_in_every_split():
    data = digits.load(("images",))
    counts = np.array([np.bincount(split.labels, minlength=10)
                       for split in (data.train, data.validation, data.test)])
    wanted = np.outer([0.6, 0.1, 0.3], counts.sum(0))
    assert np.abs(counts - wanted).max() <= 2


def test_the_seed_alone_decides_the_split():
    one, same, other = (digits.load(("images",), seed=seed) for seed in (0, 0, 1))
    assert one.test.names == same.test.names != other.test.names
