"""Dice and IoU from per-image confusion counts, and how per-image values become one number.

THE rule for empty masks, the same in every metric of segmentation:

* A class that an image has in neither truth nor prediction is *undefined* there (NaN): it is left out of
  means and counted in ``Metric.undefined``. It is never 1, which would reward data sets of rare classes.
* A class that is in only one of the two scores 0: missing it, or inventing it, is a complete failure.
* Macro: for each class the mean over the images where it is defined, then the mean over classes. The data set's
  background (``Dataset.background``, whatever its name) is left out, and a class defined on no image likewise.
* Micro: counts are summed over images and the same classes, then the score is computed once.

``Metric.n`` counts the values that went in before leaving any out: image-class pairs for macro scores,
images for micro and per-class scores. ``Metric.undefined`` says how many of those were undefined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_stat_scores

from harness.record import Metric

EMPTY_MASKS = "absent from truth and prediction: left out; absent from one: 0"


def confusion_counts(prediction, target, num_classes: int, ignore: int | None = None) -> np.ndarray:
    """Counts of true positive, false positive and false negative pixels per image and class.

    ``prediction`` and ``target`` (N, H, W): class ids 0..K-1 as arrays or tensors of any integer type,
    K = ``num_classes`` >= 2. Images of different sizes are counted one call each and concatenated. Pixels that
    ``target`` marks with the value ``ignore`` count nowhere, whatever is predicted there.
    Returns (N, K, 3) int64: tp, fp, fn. Raises RuntimeError (torchmetrics') for a class id out of range.
    """
    scores = multiclass_stat_scores(
        torch.as_tensor(prediction).long(), torch.as_tensor(target).long(), num_classes,
        average=None, multidim_average="samplewise", ignore_index=ignore)      # (N, K, 5): tp, fp, tn, fn, support
    return scores[..., [0, 1, 3]].cpu().numpy().astype(np.int64)


def dice(counts: np.ndarray) -> np.ndarray:
    """Dice = 2 tp / (2 tp + fp + fn) of counts (..., 3); float64 (...), NaN where all three are 0."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(counts: np.ndarray) -> np.ndarray:
    """IoU (Jaccard) = tp / (tp + fp + fn) of counts (..., 3); float64 (...), NaN where all three are 0."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return _ratio(tp, tp + fp + fn)


def summarise(counts: np.ndarray, class_names: Sequence[str], background: int | None) -> dict[str, Metric]:
    """All overlap metrics of a test split, headline first.

    ``counts`` (N, K, 3) from :func:`confusion_counts`; averages leave out the class ``background``. Returns
    ``dice_macro``, ``dice_micro``, ``iou_macro``,
    ``iou_micro``, then ``dice/<class>`` and ``iou/<class>`` for every class, the background included.
    """
    assert counts.ndim == 3 and counts.shape[1:] == (len(class_names), 3)
    kept = foreground(len(class_names), background)
    pooled = counts[:, kept].sum(axis=(0, 1))
    metrics = {}
    for name, label, score in (("dice", "Dice", dice), ("iou", "IoU", iou)):
        metrics[f"{name}_macro"] = macro(score(counts), class_names, background, label=label,
                                         empty=EMPTY_MASKS)
        value = float(score(pooled))
        metrics[f"{name}_micro"] = Metric(
            value=value, label=f"{label} (micro)", unit="", direction="higher", n=len(counts),
            undefined=len(counts) if np.isnan(value) else 0,
            protocol={"average": "counts pooled over images and classes",
                      "classes": [class_names[index] for index in kept], "empty": EMPTY_MASKS})
    for name, label, score in (("dice", "Dice", dice), ("iou", "IoU", iou)):
        metrics |= per_class(score(counts), class_names, name=name, label=label, empty=EMPTY_MASKS)
    return metrics


def case_rows(counts: np.ndarray, names: Sequence[str], class_names: Sequence[str]) -> list[dict]:
    """Rows (case, metric, class, value) for ``cases.csv``: Dice and IoU of every image and class.

    ``counts`` (N, K, 3), ``names`` of the N images. Undefined values stay in as NaN.
    """
    return (value_rows(dice(counts), "dice", names, class_names)
            + value_rows(iou(counts), "iou", names, class_names))


def foreground(classes: int, background: int | None) -> list[int]:
    """Ids of the classes that averages run over: all but the ``background``."""
    return [index for index in range(classes) if index != background]


def macro(values: np.ndarray, class_names: Sequence[str], background: int | None, *, label: str, empty: str,
          unit: str = "", direction: str = "higher", **protocol) -> Metric:
    """Mean over foreground classes of the mean over the images where the class is defined.

    ``values`` (N, K), NaN where undefined; ``empty`` states the rule for empty masks in the protocol.
    """
    kept = foreground(len(class_names), background)
    values = values[:, kept]
    return Metric(
        value=_mean(np.array([_mean(column) for column in values.T])), label=f"{label} (macro)", unit=unit,
        direction=direction, n=values.size, undefined=int(np.isnan(values).sum()),
        protocol={"average": "mean over classes of means over images", "classes": [class_names[i] for i in kept],
                  "empty": empty, **protocol})


def per_class(values: np.ndarray, class_names: Sequence[str], *, name: str, label: str, empty: str,
              unit: str = "", direction: str = "higher", **protocol) -> dict[str, Metric]:
    """``<name>/<class>``: for every class the mean over the images where it is defined. ``values`` (N, K)."""
    return {
        f"{name}/{class_name}": Metric(
            value=_mean(column), label=f"{label} {class_name}", unit=unit, direction=direction, n=len(column),
            undefined=int(np.isnan(column).sum()),
            protocol={"average": "mean over images", "empty": empty, **protocol})
        for class_name, column in zip(class_names, values.T, strict=True)}


def value_rows(values: np.ndarray, metric: str, names: Sequence[str], class_names: Sequence[str]) -> list[dict]:
    """One row (case, metric, class, value) for each entry of ``values`` (N, K), image by image."""
    return [{"case": case, "metric": metric, "class": class_name, "value": float(value)}
            for case, row in zip(names, values, strict=True)
            for class_name, value in zip(class_names, row, strict=True)]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN where none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
