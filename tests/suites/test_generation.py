"""The generation suite: what its numbers say of samplers and classifiers, and images of every kind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from harness.suites.generation import NoisyImages, Settings


@pytest.mark.parametrize("settings, own, absent", [
    ({}, {"sampler": "DDIM", "eta": 0.0}, {"solver_order", "variance"}),
    ({"sampler": "ddpm", "variance": "fixed_large"}, {"sampler": "DDPM", "variance": "fixed_large"},
     {"eta", "solver_order"}),
    ({"sampler": "dpm_solver++", "solver_order": 3}, {"sampler": "DPM-Solver++", "solver_order": 3},
     {"eta", "variance"})])
def test_protocols_name_the_sampler(settings, own, absent, run, tiny_data, tiny_spec):
    settings = {"num_inference_steps": 3, "samples": 8, "sample_batch": 4, **settings}
    record = run(tiny_spec("generation", settings=settings), tiny_data("generation")).check().record
    for metric in record.metrics.values():
        assert {**own, "num_inference_steps": 3, "schedule": "cosine", "guidance_scale": 1.5}.items() \
            <= metric.protocol.items() and not absent & metric.protocol.keys()
    speed = record.cost["sampling_images_per_s"].protocol
    own.pop("eta", None)
    assert own.items() <= speed.items() and not absent & speed.keys()


@pytest.mark.parametrize("wrong, words", [
    ({"sampler": "ddpm", "eta": 1.0}, "eta 1.0 is for the sampler 'ddim'"), ({"sampler": "euler"}, "sampler"),
    ({"timesteps": 10}, "num_inference_steps 25 is more than the 10 timesteps"), ({"solver_order": 3}, "solver_order"),
    ({"sampler": "dpm_solver++", "solver_order": 4}, "solver_order")])
def test_settings_that_do_not_fit_each_other(wrong, words):
    with pytest.raises(ValueError, match=words):
        Settings(**wrong)


def test_fid_says_its_features_its_n_and_what_real_data_score(usual):
    record = usual("generation").record
    fid = record.metrics["fid"]
    assert fid.label == "FID (tiny-cnn)" and fid.n == 8 and fid.direction == "lower"
    assert fid.real_data_reference is not None
    assert fid.protocol["num_inference_steps"] == 3 and fid.protocol["n"] == 8
    assert record.metrics["label_agreement"].n == 8


def test_colour_images_are_generated_and_evaluated(run, tiny_data, tiny_spec):
    """Their batches lie channels last in memory, which those of grey ones do not differ from."""
    data = tiny_data("generation")
    data = replace(data, fingerprint="", **{
        name: replace(part, images=[np.concatenate([image, image // 2, 255 - image]) for image in part.images])
        for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test))})
    settings = {"num_inference_steps": 3, "samples": 8, "sample_batch": 4, "extractor": "classifier"}
    made = run(tiny_spec("generation", settings=settings), data).check()
    assert made.record.metrics["fid"].value > 0 and Image.open(made.folder / "samples.png").mode == "RGB"


def test_unlabelled_images(run, tiny_data, tiny_spec):
    data = tiny_data("generation")
    for part in (data.train, data.validation, data.test):
        object.__setattr__(part, "labels", None)
    record = run(tiny_spec("generation"), data).check().record
    assert record.metrics["fid"].label == "FID (tiny-rotation-cnn)" and "label_agreement" not in record.metrics


def test_a_denoiser_of_16_bit_images_sees_the_whole_range(tiny_data):
    data = tiny_data("generation")
    wide = replace(data.train, images=[(image / 255).astype(np.float32) for image in data.train.images])
    eight, sixteen = (NoisyImages(part, Settings(), 0, 8, 0)[0] for part in (data.train, wide))
    assert torch.allclose(eight[0], sixteen[0], atol=1e-6) and torch.equal(eight[1], sixteen[1])
