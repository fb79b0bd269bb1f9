"""Procedural fluorescence microscopy: touching, uneven cells; background, cell and border per pixel.

Made from random numbers alone, so no network is needed and any number of images can be had. What makes
it hard is what makes microscopy hard: cells of very different brightness that touch, uneven
illumination, blur by the optics and photon (shot) noise. The border, the outer rim of every cell, is one
pixel wide, two where cells touch: the seam that U-Net's loss weights so that touching cells come apart
(Ronneberger et al. 2015, equation 2) is a class of its own here.
"""

from __future__ import annotations

import numpy as np

from harness.dataset import Dataset, Split
from harness.datasets.parts.arguments import require_at_least
from harness.datasets.parts.splits import SPLITS

FIELDS = ("images", "masks")


def load(needs: tuple[str, ...], *, root: str | None = None, download: bool = False, image_size: int = 64,
         train: int = 600, validation: int = 100, test: int = 150, seed: int = 0) -> Dataset:
    """Images (1, S, S) uint8 with S = ``image_size``; masks 0 = background, 1 = cell, 2 = border.

    ``train``, ``validation`` and ``test`` are numbers of images; an image depends on ``seed``, its split
    and its place only, so a longer split begins with the shorter one. A larger image shows more cells of
    the same size. ``root`` and ``download`` are not used. Raises InputError for fewer than
    one image, or an image below 32 pixels.
    """
    require_at_least(1, train=train, validation=validation, test=test)
    require_at_least(32, image_size=image_size)
    splits = []
    for part, (name, count) in enumerate(zip(SPLITS, (train, validation, test), strict=True)):
        views = [_view(image_size, np.random.default_rng((seed, part, i))) for i in range(count)]
        images, masks = map(np.stack, zip(*views, strict=True))
        splits.append(Split(images, [f"{name}-{i:04d}" for i in range(count)], masks))
    return Dataset("cells", *splits, class_names=("background", "cell", "border"),
                   image_size=(image_size, image_size))


def _view(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image (1, S, S) uint8 and its mask (S, S) uint8."""
    owner, depth, brightness = _colony(size, rng)
    mask = _mask(owner)
    return _image(owner, mask, depth, brightness, rng)[None], mask


def _colony(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells in clumps: ``owner`` (S, S) is 0 or a cell's number, ``depth`` (S, S) is 1 in its middle and
    0 on its contour, ``brightness`` (cells + 1,)."""
    count = max(3, round(rng.uniform(0.4, 1.0) * (size / 13) ** 2))
    radius = np.clip(rng.lognormal(np.log(6.5), 0.25, count), 4, 11)
    centre = np.empty((count, 2))
    for i in range(count):
        for _ in range(20):                          # near an earlier cell, two times in three, but not on it
            if i and rng.random() < 0.67:
                near, angle = rng.integers(i), rng.uniform(0, 2 * np.pi)
                step = 0.85 * (radius[i] + radius[near])
                centre[i] = centre[near] + step * np.array([np.sin(angle), np.cos(angle)])
            else:
                centre[i] = rng.uniform(-2, size + 2, 2)
            gap = np.hypot(*(centre[:i] - centre[i]).T) / (radius[:i] + radius[i])
            if (gap > 0.75).all():
                break
        else:
            centre[i] = -99                          # no room: left out

    # Ellipses, in coordinates that a smooth random field bends: contours with dents, no two alike.
    bend = np.stack([_smooth(rng, (size, size), 4) for _ in range(2)]) * rng.uniform(0.8, 2.2)
    place = (np.mgrid[:size, :size] + bend).astype(np.float32)
    owner, distance = np.zeros((size, size), int), np.ones((size, size), np.float32)
    for i in range(count):
        angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 0.32))
        reach = stretch * radius[i] + abs(bend).max()
        low, high = (np.clip(centre[i] + side, 0, size).astype(int) for side in (-reach, reach + 1))
        window = (slice(low[0], high[0]), slice(low[1], high[1]))
        dy, dx = (place[axis][window] - centre[i, axis] for axis in (0, 1))
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        own = (along / (stretch * radius[i])) ** 2 + (across * stretch / radius[i]) ** 2
        nearer = own < distance[window]              # cells that overlap meet on a line between them
        owner[window][nearer] = i + 1
        distance[window][nearer] = own[nearer]
    return owner, 1 - distance, np.concatenate([[0], rng.uniform(0.35, 1.0, count)])


def _mask(owner: np.ndarray) -> np.ndarray:
    """0 outside, 2 where a cell's pixel has a neighbour (of 4) of another owner, 1 elsewhere."""
    inside = owner > 0
    mask = inside.astype(np.uint8)
    beside = np.pad(owner, 1, mode="edge")
    rim = ((owner != beside[:-2, 1:-1]) | (owner != beside[2:, 1:-1])
           | (owner != beside[1:-1, :-2]) | (owner != beside[1:-1, 2:]))
    mask[rim & inside] = 2
    return mask


def _image(owner: np.ndarray, mask: np.ndarray, depth: np.ndarray, brightness: np.ndarray,
           rng: np.random.Generator) -> np.ndarray:
    """What a camera sees of the colony: (S, S) uint8."""
    from scipy.ndimage import gaussian_filter

    shape = owner.shape
    grain = 1 + 0.16 * _smooth(rng, shape, 1.2) + 0.12 * _smooth(rng, shape, 3)
    cells = brightness[owner] * (0.45 + 0.55 * np.sqrt(depth)) * grain * np.where(mask == 2, 0.72, 1)
    blurred = gaussian_filter(cells, 5, truncate=2)  # light from out of focus
    haze = 0.10 + 0.05 * _smooth(rng, shape, 9) + 0.22 * blurred
    y, x = np.mgrid[-1:1:shape[0] * 1j, -1:1:shape[1] * 1j] - rng.uniform(-1, 1, (2, 1, 1))
    lamp = 1 - rng.uniform(0.05, 0.2) * (x**2 + y**2)            # brightest somewhere, falling off around it
    light = gaussian_filter((cells + haze) * lamp, rng.uniform(0.6, 1.0))
    photons = rng.uniform(40, 160)                   # that the brightest pixel collects
    seen = rng.poisson(np.clip(light, 0, None) * photons) / photons + rng.normal(0, 0.015, shape)
    low, high = np.percentile(seen, (0.5, 99.8))
    return np.rint(np.clip((seen - low) / (high - low), 0, 1) * rng.uniform(200, 255)).astype(np.uint8)


def _smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Gaussian noise blurred by ``sigma`` pixels, of mean 0 and standard deviation 1 over the image."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(shape, np.float32), sigma, truncate=2.5)
    return (field - field.mean()) / field.std()
