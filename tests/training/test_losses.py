"""Losses against formulas written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from harness.errors import InputError
from harness.training.losses import NAMES, segmentation_loss


@pytest.fixture
def case():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=draws)
    target = torch.randint(3, (2, 5, 4), generator=draws)
    return logits, target


def by_hand(name: str, logits, target) -> float:
    """The definition, class by class over the whole batch, in plain float64 Python."""
    p = logits.double().softmax(1)
    if name == "ce":
        n, h, w = target.shape
        picked = [p[i, target[i, y, x], y, x].item() for i in range(n) for y in range(h) for x in range(w)]
        return -sum(map(math.log, picked)) / len(picked)
    costs = []
    for k in range(p.shape[1]):
        truth = (target == k).double()
        shared, guessed, true = ((p[:, k] * truth).sum().item(), p[:, k].sum().item(), truth.sum().item())
        union = guessed + true if name == "dice" else 2 * (guessed + true - shared)
        costs.append(1 - (2 * shared + 1) / (union + 1))
    return sum(costs) / len(costs)


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formula(name, case):
    logits, target = case
    expected = sum(by_hand(part, logits, target) for part in name.split("+"))
    assert segmentation_loss(name, 3)(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_order_of_a_sum_does_not_matter(case):
    assert segmentation_loss("dice+ce", 3)(*case) == segmentation_loss("ce+dice", 3)(*case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_is_computed_in_float32(dtype, case):
    logits, target = case
    low = logits.to(dtype)
    for name in NAMES:
        loss = segmentation_loss(name, 3)
        assert loss(low, target).dtype == torch.float32
        assert loss(low, target) == loss(low.float(), target)
        with torch.autocast("cpu", torch.bfloat16):
            assert loss(low, target) == loss(low.float(), target)


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_perfect_prediction_costs_nothing_even_with_an_absent_class(name):
    target = torch.tensor([[[0, 0], [1, 1]]])
    logits = 100 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    assert segmentation_loss(name, 3)(logits, target).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_descent_leads_to_the_truth(name):
    target = torch.tensor([[[0, 0, 2], [1, 1, 2]]])
    logits = torch.zeros(1, 3, 2, 3, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        segmentation_loss(name, 3)(logits, target).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1), target)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'dice'"):
        segmentation_loss("dise", 3)
    with pytest.raises(InputError, match="unknown loss 'ce\\+ce'"):
        segmentation_loss("ce+ce", 3)


@pytest.mark.parametrize("name", ["ce", "dice", "iou", "ce+dice"])
def test_ignored_pixels_have_no_part_in_a_loss(name):
    """As if the image ended where they begin; their logits get no gradient, and an image of them alone costs 0."""
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=draws, requires_grad=True)
    target = torch.randint(0, 3, (2, 8, 8), generator=draws)
    masked = target.clone()
    masked[:, 5:] = 255
    loss = segmentation_loss(name, 3, ignore=255)(logits, masked)
    loss.backward()
    assert loss.item() == pytest.approx(segmentation_loss(name, 3)(logits[:, :, :5], target[:, :5]).item(), rel=1e-5)
    assert (logits.grad[:, :, 5:] == 0).all() and (logits.grad[:, :, :5] != 0).any()
    nothing = segmentation_loss(name, 3, ignore=255)(logits, torch.full_like(target, 255))
    assert nothing.item() == 0
