"""The training loop: deterministic, honest about divergence, with the schedule and average it says."""

import math

import pytest
import torch
from torch import nn

from harness.errors import InputError
from harness.spec import TrainSpec
from harness.train import LOG_EVERY, Diverged, averaged, learning_rate_factor, make_accelerator, train


def fit(budget, *, seed=0, loss=None, **options):
    torch.manual_seed(seed)
    model = nn.Linear(4, 1)
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor([[1.0], [-2.0], [3.0], [0.5]])

    def batches():
        while True:
            x = torch.randn(budget.batch_size, 4, generator=generator)
            yield x, x @ target

    squared = loss or (lambda model, batch: (model(batch[0]) - batch[1]).square().mean())
    return train(model, squared, batches(), budget, make_accelerator("cpu", budget.precision), **options)


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


def test_curve_times_grow_and_exclude_the_first_steps_from_step_times():
    trained = fit(budget())
    seconds = [s for _, s, _, _ in trained.curves]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert len(trained.step_s) == 60 - 5


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
