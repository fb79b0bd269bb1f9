import numpy as np
import pytest

from harness.datasets.parts.display import display_range, displayed, range_words, row_of_tiles


def test_12_bit_values_in_16_bit_files_are_stretched():
    values = np.linspace(0, 4095, 1200).reshape(1, 30, 40)
    image = (values / 65535).astype(np.float32)
    span = display_range([image, image])
    assert span == pytest.approx((0.005 * 4095 / 65535, 0.995 * 4095 / 65535), rel=0.03)
    shown = displayed(image, span)
    assert shown.dtype == np.uint8 and (shown.min(), shown.max()) == (0, 255) and 120 < shown.mean() < 135
    assert "black 0.000" in range_words(span) and "white 0.062" in range_words(span)


@pytest.mark.parametrize("image", [np.arange(256, dtype=np.uint8).reshape(1, 16, 16), np.zeros((1, 4, 4), np.uint8),
                                   np.linspace(0.2, 0.9, 64, dtype=np.float32).reshape(1, 8, 8)])
def test_values_that_use_their_range_and_flat_ones_stay(image):
    assert display_range([image]) is None and range_words(None) == ""
    expected = image if image.dtype == np.uint8 else np.rint(255 * image)
    assert np.array_equal(displayed(image, None), expected)


def test_8_bit_images_are_stretched_alike():
    image = np.arange(40, 60, dtype=np.uint8).reshape(1, 4, 5)
    shown = displayed(image, display_range([image]))
    assert (np.diff(shown.ravel().astype(int)) > 0).all() and shown.max() == 255 and shown.min() == 0


def test_tiles_are_cut_to_the_middle_or_padded():
    row = row_of_tiles([np.arange(36).reshape(6, 6), np.full((2, 2), 7)], (4, 4), 9)
    assert row.shape == (4, 8) and row[0, 0] == 7 and row[3, 3] == 28
    assert (row[1:3, 5:7] == 7).all() and (row[:, 4] == 9).all() and (row[0, 4:] == 9).all()
