"""Boundary IoU and HD95 on masks small enough to count by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import ndimage

from harness.metrics import boundary


def square(size: int, top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((size, size), int)
    mask[top:top + side, left:left + side] = 1
    return mask


def band(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Boundary IoU of class 1 of one image."""
    return boundary.boundary_iou(prediction[None], truth[None], 2)[0, 1]


def distance(prediction: np.ndarray, truth: np.ndarray) -> float:
    """HD95 of class 1 of one image."""
    return boundary.hd95(prediction[None], truth[None], 2)[0, 1]


@pytest.mark.parametrize(("height", "width", "pixels"), [(8, 8, 1), (64, 64, 2), (512, 512, 14), (300, 400, 10)])
def test_width_of_the_band(height, width, pixels):
    assert boundary.boundary_width(height, width) == pixels


def test_boundary_iou_by_hand():
    # Rings one pixel wide (20x20 has d = 1) of two 6x6 squares, one moved right by 1: 20 pixels each.
    # They share the top and bottom rows' 5 common columns; the side columns lie beside each other.
    truth, prediction = square(20, 5, 5, 6), square(20, 5, 6, 6)
    shared = 2 * 5
    assert band(prediction, truth) == pytest.approx(shared / (20 + 20 - shared))
    # Overlap hardly notices what the boundary does: the squares' own IoU is 30/42.
    assert band(prediction, truth) < 30 / 42


def test_band_follows_its_definition_on_random_masks():
    draws = np.random.default_rng(0)
    truth, prediction = draws.random((2, 70, 50)) < 0.9
    width = boundary.boundary_width(*truth.shape)
    assert width == 2

    def band_of(mask):
        outside = np.pad(~mask, width, constant_values=True)
        near = np.zeros_like(mask)
        for y in range(2 * width + 1):
            for x in range(2 * width + 1):
                near |= outside[y:y + mask.shape[0], x:x + mask.shape[1]]
        return mask & near

    expected = (band_of(truth) & band_of(prediction)).sum() / (band_of(truth) | band_of(prediction)).sum()
    assert band(prediction, truth) == pytest.approx(expected, rel=1e-12)


def test_the_image_border_is_a_boundary():
    full, hole = np.ones((20, 20), int), np.ones((20, 20), int)
    hole[10, 10] = 0
    # The ring of 76 border pixels is shared; the hole adds its 8 neighbours to one side.
    assert band(hole, full) == pytest.approx(76 / 84)


def test_hd95_by_hand():
    truth = square(20, 5, 5, 6)
    assert distance(truth, truth) == 0
    # Moved by 3: of 20 outline pixels, the far column's six lie 3 away, the near side's less. 95th is 3.
    assert distance(square(20, 5, 8, 6), truth) == pytest.approx(3)
    # One stray pixel at distance 10 among 21 outline pixels: quantile 0.95 of 21 is the 20th, which is 0.
    stray = truth.copy()
    stray[7, 0] = 1
    assert distance(stray, truth) == pytest.approx(0)
    # Of two pixels at 0 and 5 the quantile is interpolated: 0.95 * 5.
    one, two = np.zeros((8, 8), int), np.zeros((8, 8), int)
    one[1, 1] = two[1, 1] = two[1, 6] = 1
    assert distance(two, one) == pytest.approx(4.75)


def test_empty_masks():
    none, some = np.zeros((20, 20), int), square(20, 5, 5, 6)
    predictions, truths = np.stack([some, none, none, some]), np.stack([none, some, none, some])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bands, distances = (score(predictions, truths, 3) for score in (boundary.boundary_iou, boundary.hd95))
    assert bands.shape == distances.shape == (4, 3)
    np.testing.assert_array_equal(bands[:, 1], [0, 0, np.nan, 1])
    np.testing.assert_array_equal(distances[:, 1], [np.nan, np.nan, np.nan, 0])


def test_summary_counts_what_was_left_out():
    none, some, moved = np.zeros((20, 20), int), square(20, 5, 5, 6), square(20, 5, 8, 6)
    masks = np.stack([some, moved, none, none]), np.stack([some, some, some, none])
    found = boundary.summarise(boundary.boundary_iou(*masks, 3), boundary.hd95(*masks, 3),
                               ("background", "cell", "nucleus"), 0)
    assert list(found)[:2] == ["boundary_iou_macro", "hd95_macro"]
    assert set(list(found)[2:]) == {f"{m}/{c}" for m in ("boundary_iou", "hd95")
                                    for c in ("background", "cell", "nucleus")}
    assert found["hd95_macro"].value == found["hd95/cell"].value == pytest.approx(1.5)
    assert (found["hd95/cell"].n, found["hd95/cell"].undefined) == (4, 2)
    assert (found["hd95_macro"].n, found["hd95_macro"].undefined) == (8, 6)
    assert (found["hd95_macro"].unit, found["hd95_macro"].direction) == ("px", "lower")
    shared = 2 * 3
    assert found["boundary_iou/cell"].value == pytest.approx((1 + shared / (40 - shared) + 0) / 3)
    assert (found["boundary_iou/cell"].n, found["boundary_iou/cell"].undefined) == (4, 1)
    assert found["boundary_iou_macro"].direction == "higher"
    assert math.isnan(found["hd95/nucleus"].value) and found["hd95/nucleus"].undefined == 4


def test_case_rows():
    masks = square(20, 5, 8, 6)[None], square(20, 5, 5, 6)[None]
    rows = boundary.case_rows(boundary.boundary_iou(*masks, 2), boundary.hd95(*masks, 2), ["only"],
                              ("background", "cell"))
    assert {"case": "only", "metric": "hd95", "class": "cell", "value": pytest.approx(3)} in rows
    assert [row["metric"] for row in rows] == ["boundary_iou"] * 2 + ["hd95"] * 2


def test_right_wherever_truth_is_known_is_perfect_whatever_lies_elsewhere():
    truth = np.zeros((1, 30, 30), int)
    truth[0, 5:20, 5:20] = 1
    truth[0, 10:, 10:] = 255                       # the object's end is not known
    guesses = [np.where(truth == 255, fill, truth) for fill in (0, 1)]
    for prediction in guesses:
        assert boundary.boundary_iou(prediction, truth, 2, ignore=255)[0].tolist() == [1, 1]
        assert boundary.hd95(prediction, truth, 2, ignore=255)[0].tolist() == [0, 0]
    only_there = np.where(truth == 255, 2, truth)  # a class that no known pixel has is undefined
    for score in (boundary.boundary_iou, boundary.hd95):
        assert np.isnan(score(only_there, truth, 3, ignore=255)[0, 2])


def test_bands_count_known_pixels_only():
    """Against bands from distance transforms of each class, with truth completed by the prediction."""
    draws = np.random.default_rng(1)
    blobs = (ndimage.gaussian_filter(draws.standard_normal((3, 2, 40, 40)), (0, 0, 4, 4)) > 0).astype(int)
    prediction, target, unknown = blobs[0], blobs[1], blobs[2] == 1
    masked = np.where(unknown, 255, target)
    found, width = boundary.boundary_iou(prediction, masked, 2, ignore=255), boundary.boundary_width(40, 40)
    for i in range(2):
        completed = np.where(unknown[i], prediction[i], target[i])
        for k in range(2):
            bands = []
            for ids in (prediction[i], completed):
                inside = np.pad(ids == k, 1)
                distance = ndimage.distance_transform_cdt(inside, "chessboard")[1:-1, 1:-1]
                bands.append((distance > 0) & (distance <= width) & ~unknown[i])
            assert found[i, k] == pytest.approx((bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum())
