"""Drawn pictures that look like those of real runs: digits for generation; cells and their masks for segmentation."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harness.record import Picture

PALETTE = [40, 44, 52, 86, 180, 233, 230, 159, 0]
SIDE = 48


def digit_tiles(rows, mess, random, tile=32):
    """(rows·tile, 10·tile) grey: digits 0-9 by column, drawn with a wobble and ``mess`` of noise."""
    sheet = np.zeros((rows * tile, 10 * tile))
    for row in range(rows):
        for digit in range(10):
            image = Image.new("L", (tile, tile))
            shift = random.integers(-2, 3, 2)
            ImageDraw.Draw(image).text(
                (tile / 2 + shift[0], tile / 2 + shift[1]),
                str(digit),
                fill=255,
                anchor="mm",
                font=ImageFont.load_default(tile * 0.85),
            )
            image = image.rotate(random.uniform(-14, 14))
            sheet[row * tile : (row + 1) * tile, digit * tile : (digit + 1) * tile] = image
    noise = random.normal(0, 255 * mess, sheet.shape)
    return np.clip(sheet * (1 - mess) + noise, 0, 255).astype(np.uint8)


def cell_scene(case):
    """An image (SIDE, SIDE, 3) and its mask (SIDE, SIDE) of background, cells and their borders."""
    random = np.random.default_rng(1000 + case)
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(6):
        cy, cx = random.uniform(4, SIDE - 4, 2)
        a, b = random.uniform(5, 11, 2)
        distance = ((y - cy) / a) ** 2 + ((x - cx) / b) ** 2
        mask[(distance < 1.5) & (mask == 0)] = 2
        mask[distance < 1] = 1
    grey = 40 + 110 * (mask == 1) + 60 * (mask == 2) + random.normal(0, 14, mask.shape)
    return np.clip(np.stack([grey, grey * 0.8, grey * 1.1], -1), 0, 255).astype(np.uint8), mask


def palette_png(path, mask):
    image = Image.fromarray(mask)
    image.putpalette(PALETTE)
    image.save(path)


def write_pictures(folder, suite, quality, seed, cases=6):
    """Draws this suite's pictures into ``folder`` and returns what the record says of them."""
    random = np.random.default_rng(seed)
    if suite == "generation":
        Image.fromarray(digit_tiles(4, min(0.8, quality / 90), random)).save(folder / "samples.png")
        Image.fromarray(digit_tiles(2, 0, np.random.default_rng(99))).save(folder / "real.png")
        return {
            "samples.png": Picture(rows=4, columns=10, caption="Samples; a column is a class", role="output",
                                   heads=tuple("0123456789")),
            "real.png": Picture(rows=2, columns=10, caption="Held-out real images", role="reference"),
        }
    scenes = [cell_scene(case) for case in range(cases)]
    truth = np.concatenate([mask for _, mask in scenes], axis=1)
    guess = np.where(random.random(truth.shape) < (1 - quality) / 3, random.integers(0, 3, truth.shape), truth)
    Image.fromarray(np.concatenate([image for image, _ in scenes], axis=1)).save(folder / "images.png")
    palette_png(folder / "truth.png", truth)
    palette_png(folder / "prediction.png", guess.astype(np.uint8))
    return {
        f"{name}.png": Picture(rows=1, columns=cases, caption=name, role=role)
        for name, role in (("images", "input"), ("truth", "truth"), ("prediction", "output"))
    }
