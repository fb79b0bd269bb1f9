"""A tiny budget of what `bench.py --suite generation` runs."""

import pytest

PROFILE = """generation:
  dataset: digits
  options: {width: 4}
  train: {steps: 12, batch_size: 8, learning_rate: 1.0e-3}
  settings: {num_inference_steps: 2, samples: 20, sample_batch: 20}
"""


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(PROFILE)
    return str(path)
