"""FID, KID, precision and recall against their definitions in float64; Inception from a file of random weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as inception

from harness.errors import InputError
from harness.metrics.fidelity import Extractor, fidelity, inception_available, inception_extractor

N, N_REFERENCE, N_HELD_OUT, DIMENSIONS = 60, 150, 80, 12


class Projection(nn.Module):
    """A fixed random layer, as features."""

    def __init__(self, channels: int = 1):
        super().__init__()
        self.layer = nn.Linear(channels * 64, DIMENSIONS)
        self.calls = 0
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(self.layer.weight.shape,
                                                generator=torch.Generator().manual_seed(0)) / 64)

    def forward(self, images):
        self.calls += 1
        return self.layer(images.flatten(1).float() / 255)


def draw_images(n: int, seed: int, low: int = 0, channels: int = 1) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(low, 256, (n, channels, 8, 8), generator=draws, dtype=torch.uint8)


@pytest.fixture
def extractor():
    return Extractor("random", "0123", {"resize": "none"}, Projection().eval())


@pytest.fixture
def images():
    return draw_images(N, 1, low=60), draw_images(N_REFERENCE, 2), draw_images(N_HELD_OUT, 3)


@pytest.fixture
def features(extractor, images):
    return [extractor.features(each).double().numpy() for each in images]


def closed_form(x: np.ndarray, y: np.ndarray) -> float:
    """|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)), with scipy's matrix root."""
    sx, sy = np.cov(x.T), np.cov(y.T)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy - 2 * sqrtm(sx @ sy).real))


def polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD of the cubic kernel, pair by pair."""
    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    within = [np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    return within[0] + within[1] - 2 * np.mean([kernel(a, b) for a in x for b in y])


def inside_manifold(points: np.ndarray, manifold: np.ndarray, k: int) -> float:
    """Share of points within some manifold point's distance to its k-th nearest other one."""
    radii = [np.sort(np.linalg.norm(manifold - each, axis=1))[k] for each in manifold]
    return float(np.mean([(np.linalg.norm(manifold - each, axis=1) <= radii).any() for each in points]))


def drawn(count: int, n: int, seed: int) -> np.ndarray:
    """Which ``n`` of ``count`` real images are compared with as many: a sample without replacement, by seed."""
    return np.sort(np.random.default_rng(seed).choice(count, n, replace=False))


def test_fid_is_the_closed_form(extractor, images, features):
    found = fidelity(*images, extractor)["fid"]
    assert found.value == pytest.approx(closed_form(features[0], features[1]), rel=1e-6)
    held_out = features[2][drawn(N_HELD_OUT, N, 0)]
    assert found.real_data_reference == pytest.approx(closed_form(held_out, features[1]), rel=1e-6)
    assert found.value > 3 * found.real_data_reference


def test_kid_is_the_mmd_where_one_subset_is_everything(extractor, images, features):
    same_size = images[1][:N]
    found = fidelity(images[0], same_size, images[2], extractor)["kid"]
    assert found.value == pytest.approx(polynomial_mmd(features[0], features[1][:N]), rel=1e-6)
    assert found.protocol["kid_subset_size"] == N


def test_precision_and_recall_by_brute_force(extractor, images, features):
    found = fidelity(*images, extractor, seed=4)
    part = features[1][drawn(N_REFERENCE, N, 4)]
    assert found["precision"].value == pytest.approx(inside_manifold(features[0], part, 3))
    assert found["recall"].value == pytest.approx(inside_manifold(part, features[0], 3))
    assert found["precision"].direction == found["recall"].direction == "higher"


def test_every_number_says_how_it_came_about(extractor, images):
    found = fidelity(*images, extractor)
    assert [metric.label for metric in found.values()] == [
        "FID (random)", "KID (random)", "precision (random)", "recall (random)"]
    for metric in found.values():
        assert metric.n == metric.protocol["n"] == N and metric.undefined == 0
        assert metric.real_data_reference is not None
        assert metric.protocol["weights_hash"] == "0123" and metric.protocol["reference"] == "train"
    assert found["fid"].protocol["n_reference"] == N_REFERENCE
    assert found["precision"].protocol["n_reference"] == N

    fewer = fidelity(images[0][:50], *images[1:], extractor)["fid"]
    other_reference = fidelity(images[0], images[1].flip(3), images[2], extractor)["fid"]
    other_seed = fidelity(*images, extractor, seed=1)["fid"]
    assert len({found["fid"].fingerprint, fewer.fingerprint, other_reference.fingerprint}) == 3
    assert other_seed.fingerprint == found["fid"].fingerprint


def test_real_images_are_embedded_once_per_cache(extractor, images, tmp_path):
    first = fidelity(*images, extractor, cache=tmp_path)
    calls = extractor.module.calls
    again = Extractor(extractor.name, extractor.weights_hash, extractor.details, extractor.module)
    second = fidelity(images[0].clone(), images[1].clone(), images[2].clone(), again, cache=tmp_path)
    assert extractor.module.calls == calls + 1                     # the generated ones
    assert second == first
    without = fidelity(*images, extractor)
    assert without == first and extractor.module.calls == calls + 4


@pytest.mark.parametrize("damage", [b"", b"not what was written"])
def test_a_damaged_cache_is_made_anew(extractor, images, tmp_path, damage):
    first = fidelity(*images, extractor, cache=tmp_path)
    kept = list(tmp_path.iterdir())
    assert sorted(path.suffix for path in kept) == [".json", ".safetensors"]
    for path in kept:
        path.write_bytes(damage)
    assert fidelity(*images, extractor, cache=tmp_path) == first
    assert all(path.read_bytes() != damage for path in kept)


def test_other_weights_other_images_other_files(extractor, images, tmp_path):
    fidelity(*images, extractor, cache=tmp_path)
    other = Extractor(extractor.name, "4567", extractor.details, extractor.module)
    fidelity(*images, other, cache=tmp_path)
    fidelity(images[0], images[1].flip(3), images[2], extractor, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    fidelity(images[0][:50], *images[1:], extractor, cache=tmp_path)               # another n, the same features
    assert len(list(tmp_path.iterdir())) == 7


def test_is_silent_and_leaves_random_state_alone(extractor, images, capfd):
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fidelity(*images, extractor)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), state[0]) and (np.random.get_state()[1] == state[1]).all()


def test_arrays_and_colour(images):
    colour = [draw_images(n, n, channels=3).numpy() for n in (20, 40, 20)]
    found = fidelity(*colour, Extractor("colour", "1", {}, Projection(3).eval()))
    assert np.isfinite(found["fid"].value) and found["fid"].value >= 0


def test_collapsed_samples_score_badly_and_do_not_crash(extractor, images):
    black = torch.zeros_like(images[0])
    found = fidelity(black, *images[1:], extractor)
    assert found["fid"].value > 10 * found["fid"].real_data_reference
    assert found["recall"].value == 0 < found["recall"].real_data_reference


def test_too_few_images_is_one_line(extractor, images):
    with pytest.raises(InputError, match="100 generated, 80 held out; generate at most 80"):
        fidelity(draw_images(100, 0), *images[1:], extractor)
    with pytest.raises(InputError, match="at least 5"):
        fidelity(images[0][:4], *images[1:], extractor)


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory) -> Path:
    """torch-fidelity's network with random weights, as a weights file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        network = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


def test_inception_from_a_file(random_inception):
    extractor = inception_extractor(random_inception)
    assert extractor.name == "inception" and len(extractor.weights_hash) == 16
    grey = draw_images(1, 0)
    features = extractor.features(grey)
    assert features.shape == (1, 2048) and features.dtype == torch.float32

    theirs = inception.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=random_inception)
    torch.testing.assert_close(features, theirs(grey.repeat(1, 3, 1, 1))[0])
    assert inception_available(random_inception)


def test_inception_is_found_where_torch_fidelity_keeps_it(random_inception, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not inception_available()
    with pytest.raises(InputError, match="--inception-weights FILE") as error:
        inception_extractor()
    expected = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    assert str(expected) in str(error.value) and "\n" not in str(error.value)
    expected.parent.mkdir(parents=True)
    expected.symlink_to(random_inception)
    assert inception_available()
    assert inception_extractor() == inception_extractor(random_inception)


class Marker:
    """Unpickling it would create a file: what a hostile weights file could do."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_wrong_inception_files_are_refused(tmp_path):
    garbage, other, hostile = (tmp_path / name for name in ("garbage.pth", "other.pth", "hostile.pth"))
    garbage.write_bytes(b"<html>not found</html>")
    torch.save(nn.Linear(2, 2).state_dict(), other)
    torch.save({"weight": Marker(tmp_path / "executed")}, hostile)
    for path in (garbage, other, hostile):
        with pytest.raises(InputError, match=f"{path.name} is not torch-fidelity's Inception") as error:
            inception_extractor(path)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()
