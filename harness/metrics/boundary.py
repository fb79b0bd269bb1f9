"""Boundary IoU and HD95: how well edges are drawn, which overlap hardly notices on large objects.

Empty masks follow the rule in ``harness/metrics/overlap.py`` for boundary IoU. HD95 is a distance between
two outlines, so a class that is missing from truth *or* prediction has none: it is undefined and counted.
A network can thus look good in HD95 by missing what is hard; read it beside ``Metric.undefined`` and Dice.

Pixels whose truth is unknown (``ignore``) take the prediction's class before edges are found, and count in no band.
Were they a class of their own, their rim would be an edge that no network can draw; were they background, an object
that runs into them would end there. So a prediction that is right wherever truth is known has boundary IoU 1 and HD95
0, whatever it says elsewhere. A class counts as present in truth or prediction where a known pixel has it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage

from harness.metrics.overlap import EMPTY_MASKS, macro, per_class, value_rows
from harness.record import Metric

DILATION_RATIO = 0.02          # of the image diagonal; the paper's choice
NO_OUTLINE = "absent from truth or prediction: left out"


def boundary_width(height: int, width: int) -> int:
    """Width d of the boundary band in pixels: 0.02 of the image diagonal, at least 1."""
    return max(1, round(DILATION_RATIO * math.hypot(height, width)))


def boundary_iou(prediction, target, num_classes: int, ignore: int | None = None) -> np.ndarray:
    """IoU of the boundary bands of truth and prediction, per image and class.

    The band of a mask: its own pixels within chessboard distance d of a pixel outside it, where beyond the
    image counts as outside. ``prediction`` and ``target`` (N, H, W): class ids 0..K-1, arrays or tensors of
    any integer type. Returns (N, K) float64, NaN where a class is in neither.

    Cheng et al. 2021, "Boundary IoU", arXiv:2103.16562.
    """
    prediction, target = _ids(prediction), _ids(target)
    scores = np.full((len(target), num_classes), np.nan)
    for row, predicted, true in zip(scores, prediction, target, strict=True):
        true, known = _completed(predicted, true, ignore)
        band_p, band_t = _band(predicted) & known, _band(true) & known
        shared, in_p, in_t = (np.bincount(ids, minlength=num_classes) for ids in (
            true[band_p & band_t & (predicted == true)], predicted[band_p], true[band_t]))
        either = in_p + in_t - shared
        np.divide(shared, either, out=row, where=either > 0)       # a mask that has pixels has a band
    return scores


def hd95(prediction, target, num_classes: int, ignore: int | None = None) -> np.ndarray:
    """95th percentile Hausdorff distance between outlines, in pixels, per image and class.

    The larger of the two directed 95th percentiles (MONAI's). ``prediction`` and ``target`` (N, H, W) class
    ids. Returns (N, K) float64, NaN where the class is absent from truth or from prediction.
    """
    prediction, target = _ids(prediction), _ids(target)
    distances = np.full((len(target), num_classes), np.nan)
    with warnings.catch_warnings():                # MONAI 1.6 warns of an argument that MONAI itself passes
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        for row, predicted, true in zip(distances, prediction, target, strict=True):
            true, known = _completed(predicted, true, ignore)
            for class_id in np.intersect1d(predicted[known], true[known]):
                row[class_id] = compute_hausdorff_distance(
                    (predicted == class_id)[None, None], (true == class_id)[None, None],
                    include_background=True, percentile=95)
    return distances


def summarise(boundary: np.ndarray, distances: np.ndarray, class_names: Sequence[str],
              background: int | None) -> dict[str, Metric]:
    """All boundary metrics of a test split, headline first.

    ``boundary`` (N, K) from :func:`boundary_iou`, ``distances`` (N, K) from :func:`hd95`; averages leave out the class
    ``background``. Returns
    ``boundary_iou_macro``, ``hd95_macro``, then ``boundary_iou/<class>`` and ``hd95/<class>``.
    """
    band = {"label": "boundary IoU", "empty": EMPTY_MASKS, "dilation_ratio": DILATION_RATIO}
    outline = {"label": "HD95", "empty": NO_OUTLINE, "unit": "px", "direction": "lower", "percentile": 95}
    return {
        "boundary_iou_macro": macro(boundary, class_names, background, **band),
        "hd95_macro": macro(distances, class_names, background, **outline),
        **per_class(boundary, class_names, name="boundary_iou", **band),
        **per_class(distances, class_names, name="hd95", **outline),
    }


def case_rows(boundary: np.ndarray, distances: np.ndarray, names: Sequence[str],
              class_names: Sequence[str]) -> list[dict]:
    """Rows (case, metric, class, value) for ``cases.csv``; undefined values stay in as NaN."""
    return (value_rows(boundary, "boundary_iou", names, class_names)
            + value_rows(distances, "hd95", names, class_names))


def _ids(masks) -> np.ndarray:
    """(N, H, W) class ids on the CPU, where both metrics are computed."""
    return torch.as_tensor(masks).long().cpu().numpy()


def _completed(predicted: np.ndarray, true: np.ndarray, ignore: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Truth with the prediction where it is unknown, and where it is known; each (H, W)."""
    known = true != ignore if ignore is not None else np.ones(true.shape, bool)
    return np.where(known, true, predicted), known


def _band(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with another class, or the image's end, within the band's width. All classes at once."""
    window = {"size": 2 * boundary_width(*mask.shape) + 1, "mode": "constant", "cval": -1}
    return (ndimage.minimum_filter(mask, **window) != mask) | (ndimage.maximum_filter(mask, **window) != mask)
