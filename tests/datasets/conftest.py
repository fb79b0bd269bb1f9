"""Small image folders written to disk, and the real sets where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def real_data() -> Path:
    """The folder that holds isbi2012 and MNIST; the test is skipped where there is none."""
    named = os.environ.get("UNET_BENCH_DATA")
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(named) if named else beside
    if not folder.is_dir():
        pytest.skip("real data absent: set UNET_BENCH_DATA to the folder that holds isbi2012 and MNIST")
    return folder


@pytest.fixture
def pairs(tmp_path):
    """A function that writes a segmentation set: pairs(6, mask=...) -> its folder."""

    def write(count: int, *, suffix: str = ".png", mask=lambda i, shape: np.eye(*shape, dtype=np.uint8) * 255,
              image=lambda i, shape: np.full(shape, 10 * i, np.uint8), shape=(12, 10)) -> Path:
        folder = tmp_path / "my_set"
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(image(i, shape)).save(folder / "images" / f"img{i + 1}{suffix}")
            Image.fromarray(mask(i, shape)).save(folder / "masks" / f"img{i + 1}.png")
        return folder

    return write
