"""Images smaller than the crop are padded and what is padded counts nowhere; means leave out the background by id."""

import numpy as np
import pytest
import torch
from PIL import Image

from harness.dataset import Dataset, Split
from harness.record import read_record
from harness.run import run as run_one
from harness.suites import segmentation
from harness.suites.segmentation import RandomCrops, Settings, Standardize, crop_shape, data_facts, padded, predict
from harness.training.losses import segmentation_loss


def split(name, shapes, seed=0, scale=1):
    draw = np.random.default_rng(seed)
    images = [(draw.integers(0, 256, (1, *shape)) // scale).astype(np.uint8) for shape in shapes]
    return Split(images, [f"{name}{i}" for i in range(len(shapes))],
                 [(image[0] > 127 // scale).astype(np.uint8) for image in images])


def dataset(train, test=((16, 16),) * 3, names=("any", "thing"), **options):
    every = [*train, *test]
    size = tuple(max(shape[axis] for shape in every) for axis in (0, 1))
    return Dataset("set", split("a", train), split("b", test[:2], 1), split("c", test, 2), names, size, **options)


@pytest.mark.parametrize("shapes, crop, padded_images", [
    ([(64, 64)] * 5 + [(9, 70)], (32, 32), 1), ([(64, 64)] * 6, (32, 32), 0), ([(10, 12), (14, 8)], (14, 12), 2),
    ([(20, 64)] * 4, (20, 32), 0)])
def test_one_small_image_shrinks_no_crops(shapes, crop, padded_images):
    data = dataset(shapes, test=[max(shapes)] * 3 if padded_images != 2 else [(14, 12)] * 3)
    settings = Settings(crop_size=32)
    assert crop_shape(data, settings) == crop
    facts = data_facts(data, settings)
    assert facts.get("padded_images", 0) == padded_images and ("crop" in facts) == bool(padded_images)


def test_small_images_lie_in_the_middle_of_their_crops_and_what_is_around_is_ignored():
    data = dataset([(6, 9), (20, 20)])
    batches = RandomCrops(data.train, Standardize(data), (11, 12), 2, 0, ignore=-1)
    images, masks = batches[0]
    (i,) = (i for i in range(2) if (masks[i] == -1).any())
    assert images.shape == (2, 1, 11, 12)
    inside = torch.zeros(11, 12, dtype=torch.bool)
    inside[2:8, 1:10] = True
    assert torch.equal(masks[i] != -1, inside) and (images[i, 0][~inside] == 0).all()
    assert np.array_equal(masks[i][inside].reshape(6, 9), data.train.masks[0])
    assert torch.equal(padded(torch.ones(2, 3, 3), (3, 3), 0), torch.ones(2, 3, 3))


@pytest.mark.parametrize("name", ["ce", "dice", "iou", "ce+dice"])
def test_padding_moves_no_loss(name):
    torch.manual_seed(0)
    logits, target = torch.randn(1, 3, 6, 9), torch.randint(3, (1, 6, 9))
    around = padded(logits, (11, 12), 5.0), padded(target, (11, 12), -1)
    expected = segmentation_loss(name, 3)(logits, target)
    torch.testing.assert_close(segmentation_loss(name, 3, -1)(*around), expected)


def test_windows_pad_as_training_does():
    """What the network is shown of a small image, and what becomes of its answer."""
    data, seen = dataset([(16, 16)], test=((6, 9), (16, 16), (4, 30))), []

    def model(x):
        seen.append(x)
        return torch.cat([x, -x], 1)

    standardize = Standardize(data)
    found = dict(predict(model, data.test, standardize, (11, 12), Settings(eval_batch=4), "cpu"))
    first = standardize(data.test.images[0])
    torch.testing.assert_close(seen[0][0], padded(first, (11, 12), 0))
    for i, image in enumerate(data.test.images):
        torch.testing.assert_close(found[i], torch.cat([standardize(image), -standardize(image)]))


@pytest.fixture
def made(tiny_spec, tmp_path):
    """A function that runs ``plain`` on a data set: its record and folder."""

    def make(data, **settings):
        given = tiny_spec("segmentation")
        spec = given.model_copy(update={"settings": {**given.settings, **settings}})
        record = run_one(spec, data, tmp_path / "runs", tmp_path / "cache", code="x")
        return read_record(tmp_path / "runs" / record.run_id), tmp_path / "runs" / record.run_id

    return make


def test_a_run_with_small_images_says_so(made):
    record, folder = made(dataset([(16, 16)] * 4 + [(5, 9)], test=((16, 16), (7, 16), (16, 16))), crop_size=12)
    assert record.status == "ok", record.error
    assert record.data["crop"] == [12, 12] and record.data["padded_images"] == 3      # 1 each of the splits
    assert record.data["left_out_of_means"] == "any"
    with Image.open(folder / "truth.png") as truth:
        assert truth.size == (48, 16) and truth.getpixel((17, 0)) == 255
    assert "white: does not count" in record.pictures["truth.png"].caption


@pytest.mark.parametrize("names", [("background", "thing"), ("0", "255"), ("Hintergrund", "Ding"), ("a", "background")])
def test_means_leave_out_class_0_whatever_its_name(names, made):
    record, _ = made(dataset([(16, 16)] * 4, names=names))
    assert record.metrics["dice_macro"].protocol["classes"] == [names[1]]
    assert record.metrics["dice_macro"].value == pytest.approx(record.metrics[f"dice/{names[1]}"].value)


def test_means_count_class_0_where_the_data_or_the_settings_say_so(made):
    for options, settings in (({"background": None}, {}), ({}, {"include_background": True})):
        record, _ = made(dataset([(16, 16)] * 4, **options), **settings)
        assert record.metrics["boundary_iou_macro"].protocol["classes"] == ["any", "thing"]
        assert "left_out_of_means" not in record.data


def test_dark_images_are_drawn_with_their_own_range(made):
    data = dataset([(16, 16)] * 4)
    dark = [Split([(image / 4080).astype(np.float32) for image in part.images], part.names, part.masks)
            for part in (data.train, data.validation, data.test)]
    record, folder = made(Dataset("dark", *dark, data.class_names, data.image_size))
    with Image.open(folder / "images.png") as picture:
        assert np.ptp(np.asarray(picture)) == 255 and 80 < np.asarray(picture).mean() < 170
    assert "contrast stretched" in record.pictures["images.png"].caption
    assert segmentation.PADDING < 0
