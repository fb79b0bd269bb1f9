"""Dice and IoU against torchmetrics' and MONAI's own, on random and on degenerate masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_iou
from torchmetrics.functional.classification import multiclass_jaccard_index
from torchmetrics.functional.segmentation import dice_score

from harness.metrics import overlap

CLASSES = ("background", "a", "b", "c")


def random_masks(images: int = 6, size: int = 9, classes: int = 4, seed: int = 0):
    """Truth, and a prediction that is right on half of the pixels; some images lack classes."""
    draws = np.random.default_rng(seed)
    target = np.stack([draws.integers(0, draws.integers(1, classes + 1), (size, size)) for _ in range(images)])
    noise = draws.integers(0, classes, target.shape)
    prediction = np.where(draws.random(target.shape) < 0.5, target, noise)
    prediction[0] = 0
    return prediction, target


def degenerate_masks():
    """Empty truth, empty prediction, both empty, and all one class right and wrong (class 1 of 2)."""
    none, full, half = (np.zeros((4, 4), int), np.ones((4, 4), int), np.eye(4, dtype=int))
    pairs = ((half, none), (none, half), (none, none), (full, full), (full, none), (none, full), (half, half))
    return np.stack([p for p, _ in pairs]), np.stack([t for _, t in pairs])


def one_hot(masks: np.ndarray, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(masks), classes).movedim(-1, 1)


MASKS = [(*random_masks(), 4), (*random_masks(seed=1, classes=2), 2), (*degenerate_masks(), 2)]


@pytest.mark.parametrize(("prediction", "target", "classes"), MASKS)
def test_agrees_with_monai_per_image_and_class(prediction, target, classes):
    counts = overlap.confusion_counts(prediction, target, classes)
    hot = one_hot(prediction, classes), one_hot(target, classes)
    # MONAI leaves out every class that the truth lacks; ignore_empty=False calls an empty pair 1.
    # The rule here differs from both only where it says so: both empty is NaN, invented is 0.
    neither = (hot[0].sum((2, 3)) + hot[1].sum((2, 3)) == 0).numpy()
    for ours, theirs in ((overlap.dice(counts), compute_dice), (overlap.iou(counts), compute_iou)):
        expected = theirs(*hot, include_background=True, ignore_empty=False).numpy()
        np.testing.assert_allclose(ours, np.where(neither, np.nan, expected), rtol=1e-6)
        strict = theirs(*hot, include_background=True, ignore_empty=True).numpy()
        in_truth = ~np.isnan(strict)
        np.testing.assert_allclose(ours[in_truth], strict[in_truth], rtol=1e-6)


@pytest.mark.parametrize(("prediction", "target", "classes"), MASKS)
def test_agrees_with_torchmetrics(prediction, target, classes):
    counts = overlap.confusion_counts(prediction, target, classes)
    p, t = torch.from_numpy(prediction), torch.from_numpy(target)
    theirs = dice_score(p, t, classes, average="none", input_format="index").numpy()
    np.testing.assert_allclose(np.nan_to_num(overlap.dice(counts)), np.nan_to_num(theirs), rtol=1e-6)
    for i in range(len(p)):
        jaccard = multiclass_jaccard_index(p[i], t[i], classes, average="none").numpy()
        np.testing.assert_allclose(np.nan_to_num(overlap.iou(counts)[i]), jaccard, rtol=1e-6)
    pooled = multiclass_jaccard_index(p, t, classes, average="micro").item()
    assert float(overlap.iou(counts.sum((0, 1)))) == pytest.approx(pooled, rel=1e-6)


def test_counts_by_hand():
    target = [[[0, 1], [1, 2]]]
    prediction = [[[0, 1], [2, 2]]]
    counts = overlap.confusion_counts(np.array(prediction, np.uint8), torch.tensor(target), 3)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[[1, 0, 0], [1, 0, 1], [1, 1, 0]]]


def test_rule_for_empty_masks():
    prediction, target = degenerate_masks()
    dice = overlap.dice(overlap.confusion_counts(prediction, target, 2))[:, 1]
    np.testing.assert_array_equal(dice, [0, 0, np.nan, 1, 0, 0, 1])


def test_summary_of_two_images_by_hand():
    # image 0: a found half (tp 1, fn 1), b invented; image 1: a right, b in neither.
    counts = np.array([[[5, 1, 1], [1, 0, 1], [0, 1, 0]],
                       [[6, 0, 0], [2, 0, 0], [0, 0, 0]]])
    found = overlap.summarise(counts, ("any", "a", "b"), 0)
    assert list(found)[:4] == ["dice_macro", "dice_micro", "iou_macro", "iou_micro"]
    assert set(list(found)[4:]) == {f"{m}/{c}" for m in ("dice", "iou") for c in ("any", "a", "b")}
    assert found["dice/a"].value == pytest.approx((2 / 3 + 1) / 2)
    assert found["iou/a"].value == pytest.approx((1 / 2 + 1) / 2)
    assert (found["dice/b"].value, found["dice/b"].n, found["dice/b"].undefined) == (0, 2, 1)
    assert found["dice_macro"].value == pytest.approx((5 / 6 + 0) / 2)
    assert (found["dice_macro"].n, found["dice_macro"].undefined) == (4, 1)
    assert found["dice_micro"].value == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert found["iou_micro"].value == pytest.approx(3 / 5)
    assert (found["iou_micro"].n, found["iou_micro"].undefined) == (2, 0)
    assert found["dice/any"].value == pytest.approx((10 / 12 + 1) / 2)
    assert all(metric.direction == "higher" and metric.unit == "" for metric in found.values())
    assert found["dice_macro"].protocol["classes"] == ["a", "b"]


def test_without_a_background_class_every_class_counts():
    counts = overlap.confusion_counts(*random_masks(classes=2), 2)
    found = overlap.summarise(counts, ("background", "cell"), None)
    expected = (found["dice/background"].value + found["dice/cell"].value) / 2
    assert found["dice_macro"].value == pytest.approx(expected)
    assert found["dice_macro"].protocol["classes"] == ["background", "cell"]


def test_a_class_on_no_image_is_undefined_and_counted():
    counts = overlap.confusion_counts(np.zeros((3, 4, 4), int), np.zeros((3, 4, 4), int), 2)
    found = overlap.summarise(counts, ("background", "cell"), 0)
    for name in ("dice_macro", "dice_micro", "iou_macro", "dice/cell"):
        assert math.isnan(found[name].value) and found[name].undefined == found[name].n == 3
    assert found["dice/background"].value == 1


def test_protocol_tells_other_classes_apart():
    counts = np.ones((2, 2, 3), np.int64)
    one, two = (overlap.summarise(counts, ("y", "x"), background)["dice_macro"] for background in (0, None))
    assert one.fingerprint != two.fingerprint


def test_case_rows():
    prediction, target = random_masks(images=3)
    counts = overlap.confusion_counts(prediction, target, 4)
    rows = overlap.case_rows(counts, ["p", "q", "r"], CLASSES)
    assert len(rows) == 2 * 3 * 4 and all(set(row) == {"case", "metric", "class", "value"} for row in rows)
    [value] = [row["value"] for row in rows
               if (row["case"], row["metric"], row["class"]) == ("q", "iou", "b")]
    np.testing.assert_equal(value, overlap.iou(counts)[1, 2])


def test_images_of_different_sizes_are_counted_one_by_one():
    small, large = random_masks(images=1, size=5), random_masks(images=1, size=8)
    counts = np.concatenate([overlap.confusion_counts(*small, 4), overlap.confusion_counts(*large, 4)])
    assert counts.shape == (2, 4, 3)
    assert counts[..., [0, 2]].sum((1, 2)).tolist() == [25, 64]     # tp + fn = every pixel once


def test_ignored_pixels_count_nowhere():
    """As if they were cut out: counts of the pixels that are left, in a row."""
    draws = np.random.default_rng(0)
    prediction, target = draws.integers(0, 3, (2, 4, 9, 9))
    target[draws.random(target.shape) < 0.3] = 255
    counts = overlap.confusion_counts(prediction, target, 3, ignore=255)
    for row, predicted, true in zip(counts, prediction, target, strict=True):
        known = true != 255
        left = overlap.confusion_counts(predicted[known][None, None], true[known][None, None], 3)
        assert np.array_equal(row, left[0])
    assert not overlap.confusion_counts(prediction, np.full_like(target, 255), 3, ignore=255).any()
