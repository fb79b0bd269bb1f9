"""Real digits drawn with thin strokes on crops of real photographs; 11 classes per pixel.

Digits come from scikit-learn (see ``digits``), photographs from the files that scikit-image and
scikit-learn install with themselves, so no network is needed. Neither a digit nor a photograph is
shared between train, validation and test. A digit is drawn as the centre line of its handwriting with
a pen of 1.6 to 3 pixels (of 64): what a network loses by halving its resolution, only skip connections
bring back. The ink is a colour of the photograph itself, so colour alone does not give a digit away.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from PIL import Image

from harness.dataset import Dataset, Split
from harness.datasets.parts.arguments import require_at_least
from harness.datasets.parts.splits import SPLITS, stratified

FIELDS = ("images", "masks")

# Everything here lies in the installed packages (scikit-image: skimage/data, not its downloads). Left
# out: charts, text and silhouettes, and motorcycle_right, the same scene as motorcycle_left.
PHOTOGRAPHS = {
    "train": ("astronaut.png", "brick.png", "camera.png", "cell.png", "china.jpg", "clock_motion.png",
              "grass.png", "ihc.png", "motorcycle_left.png", "retina.jpg"),
    "validation": ("chelsea.png", "hubble_deep_field.jpg", "moon.png"),
    "test": ("coffee.png", "coins.png", "flower.jpg", "gravel.png", "rocket.jpg"),
}
SCIKIT_LEARN = ("china.jpg", "flower.jpg")

FINE = 6                                            # centre lines are found on a grid this much finer
LUMINANCE = np.array([0.299, 0.587, 0.114])         # ITU-R BT.601


def load(needs: tuple[str, ...], *, root: str | None = None, download: bool = False, image_size: int = 64,
         train: int = 600, validation: int = 100, test: int = 150, seed: int = 0) -> Dataset:
    """Images (3, S, S) uint8 with S = ``image_size``; masks 0 = background, k + 1 = digit k.

    ``train``, ``validation`` and ``test`` are numbers of scenes; a scene depends on ``seed``, its split
    and its place only, so a longer split begins with the shorter one. ``root`` and ``download`` are not
    used. Raises InputError for fewer than one scene, or an image below 32 pixels.
    """
    require_at_least(1, train=train, validation=validation, test=test)
    require_at_least(32, image_size=image_size)
    from sklearn.datasets import load_digits

    digits = load_digits()
    splits = []
    for part, (name, count) in enumerate(zip(SPLITS, (train, validation, test), strict=True)):
        pen = Pen(digits, stratified(digits.target, seed)[part])
        photographs = [_photograph(file) for file in PHOTOGRAPHS[name]]
        scenes = [_scene(pen, photographs[i % len(photographs)], image_size,
                         np.random.default_rng((seed, part, i))) for i in range(count)]
        images, masks = map(np.stack, zip(*scenes, strict=True))
        splits.append(Split(images, [f"{name}-{i:04d}" for i in range(count)], masks))
    return Dataset("digit_scenes", *splits, image_size=(image_size, image_size),
                   class_names=("background", *(f"digit {k}" for k in range(10))))


class Pen:
    """The centre lines of some of the digits, each found when first drawn."""

    def __init__(self, digits, members: np.ndarray):
        self.digits, self.members, self.lines = digits, members, {}

    def draw(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """A random digit: its label and the points (P, 2) of its line, (y, x), centred, height 1."""
        index = int(rng.choice(self.members))
        if index not in self.lines:
            self.lines[index] = _centre_line(self.digits.images[index])
        return int(self.digits.target[index]), self.lines[index]


def _centre_line(image: np.ndarray) -> np.ndarray:
    from scipy import ndimage
    from skimage.morphology import skeletonize

    smooth = ndimage.zoom(np.pad(image, 1), FINE, order=3, mode="grid-constant", grid_mode=True)
    # Sharpening reopens the loops of 6, 8 and 9 that 8x8 pixels have filled in.
    sharp = smooth + 5 * (smooth - ndimage.gaussian_filter(smooth, FINE))
    points = np.argwhere(skeletonize(sharp > 10)).astype(float)
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / (high - low)[0]


def _photograph(name: str) -> Image.Image:
    folder = (files("sklearn") / "datasets" / "images") if name in SCIKIT_LEARN else (files("skimage") / "data")
    with (folder / name).open("rb") as file:
        return Image.open(file).convert("RGB")


def _scene(pen: Pen, photograph: Image.Image, size: int,
           rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image (3, S, S) uint8 and its mask (S, S) uint8."""
    canvas = _crop(photograph, size, rng)
    mask = np.zeros((size, size), np.uint8)
    boxes: list[tuple[float, float, float, float]] = []
    wanted = rng.integers(2, 5)
    drawn = 0
    while drawn < wanted or len(boxes) < 2:          # a third or fourth may find no room
        label, line = pen.draw(rng)
        points = _place(line, size, boxes, rng)
        drawn += 1
        if points is not None:
            _ink(canvas, mask, points, label, rng)
    canvas += rng.normal(0, rng.uniform(0, 5), canvas.shape)    # a camera's noise, over ink and photograph alike
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8).transpose(2, 0, 1), mask


def _crop(photograph: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square crop, shrunk to (S, S, 3), 0..255 float; from fine texture to the whole motif."""
    short = min(photograph.size)
    low, high = min(short, 1.25 * size), min(short, 6 * size)
    side = np.exp(rng.uniform(np.log(low), np.log(high)))
    x, y = rng.uniform(0, np.array(photograph.size) - side)
    image = photograph.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
    canvas = np.asarray(image, dtype=float)
    if rng.random() < 0.5:
        canvas = canvas[:, ::-1]
    return np.clip((canvas - 128) * rng.uniform(0.75, 1.1) + 128 + rng.uniform(-25, 25), 0, 255)


def _place(line: np.ndarray, size: int, boxes: list, rng: np.random.Generator) -> np.ndarray | None:
    """The line scaled, slanted, turned and moved to a free place, in pixels; None where none is free."""
    angle, slant = rng.normal(0, 0.13), rng.normal(0, 0.1)
    height, stretch = size * rng.uniform(0.27, 0.44), rng.uniform(0.9, 1.25)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = line @ np.array([[1, slant], [0, stretch]]) @ turn * height
    low, high = points.min(0), points.max(0)
    margin = 0.035 * size                            # half of the widest pen and a gap
    for _ in range(30):
        centre = rng.uniform(margin - low, size - margin - high)
        y0, x0, y1, x1 = *(centre + low - margin), *(centre + high + margin)
        if all(y1 <= b[0] or b[2] <= y0 or x1 <= b[1] or b[3] <= x0 for b in boxes):
            boxes.append((y0, x0, y1, x1))
            return points + centre
    return None


def _ink(canvas: np.ndarray, mask: np.ndarray, points: np.ndarray, label: int, rng: np.random.Generator) -> None:
    """Draw the line through ``points`` (P, 2) into ``canvas`` and ``mask``, in place."""
    from scipy.spatial.distance import cdist

    size = len(mask)
    width = size / 64 * rng.uniform(1.6, 3.0)
    low = np.maximum(0, np.floor(points.min(0) - width)).astype(int)
    high = np.minimum(size, np.ceil(points.max(0) + width) + 1).astype(int)
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    pixels = np.stack(np.mgrid[window], -1) + 0.5
    distance = cdist(pixels.reshape(-1, 2), points).min(-1).reshape(pixels.shape[:2])
    cover = np.clip(width / 2 + 0.5 - distance, 0, 1)            # of each pixel by the pen, to first order

    below = canvas[window][cover >= 0.5]
    opacity = rng.uniform(0.65, 1.0)
    ink = _colour(canvas, below, opacity, rng)
    canvas[window] += (opacity * cover)[..., None] * (ink - canvas[window])
    mask[window][cover >= 0.5] = label + 1


def _colour(canvas: np.ndarray, below: np.ndarray, opacity: float, rng: np.random.Generator) -> np.ndarray:
    """A colour of the photograph, made lighter or darker until it stands out from what lies ``below`` it."""
    ink = canvas[tuple(rng.integers(0, len(canvas), 2))].copy()
    ground = below.mean(0) @ LUMINANCE
    contrast = (rng.uniform(35, 90) + (below @ LUMINANCE).std()) / opacity
    difference = ink @ LUMINANCE - ground
    sign = 1 if difference > 0 else -1
    if not 0 <= ground + sign * contrast <= 255:
        sign = 1 if ground < 128 else -1
    if sign * difference < contrast:
        ink += sign * contrast - difference
    return np.clip(ink, 0, 255)
