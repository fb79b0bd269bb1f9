"""Segmentation losses by name: cross-entropy, soft Dice, soft IoU, and their sums.

Dice and IoU are MONAI's ``DiceLoss``; the choices that decide what they reward are made here, once:

* Sums run over the whole batch (``batch=True``), not per image. With per-image sums, a class that is
  absent from an image (most are, with eleven classes) costs about 1 there whatever the network does,
  and the loss is mostly a count of absent classes.
* ``smooth_nr = smooth_dr = 1`` (pixels): a class absent from the batch costs ``1 - 1 / (1 + p)`` for a
  probability mass of ``p`` pixels, so the gradient still removes it, and present classes do not notice.
* Every class counts equally, the background too; the denominator is linear in the probabilities
  (V-Net's own is quadratic).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from monai.losses.dice import DiceLoss
from torch import Tensor

from harness.errors import unknown

Loss = Callable[[Tensor, Tensor], Tensor]

PARTS = ("ce", "dice", "iou")
NAMES = tuple("+".join(parts) for size in (1, 2, 3) for parts in combinations(PARTS, size))


def segmentation_loss(name: str, num_classes: int, ignore: int | None = None) -> Loss:
    """The loss called ``name``: "ce", "dice", "iou", or a sum of different ones such as "ce+dice".

    Returns a function of ``logits`` (N, K, H, W) of any floating dtype and ``target`` (N, H, W) int64 of
    class ids 0..K-1, with K = ``num_classes`` >= 2, that gives a float32 scalar. Terms of a sum have weight 1.
    Pixels of the value ``ignore`` are left out of every mean and sum; where all are, the loss is 0.

    Raises :class:`harness.errors.InputError` for an unknown name.

    Dice: Milletari et al. 2016, "V-Net", arXiv:1606.04797, section 3. IoU: Rahman and Wang 2016,
    "Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation".
    """
    assert num_classes >= 2
    parts = name.split("+")
    if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
        raise unknown("loss", name, NAMES)
    terms = [_cross_entropy(ignore) if part == "ce" else _soft_overlap(ignore, jaccard=part == "iou") for part in parts]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        assert logits.shape[1] == num_classes
        # Sums over 10^5 pixels lose their last digits in bf16 and overflow in fp16.
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            return torch.stack([term(logits, target) for term in terms]).sum()

    return loss


def deep_supervision(loss: Loss, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
    """Compute ``loss`` of a network's output; of several the mean with weights 1, 1/2, 1/4, ...

    ``outputs`` are logits (N, K, h, w), the answer first; each is brought to the size of ``target`` (N, H, W) by
    bilinear interpolation. Lee et al. 2015, "Deeply-supervised nets"; the halving is nnU-Net's (Isensee et al. 2021).
    """
    if isinstance(outputs, Tensor):
        return loss(outputs, target)
    weights = [0.5 ** i for i in range(len(outputs))]
    losses = [loss(logits if logits.shape[2:] == target.shape[1:] else
                   F.interpolate(logits, target.shape[1:], mode="bilinear", align_corners=False), target)
              for logits in outputs]
    return sum(weight * each for weight, each in zip(weights, losses, strict=True)) / sum(weights)


def _cross_entropy(ignore: int | None) -> Loss:
    if ignore is None:
        return F.cross_entropy

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        counted = (target != ignore).sum().clamp(min=1)          # PyTorch's own mean of no pixel is NaN
        return F.cross_entropy(logits, target, ignore_index=ignore, reduction="sum") / counted

    return loss


def _soft_overlap(ignore: int | None, *, jaccard: bool) -> Loss:
    sums = {"jaccard": jaccard, "batch": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    if ignore is None:
        overlap = DiceLoss(softmax=True, to_onehot_y=True, **sums)
        return lambda logits, target: overlap(logits, target[:, None])
    overlap = DiceLoss(**sums)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        # MONAI's MaskedDiceLoss masks logits before the softmax, which leaves every class 1 / K there.
        counted = (target != ignore)[:, None]
        one_hot = F.one_hot(target.masked_fill(~counted[:, 0], 0), logits.shape[1]).movedim(-1, 1)
        return overlap(logits.softmax(1) * counted, one_hot * counted)

    return loss
