"""Every suite with every network: a whole record, repeatable, with the test split touched once."""

import csv
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import harness.run
import variants
from harness import suites
from harness.datasets.parts.store import keep
from harness.record import read_record
from harness.spec import Seeds, TrainSpec

SUITES = [name for name in suites.registry.names() if name != "efficiency"]        # which learns nothing


def run(spec, data, tmp_path, code="c"):
    """Make the run; all tests share a cache, so that the classifier of the same data is trained once."""
    record = harness.run.run(spec, data, tmp_path / "runs", tmp_path.parent / "suites-cache", code=code)
    return record, tmp_path / "runs" / record.run_id


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def short_classifier(monkeypatch):
    from harness.metrics import classifier
    monkeypatch.setitem(classifier.RECIPE, "steps", 20)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("variant", variants.names())
def test_every_network_leaves_a_whole_record_and_the_same_again(suite, variant, tiny_data, tiny_spec, tmp_path):
    spec, data = tiny_spec(suite, variant=variant), tiny_data(suite)
    (record, folder), (again, other) = (run(spec, data, tmp_path, code) for code in ("one", "two"))
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    assert read_record(folder).metrics.keys() == record.metrics.keys()
    assert {"parameters", "macs", "flops", "step_ms", "train_images_per_s", "peak_memory_bytes"} <= set(record.cost)
    # Memory may be 0 here: this process has held more before. Runs have a process each.
    assert all(metric.value > 0 for name, metric in record.cost.items() if name != "peak_memory_bytes")
    assert all(metric.protocol for metric in record.metrics.values())
    curves = rows(folder / "curves.csv")
    assert {row["name"] for row in curves} >= {"loss", "validation loss"}
    assert {int(row["step"]) for row in curves if row["name"] == "validation loss"} == {6, 12}
    for name, picture in record.pictures.items():
        width, height = Image.open(folder / name).size
        assert (width, height) == (16 * picture.columns, 16 * picture.rows)
    assert sum(t.numel() for t in load_file(folder / "model.safetensors").values()) > 0
    assert record.run_id != again.run_id
    values = [[(r["step"], r["name"], r["value"]) for r in rows(each / "curves.csv")] for each in (folder, other)]
    assert values[0] == values[1]
    assert [m.model_dump() for m in record.metrics.values()] == [m.model_dump() for m in again.metrics.values()]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("seed", ["init", "data"])
def test_each_seed_moves_the_curve(suite, seed, tiny_data, tiny_spec, tmp_path):
    data = tiny_data(suite)
    curves = [rows(run(tiny_spec(suite, seeds=Seeds(**{seed: i})), data, tmp_path)[1] / "curves.csv") for i in range(2)]
    assert [r["value"] for r in curves[0]] != [r["value"] for r in curves[1]]


def test_sampling_seed_moves_samples_only(tiny_data, tiny_spec, tmp_path):
    data = tiny_data("generation")
    runs = [run(tiny_spec("generation", seeds=Seeds(sampling=i)), data, tmp_path) for i in range(2)]
    losses = [[r["value"] for r in rows(folder / "curves.csv")] for _, folder in runs]
    assert losses[0] == losses[1]
    samples = [np.asarray(Image.open(folder / "samples.png")) for _, folder in runs]
    assert not np.array_equal(*samples)


@pytest.mark.parametrize("suite", SUITES)
def test_test_split_is_touched_once_and_after_training(suite, tiny_data, tiny_spec, tmp_path, monkeypatch):
    """Reading the test images is forbidden until the loop has ended; then every image is evaluated once."""
    from harness.suites import segmentation
    data, stages = tiny_data(suite), []

    class Watched(list):
        def __getitem__(self, index):
            assert "trained" in stages, "the test split was read before training ended"
            return super().__getitem__(index)

    object.__setattr__(data.test, "images", Watched(data.test.images))
    module = suites.registry.load(suite)
    train = module.train

    def watched_train(*args, **kwargs):
        trained = train(*args, **kwargs)
        stages.append("trained")
        return trained

    monkeypatch.setattr(module, "train", watched_train)
    evaluated = []
    if suite == "segmentation":
        predict = segmentation.predict

        def watched_predict(model, split, *rest):
            evaluated.append(split)
            return predict(model, split, *rest)

        monkeypatch.setattr(segmentation, "predict", watched_predict)
    record, folder = run(tiny_spec(suite), data, tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    if suite == "segmentation":
        assert sum(split is data.test for split in evaluated) == 1


@pytest.mark.parametrize("suite", SUITES)
def test_a_trial_is_trained_and_validated_and_never_sees_the_test_split(suite, tiny_data, tiny_spec, tmp_path):
    data, whole = tiny_data(suite), tiny_data(suite)

    class Forbidden:
        def __getattr__(self, name):
            raise AssertionError(f"a trial asked for test.{name}")

    fields = {"fingerprint": whole.fingerprint, "describe": whole.describe}
    record, folder = run(tiny_spec(suite), whole, tmp_path)
    hidden = Blind(data, Forbidden(), **fields)
    trial, trial_folder = run(tiny_spec(suite, evaluate_on_test=False), hidden, tmp_path)
    assert trial.status == "ok", (trial_folder / "traceback.txt").read_text()
    assert trial.run_id != record.run_id
    assert trial.metrics == {} and trial.pictures == {} and not (trial_folder / "cases.csv").exists()
    curves = [[(r["step"], r["name"], r["value"]) for r in rows(f / "curves.csv")] for f in (folder, trial_folder)]
    assert curves[0] == curves[1] and {name for _, name, _ in curves[1]} >= {"validation loss"}
    assert {"parameters", "macs", "step_ms", "train_images_per_s", "peak_memory_bytes"} <= set(trial.cost)
    assert not [name for name in trial.cost if name.startswith(("sampling", "inference"))]
    assert read_record(trial_folder).spec.evaluate_on_test is False


class Blind:
    """A data set without its test split; what the harness knows of the whole one is handed in."""

    def __init__(self, data, test, **known):
        self.data, self.test, self.known = data, test, known

    def __getattr__(self, name):
        return self.known[name] if name in self.known else getattr(self.data, name)


@pytest.mark.parametrize("suite", SUITES)
def test_suites_say_what_their_runs_leave(suite, tiny_data, tiny_spec, tmp_path):
    record, folder = run(tiny_spec(suite), tiny_data(suite), tmp_path)
    declared = [suites.registry.constant(suite, name) for name in ("METRICS", "CURVES")]
    assert [name for name in record.metrics if "/" not in name] == list(declared[0])
    assert {row["name"] for row in rows(folder / "curves.csv")} == set(declared[1])


@pytest.mark.parametrize("settings, own, absent", [
    ({}, {"sampler": "DDIM", "eta": 0.0}, {"solver_order", "variance"}),
    ({"sampler": "ddpm", "variance": "fixed_large"}, {"sampler": "DDPM", "variance": "fixed_large"},
     {"eta", "solver_order"}),
    ({"sampler": "dpm_solver++", "solver_order": 3}, {"sampler": "DPM-Solver++", "solver_order": 3},
     {"eta", "variance"})])
def test_protocols_name_the_sampler(settings, own, absent, tiny_data, tiny_spec, tmp_path):
    settings = {"num_inference_steps": 3, "samples": 8, "sample_batch": 4, **settings}
    record, folder = run(tiny_spec("generation", settings=settings), tiny_data("generation"), tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
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
    from harness.suites.generation import Settings
    with pytest.raises(ValueError, match=words):
        Settings(**wrong)


def test_segmentation_cases_cover_the_test_split_once(tiny_data, tiny_spec, tmp_path):
    record, folder = run(tiny_spec("segmentation"), tiny_data("segmentation"), tmp_path)
    dice = [row for row in rows(folder / "cases.csv") if row["metric"] == "dice" and row["class"] == "square"]
    assert sorted(row["case"] for row in dice) == [f"test{i}" for i in range(8)]
    assert next(iter(record.metrics)) == "dice_macro" and record.metrics["dice_macro"].n == 8
    values = [float(row["value"]) for row in dice]
    assert record.metrics["dice/square"].value == pytest.approx(np.nanmean(values))


def test_segmentation_learns_squares(tiny_data, tiny_spec, tmp_path):
    budget = TrainSpec(steps=60, batch_size=8, learning_rate=1e-2)
    record, _ = run(tiny_spec("segmentation", options={"width": 8}, train=budget), tiny_data("segmentation"), tmp_path)
    assert record.metrics["dice/square"].value > 0.9


def test_windows_see_all_of_an_image_larger_than_the_crop(tiny_data, tiny_spec, tmp_path):
    settings = {"crop_size": 8, "eval_batch": 4}
    record, folder = run(tiny_spec("segmentation", settings=settings), tiny_data("segmentation"), tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    assert record.cost["macs"].protocol["input"] == [[1, 1, 8, 8]]
    assert Image.open(folder / "prediction.png").size == (16 * 6, 16)


def test_generation_reports_floor_and_n(tiny_data, tiny_spec, tmp_path):
    record, _ = run(tiny_spec("generation"), tiny_data("generation"), tmp_path)
    fid = record.metrics["fid"]
    assert fid.label == "FID (tiny-cnn)" and fid.n == 8 and fid.direction == "lower"
    assert fid.real_data_reference is not None
    assert fid.protocol["num_inference_steps"] == 3 and fid.protocol["n"] == 8
    assert record.metrics["label_agreement"].n == 8


def test_colour_images_are_generated_and_evaluated(tiny_data, tiny_spec, tmp_path):
    """Their batches lie channels last in memory, which those of grey ones do not differ from."""
    data = tiny_data("generation")
    data = replace(data, fingerprint="", **{
        name: replace(part, images=[np.concatenate([image, image // 2, 255 - image]) for image in part.images])
        for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test))})
    settings = {"num_inference_steps": 3, "samples": 8, "sample_batch": 4, "extractor": "classifier"}
    record, folder = run(tiny_spec("generation", settings=settings), data, tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    assert record.metrics["fid"].value > 0 and Image.open(folder / "samples.png").mode == "RGB"


def test_unlabelled_generation(tiny_data, tiny_spec, tmp_path):
    data = tiny_data("generation")
    for part in (data.train, data.validation, data.test):
        object.__setattr__(part, "labels", None)
    record, folder = run(tiny_spec("generation"), data, tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    assert record.metrics["fid"].label == "FID (tiny-rotation-cnn)" and "label_agreement" not in record.metrics


@pytest.mark.parametrize("suite", SUITES)
def test_divergence_is_a_row(suite, tiny_data, tiny_spec, tmp_path):
    budget = TrainSpec(steps=40, batch_size=4, learning_rate=1e30, max_grad_norm=1e30)
    record, folder = run(tiny_spec(suite, train=budget), tiny_data(suite), tmp_path)
    assert record.status == "diverged" and "loss became" in record.error
    assert record.metrics == {} and record.cost["parameters"].value > 0
    assert read_record(folder).status == "diverged"


def test_out_of_memory_is_a_row(tiny_data, tiny_spec, tmp_path):
    """A width whose weights (2^50 channels and more) no machine holds; the meta device counts them all the same."""
    record, _ = run(tiny_spec("segmentation", options={"width": 2 ** 19}), tiny_data("segmentation"), tmp_path)
    assert record.status == "oom" and "memory" in record.error


def test_a_network_that_breaks_the_contract_is_a_row(tiny_data, tiny_spec, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nclass Half(nn.Module):\n"
        "    def __init__(self, **kwargs):\n        super().__init__(); self.c = nn.Conv2d(1, 2, 3)\n"
        "    def forward(self, x, t=None, context=None):\n        return self.c(x)\n")
    spec = tiny_spec("segmentation", variant=f"{tmp_path}/mine.py:Half", options={})
    record, _ = run(spec, tiny_data("segmentation"), tmp_path)
    assert record.status == "failed" and "shape (1, 2, 16, 16), not (1, 2, 14, 14)" in record.error


def test_batches_are_functions_of_seed_and_step(tiny_data, suite_batches):
    """Arms that share a seed see the same images, crops and noise, in whatever order steps are asked for."""
    for make in suite_batches(tiny_data):
        first, again, other = make(3), pickle.loads(pickle.dumps(make(3))), make(4)
        for step in (5, 0, 2):
            assert all(torch.equal(a, b) for a, b in zip(first[step], again[step]))
            assert not torch.equal(first[step][0], other[step][0])
        assert not torch.equal(first[0][0], first[4][0])                # another epoch, in another order


@pytest.fixture
def suite_batches():
    from harness.suites import generation, segmentation

    def makers(tiny_data):
        masks, labels = tiny_data("segmentation"), tiny_data("generation")
        standardize = segmentation.Standardize(masks)
        return (lambda seed: segmentation.RandomCrops(masks.train, standardize, (8, 8), 4, seed),
                lambda seed: generation.NoisyImages(labels.train, generation.Settings(), 2, 4, seed))
    return makers


def test_every_image_comes_once_an_epoch(tiny_data):
    from harness.suites.segmentation import RandomCrops, Standardize
    data = tiny_data("segmentation")
    standardize = Standardize(data)
    batches = RandomCrops(data.train, standardize, (16, 16), 8, 0)
    seen = torch.cat([batches[step][0] for step in range(2)])
    expected = torch.stack([standardize(image) for image in data.train.images])
    assert torch.equal(seen.flatten(1).sort(0).values, expected.flatten(1).sort(0).values)
    assert seen.mean().abs() < 1e-5 and abs(seen.std().item() - 1) < 1e-2


@pytest.mark.parametrize("suite", SUITES)
def test_stored_data_give_the_run_that_data_in_memory_give(suite, tiny_data, tiny_spec, tmp_path):
    data = tiny_data(suite)
    (one, a), (other, b) = run(tiny_spec(suite), data, tmp_path, "one"), run(tiny_spec(suite), keep(data, tmp_path),
                                                                             tmp_path, "two")
    assert one.status == "ok", (a / "traceback.txt").read_text()
    assert other.status == "ok", (b / "traceback.txt").read_text()
    values = [[(r["step"], r["name"], r["value"]) for r in rows(folder / "curves.csv")] for folder in (a, b)]
    assert values[0] == values[1] and one.data == other.data
    assert {name: m.value for name, m in one.metrics.items()} == {name: m.value for name, m in other.metrics.items()}
    for name in one.pictures:
        assert np.array_equal(Image.open(a / name), Image.open(b / name))


def test_pixels_that_do_not_count_are_stated_and_move_nothing(tiny_data, tiny_spec, tmp_path):
    """Two truths that differ only there, and there only in what hides behind 255, are one."""
    data = tiny_data("segmentation")
    for part in (data.train, data.validation, data.test):
        for mask in part.masks:
            mask[:, 12:] = 255
    data = replace(data, ignore=255, fingerprint="")
    record, folder = run(tiny_spec("segmentation"), data, tmp_path)
    assert record.status == "ok", (folder / "traceback.txt").read_text()
    assert record.data["ignore"] == 255
    for metric in record.metrics.values():
        assert metric.protocol["ignore"] == 255 and metric.protocol["ignored_pixels"] == 8 * 16 * 4
    truth = Image.open(folder / "truth.png")
    assert truth.getpalette()[3 * 255:] == [255, 255, 255] and truth.getpixel((15, 0)) == 255
    assert "does not count" in record.pictures["truth.png"].caption


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_moments_are_those_of_all_pixels(dtype):
    from harness.suites.segmentation import moments
    draws = np.random.default_rng(0)
    images = [draws.integers(0, 256, (3, *shape)).astype(dtype) for shape in ((5, 7), (9, 4), (6, 6))]
    images = [image / dtype(255) if dtype == np.float32 else image for image in images]
    pixels = np.concatenate([image.reshape(3, -1).astype(float) for image in images], axis=1)
    pixels = pixels / 255 if dtype == np.uint8 else pixels
    mean, deviation = moments(images)
    assert np.allclose(mean, pixels.mean(1), rtol=1e-12) and np.allclose(deviation, pixels.std(1), rtol=1e-12)


def test_standardisation_is_kept_beside_the_store(tiny_data, tmp_path, monkeypatch):
    from harness.suites import segmentation
    data = keep(tiny_data("segmentation"), tmp_path)
    first = segmentation.Standardize(data)
    monkeypatch.setattr(segmentation, "moments", lambda images: pytest.fail("computed again"))
    again = segmentation.Standardize(data)
    assert torch.equal(first.mean, again.mean) and torch.equal(first.deviation, again.deviation)


def test_a_denoiser_of_16_bit_images_sees_the_whole_range(tiny_data):
    from harness.suites.generation import NoisyImages, Settings
    data = tiny_data("generation")
    wide = replace(data.train, images=[(image / 255).astype(np.float32) for image in data.train.images])
    eight, sixteen = (NoisyImages(part, Settings(), 0, 8, 0)[0] for part in (data.train, wide))
    assert torch.allclose(eight[0], sixteen[0], atol=1e-6) and torch.equal(eight[1], sixteen[1])
