"""The segmentation suite: every test case once, images larger than the crop, pixels that do not count, moments."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from harness.datasets.parts.store import keep
from harness.spec import TrainSpec
from harness.suites import segmentation
from harness.suites.segmentation import RandomCrops, Standardize, moments


def test_cases_cover_the_test_split_once(usual):
    made = usual("segmentation")
    record = made.record
    dice = [row for row in made.rows("cases.csv") if row["metric"] == "dice" and row["class"] == "square"]
    assert sorted(row["case"] for row in dice) == [f"test{i}" for i in range(8)]
    assert next(iter(record.metrics)) == "dice_macro" and record.metrics["dice_macro"].n == 8
    values = [float(row["value"]) for row in dice]
    assert record.metrics["dice/square"].value == pytest.approx(np.nanmean(values))


def test_it_learns_squares(run, tiny_data, tiny_spec):
    budget = TrainSpec(steps=60, batch_size=8, learning_rate=1e-2)
    made = run(tiny_spec("segmentation", options={"width": 8}, train=budget), tiny_data("segmentation"))
    assert made.record.metrics["dice/square"].value > 0.9


def test_windows_see_all_of_an_image_larger_than_the_crop(run, tiny_data, tiny_spec):
    settings = {"crop_size": 8, "eval_batch": 4}
    made = run(tiny_spec("segmentation", settings=settings), tiny_data("segmentation")).check()
    assert made.record.cost["macs"].protocol["input"] == [[1, 1, 8, 8]]
    assert Image.open(made.folder / "prediction.png").size == (16 * 6, 16)


def test_pixels_that_do_not_count_are_stated_and_move_nothing(run, tiny_data, tiny_spec):
    """Two truths that differ only there, and there only in what hides behind 255, are one."""
    data = tiny_data("segmentation")
    for part in (data.train, data.validation, data.test):
        for mask in part.masks:
            mask[:, 12:] = 255
    data = replace(data, ignore=255, fingerprint="")
    made = run(tiny_spec("segmentation"), data).check()
    record = made.record
    assert record.data["ignore"] == 255
    for metric in record.metrics.values():
        assert metric.protocol["ignore"] == 255 and metric.protocol["ignored_pixels"] == 8 * 16 * 4
    truth = Image.open(made.folder / "truth.png")
    assert truth.getpalette()[3 * 255:] == [255, 255, 255] and truth.getpixel((15, 0)) == 255
    assert "does not count" in record.pictures["truth.png"].caption


def test_every_image_comes_once_an_epoch(tiny_data):
    data = tiny_data("segmentation")
    standardize = Standardize(data)
    batches = RandomCrops(data.train, standardize, (16, 16), 8, 0)
    seen = torch.cat([batches[step][0] for step in range(2)])
    expected = torch.stack([standardize(image) for image in data.train.images])
    assert torch.equal(seen.flatten(1).sort(0).values, expected.flatten(1).sort(0).values)
    assert seen.mean().abs() < 1e-5 and abs(seen.std().item() - 1) < 1e-2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_moments_are_those_of_all_pixels(dtype):
    draws = np.random.default_rng(0)
    images = [draws.integers(0, 256, (3, *shape)).astype(dtype) for shape in ((5, 7), (9, 4), (6, 6))]
    images = [image / dtype(255) if dtype == np.float32 else image for image in images]
    pixels = np.concatenate([image.reshape(3, -1).astype(float) for image in images], axis=1)
    pixels = pixels / 255 if dtype == np.uint8 else pixels
    mean, deviation = moments(images)
    assert np.allclose(mean, pixels.mean(1), rtol=1e-12) and np.allclose(deviation, pixels.std(1), rtol=1e-12)


def test_standardisation_is_kept_beside_the_store(tiny_data, tmp_path, monkeypatch):
    data = keep(tiny_data("segmentation"), tmp_path)
    first = segmentation.Standardize(data)
    monkeypatch.setattr(segmentation, "moments", lambda images: pytest.fail("computed again"))
    again = segmentation.Standardize(data)
    assert torch.equal(first.mean, again.mean) and torch.equal(first.deviation, again.deviation)
