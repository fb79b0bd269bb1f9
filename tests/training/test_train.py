"""The training loop: deterministic, honest about divergence, with the schedule and average it says."""

import math

import pytest
import torch
from torch import nn

from harness.errors import InputError
from harness.spec import TrainSpec
from harness.training import train as training
from harness.training.state import Checkpoints
from harness.training.step import averaged, learning_rate_factor
from harness.training.train import LOG_EVERY, Diverged, Runtime, loaded, make_accelerator, train

TARGET = torch.tensor([[1.0], [-2.0], [3.0], [0.5]])


class Linear:
    """Batches of a linear function; the same at a step whenever it is asked for."""

    def __init__(self, batch_size):
        self.batch_size = batch_size

    def __getitem__(self, step):
        x = torch.randn(self.batch_size, 4, generator=torch.Generator().manual_seed(step))
        return x, x @ TARGET


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


def fit(budget, *, seed=0, loss=squared, model=None, validate=None, **runtime):
    torch.manual_seed(seed)
    model = model or nn.Linear(4, 1)
    return train(model, loss, Linear(budget.batch_size), budget, Runtime(make_accelerator("cpu", budget.precision),
                                                                         **runtime), validate=validate)


def budget(**changes):
    return TrainSpec(**{**dict(steps=60, batch_size=16, learning_rate=0.1), **changes})


def losses(trained):
    return [value for _, _, name, value in trained.curves if name == "loss"]


def test_learns():
    values = losses(fit(budget()))
    assert len(values) == 60 // LOG_EVERY
    assert values[-1] < 0.02 * values[0]


def test_same_seed_gives_the_same_curve_twice():
    assert losses(fit(budget())) == losses(fit(budget()))
    assert losses(fit(budget())) != losses(fit(budget(), seed=1))


def test_nan_is_divergence_and_says_when():
    def loss(model, batch):
        return model(batch[0]).mean() * math.nan

    with pytest.raises(Diverged, match="by step 10 of 60"):
        fit(budget(), loss=loss)


def test_averaged_weights_are_the_ones_judged():
    plain, ema = fit(budget()), fit(budget(ema_decay=0.9))
    assert losses(plain) == losses(ema)
    assert not torch.equal(plain.model.weight, ema.model.weight)
    assert type(ema.model) is nn.Linear


def test_average_follows_its_formula():
    model = nn.Linear(1, 1)
    average = averaged(model, 0.5)
    expected = None
    for n, value in enumerate([1.0, 2.0, 4.0, 8.0]):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if n == 0 else decay * expected + (1 - decay) * value
    assert average.module.weight.item() == pytest.approx(expected)


def test_learning_rate_warms_up_and_decays_to_nothing():
    factors = [learning_rate_factor(step, budget(steps=100, warmup_steps=10)) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1.0) and max(factors) == 1.0
    assert factors[100] == pytest.approx(0.0) and factors[55] == pytest.approx(0.5)
    assert all(a >= b for a, b in zip(factors[10:], factors[11:]))


def test_validation_comes_when_asked_and_at_the_end():
    trained = fit(budget(steps=50, validate_every=20), validate=lambda model: {"validation loss": 1.0})
    assert [step for step, _, name, _ in trained.curves if name == "validation loss"] == [20, 40, 50]


def test_timing_takes_its_steps_back_and_sets_the_seconds_of_the_curves(monkeypatch):
    monkeypatch.setattr(training, "TIMED_STEPS", 20)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    trained = fit(budget(ema_decay=0.9), model=model)
    before = {name: tensor.clone() for name, tensor in (model.state_dict() | {
        f"average {name}": tensor for name, tensor in trained.model.state_dict().items()}).items()}
    random = torch.get_rng_state()
    timing = trained.time_step(compiled=False)
    after = model.state_dict() | {f"average {name}": tensor for name, tensor in trained.model.state_dict().items()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(random, torch.get_rng_state()) and not trained.model.training
    assert len(timing.seconds) == training.TIMED_STEPS and timing.threads >= 1
    step_s = sorted(timing.seconds)[9:11]
    assert [s for _, s, _, _ in trained.curves] == pytest.approx([step * sum(step_s) / 2 for step in range(10, 70, 10)])


def test_the_share_of_time_that_waits_for_data():
    trained = fit(budget())
    assert 0 < trained.wait_share < 1


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_whoever_makes_them(workers):
    runtime = Runtime(make_accelerator("cpu", "fp32"), loader_workers=workers)
    state = torch.get_rng_state()
    for step, (x, y) in zip(range(3, 9), loaded(Linear(2), range(3, 9), runtime), strict=True):
        assert torch.equal(x, Linear(2)[step][0]) and torch.equal(y, x @ TARGET)
    assert torch.equal(state, torch.get_rng_state())


class Killed(Exception):
    pass


def interrupted(checkpoints, at, **options):
    """Train until ``at`` losses have been asked for, as a process does that is killed there."""
    calls = []

    def loss(model, batch):
        calls.append(1)
        if len(calls) > at:
            raise Killed
        return squared(model, batch)

    with pytest.raises(Killed):
        fit(loss=loss, checkpoints=checkpoints, **options)


def network(kind):
    torch.manual_seed(5)
    layers = {"dropout": [nn.Dropout(0.3)], "batch norm": [nn.BatchNorm1d(8)]}[kind]
    return nn.Sequential(nn.Linear(4, 8), *layers, nn.Linear(8, 1))


@pytest.mark.parametrize("kind", ["dropout", "batch norm"])
@pytest.mark.parametrize("at", [7, 20, 31])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(kind, at, tmp_path):
    options = {"budget": budget(steps=40, ema_decay=0.9, warmup_steps=5, validate_every=15, weight_decay=0.1),
               "validate": lambda model: {"validation loss": float(squared(model, Linear(8)[1000]))}}
    whole = fit(**options, model=network(kind))
    checkpoints = Checkpoints(tmp_path / "run", "id", every_s=1e-9)
    interrupted(checkpoints, at, **options, model=network(kind))
    assert len(list(checkpoints.folder.glob("*.pt"))) == 2
    heard = []
    resumed = fit(**options, model=network(kind), checkpoints=Checkpoints(tmp_path / "run", "id", every_s=1e-9),
                  progress=lambda **event: heard.append(event["stage"]))
    assert heard[0] == f"going on from step {at}"
    assert [(step, name, value) for step, _, name, value in resumed.curves] == [
        (step, name, value) for step, _, name, value in whole.curves]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


@pytest.mark.parametrize("device, precision, says", [
    ("cpu", "fp16", "needs a GPU"), ("cuda", "fp32", "finds none on this machine")])
def test_what_the_device_lacks_is_said(device, precision, says):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(InputError, match=says):
        make_accelerator(device, precision)


def test_precisions_may_follow_each_other_in_one_process():
    for precision in ("bf16", "fp32", "bf16"):
        assert make_accelerator("cpu", precision).mixed_precision == {"fp32": "no"}.get(precision, precision)


def test_compiles_what_is_trained_and_what_is_judged(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    trained = fit(budget(compile=True, ema_decay=0.9))
    assert len(compiled) == 2 and compiled[1] is trained.model
    fit(budget())
    assert len(compiled) == 2


def test_dropout_is_on_in_training_and_off_in_validation():
    modes = []
    trained = fit(budget(steps=20, validate_every=10), validate=lambda model: modes.append(model.training) or {},
                  loss=lambda model, batch: modes.append(model.training) or model(batch[0]).square().mean())
    assert modes == [True] * 10 + [False] + [True] * 10 + [False]
    assert not trained.model.training
