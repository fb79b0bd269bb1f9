"""``bench.py benchmark``: the same network here and in other libraries, in turns in one process. No torch import."""

from __future__ import annotations

# name -> what people read; one file each, whose run(asked) returns a harness.benchmark.result.Contest
CONTESTS = {
    "denoiser":    "diffusers' UNet2DModel with the same weights: training step, inference, DDIM sampling",
    "transformer": "diffusers' DiTTransformer2DModel with the same weights: training step, inference",
    "segmenter":   "the nearest U-Nets of MONAI and segmentation_models.pytorch: forward and backward, per MAC",
    "overhead":    "the training loop against a bare loop over the same network and batches",
    "evaluation":  "FID, KID, precision and recall: their share of a default run",
}
EXTRA = "peers"                                    # of pyproject.toml: libraries that only this command needs
