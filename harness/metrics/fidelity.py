"""FID, KID, precision and recall of generated images, through torch-fidelity, with named extractors.

Images become features once per set; torch-fidelity then computes the metrics from float64 features handed
to it through a registered pass-through extractor. So an extractor is any network with a name and a hash, and
what real images score is computed once for all runs that share a cache (:mod:`harness.metrics.real_images`).

FID: Heusel et al. 2017, arXiv:1706.08500. KID: Binkowski et al. 2018, arXiv:1801.01401.
Precision and recall: Kynkaanniemi et al. 2019, arXiv:1904.06991.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch_fidelity
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as inception
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from harness.dataset import item_shapes, stack, to_uint8
from harness.errors import InputError
from harness.metrics.real_images import RealImages
from harness.record import Metric

PASS_THROUGH = "unet-bench-features"
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000           # torch-fidelity's defaults; the size is lowered to n
NEIGHBOURS = 3                                     # k of the manifolds, the paper's
MIN_IMAGES = NEIGHBOURS + 2                        # the k-th neighbour other than itself must exist
INCEPTION_FEATURES = 2048

KEYS = {                                           # ours -> torch-fidelity's, column title, better
    "fid":       ("frechet_inception_distance",     "FID",       "lower"),
    "kid":       ("kernel_inception_distance_mean", "KID",       "lower"),
    "precision": ("precision",                      "precision", "higher"),
    "recall":    ("recall",                         "recall",    "higher"),
}


@dataclass(frozen=True)
class Extractor:
    """A network that turns images into features; equal name and hash mean equal features.

    ``module`` maps uint8 (N, C, H, W) to float32 (N, D) and is in evaluation mode.
    """

    name: str                                      # in column titles: "inception", "digits-cnn"
    weights_hash: str                              # SHA-256 of the weights file, first 16 hex digits
    details: dict = field(compare=False)           # for the protocol: resize, dtype, layer
    module: nn.Module = field(compare=False, repr=False)
    batch_size: int = field(default=256, compare=False)

    @property
    def identity(self) -> dict:
        """What features depend on, besides the images."""
        return {"extractor": self.name, "weights_hash": self.weights_hash, **self.details}

    def features(self, images, device: str | torch.device = "cpu") -> Tensor:
        """Features (N, D) float32 on the CPU of ``images`` (N, C, H, W), see :func:`image_blocks`."""
        self.module.to(device)
        with torch.inference_mode():
            return torch.cat([self.module(batch.to(device)).cpu() for batch in image_blocks(images, self.batch_size)])


def fidelity(generated, reference, held_out, extractor: Extractor, *, seed: int = 0,
             device: str | torch.device = "cpu", cache: Path | None = None) -> dict[str, Metric]:
    """FID, KID, precision and recall of ``generated`` against ``reference``, each beside the score of real data.

    Parameters
    ----------
    generated, reference, held_out
        uint8 images (N, C, H, W), C = 1 or 3: arrays, tensors or a split's images, read block by block.
        ``reference`` is the training split. Each ``real_data_reference`` is the score of as many images of ``held_out``
        (real, from the test split) as were generated. A sampler's NaN must be caught before it is quantised:
        uint8 cannot carry it.
    seed
        Draws the held-out images, the KID subsets, and the part of the reference that precision and recall
        use. It is no part of the protocol, but leave it alone between arms, so that they share the draws.
    cache
        A folder that keeps features of the reference and scores of real data by content; None keeps nothing.

    Returns ``fid``, ``kid`` (unscaled), ``precision``, ``recall``. Precision and recall are computed with as
    many reference images as generated ones, as in the paper: unequal sets bias one against the other.

    Raises :class:`harness.errors.InputError` where more images were generated than are held out, or a set
    has fewer than five.
    """
    images = [_Images.of(array) for array in (generated, reference, held_out)]
    counts = [len(each.images) for each in images]
    n = counts[0]
    if n > counts[2]:
        raise InputError(f"the score of real data needs as many held-out images as were generated: {n} generated, "
                         f"{counts[2]} held out; generate at most {counts[2]}")
    if min(counts) < MIN_IMAGES:
        raise InputError(f"FID, KID, precision and recall need at least {MIN_IMAGES} images in each set, got "
                         f"{counts[0]} generated, {counts[1]} reference, {counts[2]} held out")
    generated, reference, held_out = images
    real = RealImages(extractor.identity, reference.digest, cache)
    references = real.features(lambda: extractor.features(reference.images, device))
    scores = _scores(extractor.features(generated.images, device), references, seed)
    drawn = _draw(counts[2], n, seed)
    version = {"statistics": "float64", "torch_fidelity": torch_fidelity.__version__}
    real_data = real.scores({"held_out": held_out.digest, "n": n, "seed": seed, **version},
                        lambda: _scores(extractor.features(stack(held_out.images, drawn), device), references, seed))
    protocol = {
        **extractor.identity, **version, "n": n, "reference": "train", "n_reference": counts[1],
        "reference_hash": reference.digest,
    }
    extra = {
        "fid": {},
        "kid": {"kid_subset_size": _kid_subset_size(n, counts[1]), "kid_subsets": KID_SUBSETS,
                "kid_kernel": "(x.y / D + 1)^3"},
        "precision": {"neighbours": NEIGHBOURS, "n_reference": min(n, counts[1])},
    }
    extra["recall"] = extra["precision"]
    return {
        name: Metric(value=scores[name], label=f"{title} ({extractor.name})", unit="", direction=direction,
                     protocol=protocol | extra[name], n=n, undefined=0 if np.isfinite(scores[name]) else n,
                     real_data_reference=real_data[name])
        for name, (_, title, direction) in KEYS.items()}


def inception_extractor(weights: Path | None = None) -> Extractor:
    """torch-fidelity's Inception v3 (the 2015 TensorFlow weights), final pooled features (2048).

    ``weights``: its weights file; None looks where torch-fidelity itself would have put it. Nothing is
    downloaded. Raises :class:`harness.errors.InputError` where the file is absent or is another network's.
    """
    path = Path(weights) if weights is not None else _cached_inception()
    if not path.is_file():
        raise InputError(
            f"FID (inception) needs torch-fidelity's weights file, which is not at {path}: get "
            f"{inception.URL_INCEPTION_V3} and put it there, or pass --inception-weights FILE")
    try:
        # torch-fidelity unpickles without restriction, so it is given only bytes that were written here.
        state = torch.load(path, map_location="cpu", weights_only=True)
        checked = BytesIO()
        torch.save(state, checked)
        checked.seek(0)
        network = create_feature_extractor(
            "inception-v3-compat", ["2048"], cuda=False, verbose=False, feature_extractor_weights_path=checked)
    except Exception as error:                     # the unpickler raises nearly anything on foreign bytes
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is not torch-fidelity's Inception weights file ({reason})") from None
    with path.open("rb") as file:
        weights_hash = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    details = {"resize": "299x299, bilinear as in TensorFlow 1", "dtype": "float32", "layer": "2048"}
    return Extractor("inception", weights_hash, details, _Inception(network), batch_size=32)


def inception_available(weights: Path | None = None) -> bool:
    """Whether :func:`inception_extractor` would find a file; its content is not looked at."""
    return (Path(weights) if weights is not None else _cached_inception()).is_file()


def _cached_inception() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(inception.URL_INCEPTION_V3).name


class _Inception(nn.Module):
    """torch-fidelity's network without its tuple; grey images are repeated to three channels."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.expand(-1, 3, -1, -1))[0]


class _PassThrough(FeatureExtractorBase):
    """Features in, the same features in float64 out."""

    @staticmethod
    def get_provided_features_list():
        return ("features",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "features"

    @staticmethod
    def can_be_compiled():
        return False

    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)

    def forward(self, rows: Tensor) -> tuple[Tensor]:
        return (rows.double(),)


register_feature_extractor(PASS_THROUGH, _PassThrough)


class _Rows(torch.utils.data.Dataset):
    """A matrix as the data set of its rows, which is what torch-fidelity reads."""

    def __init__(self, rows: Tensor):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index]


@dataclass(frozen=True)
class _Images:
    """Images known by their content, so that what was computed from real ones can be remembered."""

    digest: str
    images: Sequence[np.ndarray] = field(compare=False, repr=False)

    @classmethod
    def of(cls, images) -> _Images:
        images = images.cpu().numpy() if isinstance(images, Tensor) else images
        [shape] = item_shapes(images)
        sha = hashlib.sha256(f"{(len(images), *shape)}".encode())
        for block in image_blocks(images, 1024):
            sha.update(block.contiguous().numpy())         # colour images may come channels last
        return cls(sha.hexdigest()[:16], images)


def _scores(features: Tensor, reference: Tensor, seed: int) -> dict[str, float]:
    n = len(features)
    # save_cpu_ram: no worker processes for what is already in memory, distances in blocks of rows.
    common = {"feature_extractor": PASS_THROUGH, "cuda": False, "cache": False, "save_cpu_ram": True,
              "verbose": False, "batch_size": 4096, "rng_seed": seed}
    part = reference[_draw(len(reference), min(n, len(reference)), seed)]
    with torch.random.fork_rng(devices=[]):        # torch's DataLoader draws from the global state
        found = torch_fidelity.calculate_metrics(
            input1=_Rows(features), input2=_Rows(reference), fid=True, kid=True, kid_subsets=KID_SUBSETS,
            kid_subset_size=_kid_subset_size(n, len(reference)), **common)
        found |= torch_fidelity.calculate_metrics(
            input1=_Rows(features), input2=_Rows(part), prc=True, prc_neighborhood=NEIGHBOURS, **common)
    return {name: found[key] for name, (key, _, _) in KEYS.items()}


def _kid_subset_size(n: int, n_reference: int) -> int:
    return min(n, n_reference, KID_SUBSET_SIZE)


def _draw(count: int, n: int, seed: int) -> np.ndarray:
    """``n`` of ``count`` indices without replacement, in order."""
    return np.sort(np.random.default_rng(seed).choice(count, n, replace=False))


def image_blocks(images, size: int) -> Iterator[Tensor]:
    """Blocks of at most ``size`` images (n, C, H, W) uint8 of one shape, as new tensors, in order.

    ``images``: an array, a tensor, or a sequence of arrays; float32 0..1 is rounded to 0..255.
    """
    for start in range(0, len(images), size):
        part = images[start:start + size]
        block = part.cpu().numpy() if isinstance(part, Tensor) else np.array(part)     # a copy: maps are read-only
        block = to_uint8(block)
        assert block.ndim == 4 and block.shape[1] in (1, 3)
        yield torch.from_numpy(block)
