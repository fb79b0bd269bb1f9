"""The small classifier: accuracy, determinism, cache, and label agreement, on scikit-learn's digits."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from harness.dataset import Dataset, Split
from harness.errors import InputError
from harness.metrics import classifier
from harness.metrics.classifier import SmallCNN, classifier_extractor, label_agreement
from harness.metrics.fidelity import fidelity


def digits(*, labelled: bool = True, dtype=np.uint8) -> Dataset:
    data = load_digits()
    images = np.round(data.images * 255 / 16).astype(np.uint8)[:, None]
    if dtype == np.float32:
        images = (images / 255).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))

    def split(chosen) -> Split:
        return Split(images[chosen], [str(i) for i in chosen], labels=data.target[chosen] if labelled else None)

    names = tuple("0123456789") if labelled else ()
    return Dataset("digits", split(order[:1000]), split(order[1000:1200]), split(order[1200:]),
                   names, (8, 8))


@pytest.fixture(scope="module")
def dataset():
    return digits()


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    return classifier_extractor(dataset, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def brief(monkeypatch):
    """A recipe of few steps, where only the mechanics matter."""
    monkeypatch.setitem(classifier.RECIPE, "steps", 10)


def test_reaches_97_percent_on_digits(trained, dataset):
    assert trained.name == "digits-cnn"
    assert trained.test_accuracy >= 0.97
    found = trained.predict(np.stack(dataset.test.images))
    assert found.dtype == np.int64
    assert np.mean(found == dataset.test.labels) == pytest.approx(trained.test_accuracy)


def test_fid_in_its_features_has_its_name_and_tells_real_from_inverted(trained, dataset):
    train, held_out = np.stack(dataset.train.images), np.stack(dataset.test.images)
    real = np.stack(dataset.validation.images)
    good, bad = fidelity(real, train, held_out, trained), fidelity(255 - real, train, held_out, trained)
    assert good["fid"].label == "FID (digits-cnn)"
    assert good["fid"].value < 3 * good["fid"].real_data_reference < bad["fid"].value
    assert bad["precision"].value < good["precision"].value


def test_label_agreement(trained, dataset):
    images, labels = np.stack(dataset.test.images), np.asarray(dataset.test.labels)
    right = label_agreement(images, labels, trained)
    assert right.value == pytest.approx(trained.test_accuracy) == right.real_data_reference
    wrong = label_agreement(images, (labels + 1) % 10, trained)
    assert wrong.value < 0.03 and wrong.n == len(labels) and wrong.direction == "higher"
    assert right.protocol["weights_hash"] == trained.weights_hash
    assert right.protocol["classifier_test_accuracy"] == trained.test_accuracy


def test_same_seed_gives_the_same_weights_and_moves_no_random_state(brief, dataset, tmp_path):
    state = torch.get_rng_state()
    one, two, other = (classifier_extractor(dataset, tmp_path / name, seed=seed)
                       for name, seed in (("one", 0), ("two", 0), ("other", 1)))
    assert one.weights_hash == two.weights_hash != other.weights_hash
    assert torch.equal(torch.get_rng_state(), state)


def test_cache_is_used_and_a_changed_recipe_or_data_set_is_not(brief, dataset, tmp_path, monkeypatch):
    first = classifier_extractor(dataset, tmp_path)
    assert sorted(path.suffix for path in tmp_path.glob("[!.]*")) == [".json", ".safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", lambda *args, **more: pytest.fail("trains again"))
        again = classifier_extractor(dataset, tmp_path)
    assert again == first and again.test_accuracy == first.test_accuracy
    images = np.stack(dataset.test.images)
    torch.testing.assert_close(again.features(images), first.features(images))

    monkeypatch.setitem(classifier.RECIPE, "steps", 11)
    changed = classifier_extractor(dataset, tmp_path)
    changed_data = classifier_extractor(replace(dataset, fingerprint="another"), tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert changed.weights_hash != first.weights_hash and changed_data.name == first.name


@pytest.mark.parametrize("damage", ["truncated weights", "lost weights", "broken json", "foreign json"])
def test_damaged_cache_is_trained_again_with_a_warning(damage, brief, dataset, tmp_path):
    first = classifier_extractor(dataset, tmp_path)
    [weights], [facts] = tmp_path.glob("*.safetensors"), tmp_path.glob("*.json")
    if damage == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "lost weights":
        weights.unlink()
    else:
        facts.write_text("{" if damage == "broken json" else "[]")
    with pytest.warns(UserWarning, match="damaged classifier cache .* training it again"):
        again = classifier_extractor(dataset, tmp_path)
    assert again.weights_hash == first.weights_hash
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier_extractor(dataset, tmp_path)


def test_facts_beside_the_weights(brief, dataset, tmp_path):
    made = classifier_extractor(dataset, tmp_path)
    [facts] = tmp_path.glob("*.json")
    facts = json.loads(facts.read_text())
    assert facts["sha256"].startswith(made.weights_hash) and facts["test_accuracy"] == made.test_accuracy
    assert facts["recipe"]["steps"] == 10 and facts["recipe"]["seed"] == 0


def test_without_labels_it_learns_rotations(tmp_path, monkeypatch):
    monkeypatch.setitem(classifier.RECIPE, "steps", 60)
    made = classifier_extractor(digits(labelled=False), tmp_path)
    assert made.name == "digits-rotation-cnn" and not made.labelled
    assert made.test_accuracy > 0.6                # a quarter is chance
    upright = np.stack(digits().test.images)
    assert np.mean(made.predict(np.rot90(upright, 2, (2, 3)).copy()) == 2) > 0.5


def test_float_images_train_the_same_network(brief, dataset, tmp_path):
    floats = replace(digits(dtype=np.float32), fingerprint=dataset.fingerprint)
    as_bytes, as_floats = (classifier_extractor(data, tmp_path / name)
                           for name, data in (("bytes", dataset), ("floats", floats)))
    assert as_bytes.weights_hash == as_floats.weights_hash


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 28, 32), (3, 64, 64), (1, 9, 13)])
def test_any_small_size_and_gradients_everywhere(channels, height, width):
    network = SmallCNN(channels, 5, min(height, width))
    images = torch.randint(256, (4, channels, height, width), dtype=torch.uint8)
    features = network(images)
    assert features.shape == (4, 64)
    network.head(features).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_wrong_input_is_one_line(brief, dataset, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(InputError, match="cannot write the classifier cache"):
        classifier_extractor(dataset, blocked / "cache")
    images = [np.zeros((1, 8, 8), np.uint8), np.zeros((1, 9, 8), np.uint8)]
    uneven = replace(dataset, train=Split(images, ["a", "b"], labels=np.array([0, 1])), fingerprint="uneven")
    with pytest.raises(InputError, match="of one size"):
        classifier_extractor(uneven, tmp_path)
