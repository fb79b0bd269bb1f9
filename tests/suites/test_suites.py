"""What every suite keeps to, with every network: a whole record, repeatable, with the test split touched once."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import harness.run
import variants
from harness import suites
from harness.datasets.parts.store import keep
from harness.measurement import costs
from harness.record import read_record
from harness.spec import Seeds, TrainSpec

SUITES = [name for name in suites.registry.names() if name != "efficiency"]        # which learns nothing
BRIEF = TrainSpec(steps=4, batch_size=4, learning_rate=1e-2, ema_decay=0.9, validate_every=2)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("variant", variants.names())
def test_every_network_leaves_a_whole_record_and_the_same_again(suite, variant, run, tiny_data, tiny_spec, monkeypatch):
    spec, data = tiny_spec(suite, variant=variant, train=BRIEF), tiny_data(suite)
    made = run(spec, data, "one").check()
    record, folder = made.record, made.folder
    assert read_record(folder).metrics.keys() == record.metrics.keys()
    assert {"parameters", "macs", "flops", "step_ms", "train_images_per_s", "peak_memory_bytes"} <= set(record.cost)
    # Memory may be 0 here: this process has held more before. Runs have a process each.
    assert all(metric.value > 0 for name, metric in record.cost.items() if name != "peak_memory_bytes")
    assert all(metric.protocol for metric in record.metrics.values())
    assert {name for _, name, _ in made.curves} >= {"loss", "validation loss"}
    assert {int(step) for step, name, _ in made.curves if name == "validation loss"} == {2, 4}
    for name, picture in record.pictures.items():
        width, height = Image.open(folder / name).size
        assert (width, height) == (16 * picture.columns, 16 * picture.rows)
    assert sum(t.numel() for t in load_file(folder / "model.safetensors").values()) > 0

    monkeypatch.setattr(harness.run, "count", lambda *args: ({}, []))      # what it costs is known, and moves nothing
    monkeypatch.setattr(costs, "training_speed", lambda *args: {})
    again = run(spec, data, "two").check()
    assert record.run_id != again.record.run_id
    assert made.curves == again.curves
    assert [m.model_dump() for m in record.metrics.values()] == [m.model_dump() for m in again.record.metrics.values()]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("seed", ["init", "data"])
def test_each_seed_moves_the_curve(suite, seed, run, usual, tiny_data, tiny_spec):
    other = run(tiny_spec(suite, seeds=Seeds(**{seed: 1})), tiny_data(suite)).check()
    assert [value for *_, value in usual(suite).curves] != [value for *_, value in other.curves]


def test_sampling_seed_moves_samples_only(run, usual, tiny_data, tiny_spec):
    runs = usual("generation"), run(tiny_spec("generation", seeds=Seeds(sampling=1)), tiny_data("generation")).check()
    losses = [[value for *_, value in made.curves] for made in runs]
    assert losses[0] == losses[1]
    samples = [np.asarray(Image.open(made.folder / "samples.png")) for made in runs]
    assert not np.array_equal(*samples)


@pytest.mark.parametrize("suite", SUITES)
def test_test_split_is_touched_once_and_after_training(suite, run, tiny_data, tiny_spec, monkeypatch):
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
    run(tiny_spec(suite), data).check()
    if suite == "segmentation":
        assert sum(split is data.test for split in evaluated) == 1


@pytest.mark.parametrize("suite", SUITES)
def test_a_trial_is_trained_and_validated_and_never_sees_the_test_split(suite, run, usual, tiny_data, tiny_spec):
    data, whole = tiny_data(suite), usual(suite)

    class Forbidden:
        def __getattr__(self, name):
            raise AssertionError(f"a trial asked for test.{name}")

    hidden = Blind(data, Forbidden(), fingerprint=data.fingerprint, describe=tiny_data(suite).describe)
    made = run(tiny_spec(suite, evaluate_on_test=False), hidden).check()
    trial = made.record
    assert trial.run_id != whole.record.run_id
    assert trial.metrics == {} and trial.pictures == {} and not (made.folder / "cases.csv").exists()
    assert made.curves == whole.curves and {name for _, name, _ in made.curves} >= {"validation loss"}
    assert {"parameters", "macs", "step_ms", "train_images_per_s", "peak_memory_bytes"} <= set(trial.cost)
    assert not [name for name in trial.cost if name.startswith(("sampling", "inference"))]
    assert read_record(made.folder).spec.evaluate_on_test is False


class Blind:
    """A data set without its test split; what the harness knows of the whole one is handed in."""

    def __init__(self, data, test, **known):
        self.data, self.test, self.known = data, test, known

    def __getattr__(self, name):
        return self.known[name] if name in self.known else getattr(self.data, name)


@pytest.mark.parametrize("suite", SUITES)
def test_suites_say_what_their_runs_leave(suite, usual):
    made = usual(suite)
    metrics, curves = (suites.registry.constant(suite, name) for name in ("METRICS", "CURVES"))
    assert [name for name in made.record.metrics if "/" not in name] == list(metrics)
    assert {name for _, name, _ in made.curves} == set(curves)


@pytest.mark.parametrize("suite", SUITES)
def test_stored_data_give_the_run_that_data_in_memory_give(suite, run, usual, tiny_data, tiny_spec, tmp_path):
    one, other = usual(suite), run(tiny_spec(suite), keep(tiny_data(suite), tmp_path)).check()
    assert one.curves == other.curves and one.record.data == other.record.data
    values = [{name: m.value for name, m in made.record.metrics.items()} for made in (one, other)]
    assert values[0] == values[1]
    for name in one.record.pictures:
        assert np.array_equal(Image.open(one.folder / name), Image.open(other.folder / name))


@pytest.mark.parametrize("suite", SUITES)
def test_divergence_is_a_row(suite, run, tiny_data, tiny_spec):
    budget = TrainSpec(steps=40, batch_size=4, learning_rate=1e30, max_grad_norm=1e30)
    made = run(tiny_spec(suite, train=budget), tiny_data(suite))
    record = made.record
    assert record.status == "diverged" and "loss became" in record.error
    assert record.metrics == {} and record.cost["parameters"].value > 0
    assert read_record(made.folder).status == "diverged"


def test_out_of_memory_is_a_row(run, tiny_data, tiny_spec):
    """A width whose weights (2^50 channels and more) no machine holds; the meta device counts them all the same."""
    record = run(tiny_spec("segmentation", options={"width": 2 ** 19}), tiny_data("segmentation")).record
    assert record.status == "oom" and "memory" in record.error


def test_a_network_that_breaks_the_contract_is_a_row(run, tiny_data, tiny_spec, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nclass Half(nn.Module):\n"
        "    def __init__(self, **kwargs):\n        super().__init__(); self.c = nn.Conv2d(1, 2, 3)\n"
        "    def forward(self, x, t=None, context=None):\n        return self.c(x)\n")
    spec = tiny_spec("segmentation", variant=f"{tmp_path}/mine.py:Half", options={})
    record = run(spec, tiny_data("segmentation")).record
    assert record.status == "failed" and "(N, 2, 16, 16), not (2, 2, 14, 14)" in record.error


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
