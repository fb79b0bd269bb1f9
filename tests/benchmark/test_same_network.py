"""That the contestants compute the same: outputs and gradients in float64, and weights after some steps of training."""

import copy
import dataclasses
import itertools

import pytest
import torch

from harness.benchmark import denoiser, transformer
from harness.benchmark.contest import BUDGET, OURS, BenchmarkOptions, PlainLoop
from harness.benchmark.same_network import Repeated, agreement, error, random_batches, size, their_loss
from harness.diffusion import NoisePrediction
from harness.training.train import Runtime, make_accelerator, train
from variants.presets.weights import fill

FP32 = BenchmarkOptions("cpu", "fp32")
SMALL = {
    "denoiser": (denoiser, {**denoiser.NETWORK, "sample_size": 16, "block_out_channels": (32, 64, 64)}),
    "transformer": (transformer, {**transformer.NETWORK, "sample_size": 8, "num_layers": 2, "attention_head_dim": 8})}
STEPS = 3
FULL = {"denoiser": (denoiser, denoiser.NETWORK), "transformer": (transformer, transformer.NETWORK)}


def both(module, config, batch_size=2):
    pair = module.make_pair(config, batch_size)
    return pair, pair.ours().double().eval(), pair.theirs().double().eval()


def example(pair):
    x, noise, _, context = random_batches(pair, "cpu")[0]
    t = torch.linspace(0, 999, len(x)).long()
    return x.double(), noise.double(), t, context


@pytest.mark.parametrize("name", FULL)
def test_the_network_is_the_peers(name):
    pair, ours, theirs = both(*FULL[name])
    x, _, t, context = example(pair)
    with torch.inference_mode():
        found, expected = ours(x, t, context), pair.predict(theirs, x, t, context)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_the_peers(name):
    pair, ours, theirs = both(*SMALL[name])
    x, noise, t, context = example(pair)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    (ours(inputs[0], t, context) - noise).square().mean().backward()
    (pair.predict(theirs, inputs[1], t, context) - noise).square().mean().backward()
    assert inputs[1].grad.abs().max() > 0
    assert error(inputs[0].grad, inputs[1].grad) < 1e-10


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_has_its_place(name):
    """A tensor that is moved in theirs moves the output of both alike."""
    pair, ours, theirs = both(*SMALL[name])
    x, _, t, context = example(pair)
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)).double() * 0.02)
    weights = dict(theirs.state_dict())
    if name == "transformer":                      # blocks' embeddings have come apart: make them one again
        for block in theirs.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(theirs.transformer_blocks[0].norm1.emb.state_dict())
        weights = {key: value for key, value in (*theirs.state_dict().items(), *theirs.named_buffers())
                   if transformer.EMBEDDING not in key or key.startswith("transformer_blocks.0.")}
    with torch.inference_mode():
        before = ours(x, t, context)
        fill(ours, weights, SMALL[name][0].slots(ours))
        found, expected = ours(x, t, context), pair.predict(theirs, x, t, context)
    assert error(before, expected) > 1e-3 and error(found, expected) < 1e-12


def test_sizes_are_equal_where_the_network_is_one():
    pair = denoiser.make_pair(denoiser.NETWORK, 1)
    assert size(pair, OURS) == size(pair, "diffusers")


def test_the_loops_train_the_same_network():
    """Three steps of this project's loop leave the weights that three steps of the plain loop leave."""
    pair, ours, theirs = both(*SMALL["denoiser"])
    diffusion = NoisePrediction(1000, "linear")

    batches = Repeated((images.double(), noise.double(), t, context)
                       for images, noise, t, context in random_batches(pair, "cpu"))
    start, steps = copy.deepcopy(ours), itertools.count()

    class Stop(Exception):
        pass

    def loss(model, batch):                        # ended as a trial ends it
        if next(steps) == STEPS:
            raise Stop
        return diffusion.loss(model, *batch)

    with pytest.raises(Stop):
        train(ours, loss, batches, BUDGET, Runtime(make_accelerator("cpu", "fp32")))
    loop = PlainLoop(theirs, their_loss(pair, diffusion.scheduler), itertools.cycle(batches), "fp32",
                     torch.device("cpu"))
    for _ in range(STEPS):
        loop()
    trained = copy.deepcopy(ours)
    fill(trained, theirs.state_dict(), denoiser.slots(trained))

    def flat(network):
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    assert (flat(ours) - flat(start)).abs().median() > BUDGET.learning_rate
    assert (flat(ours) - flat(trained)).abs().max() < BUDGET.learning_rate / 100


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_small_contest_from_end_to_end(precision, tmp_path):
    said = []
    asked = BenchmarkOptions("cpu", precision, rounds=1, cache=tmp_path, say=said.append)
    found = denoiser.run(asked, SMALL["denoiser"][1], batch_size=2, samples=2, steps=2)
    assert said == ["training step", "inference", "sampling"] and [trial.name for trial in found.trials] == said
    peers = ["diffusers, fp32"] + ["diffusers, bf16 autocast"] * (precision == "bf16")
    for trial in found.trials:
        assert list(trial.contestants) == [OURS, *peers]
        assert [(one.subject, one.other) for one in trial.comparisons] == [(OURS, peer) for peer in peers]
        ours, theirs = (trial.contestants[name] for name in (OURS, peers[0]))
        assert (ours.parameters, ours.macs) == (theirs.parameters, theirs.macs)
        assert trial.comparisons[0].value == pytest.approx(theirs.seconds[0] / ours.seconds[0])
    steps, forward, sampling = (trial.contestants[OURS] for trial in found.trials)
    assert steps.flops == 3 * forward.flops and sampling.flops == 2 * forward.flops     # 2 steps of as many images
    assert len(found.checks) == 2
    if precision == "fp32":
        assert all(check.value < 1e-3 for check in found.checks)


def test_a_small_transformer_contest(tmp_path):
    options = BenchmarkOptions("cpu", "fp32", rounds=1, cache=tmp_path)
    found = transformer.run(options, SMALL["transformer"][1], batch_size=2)
    assert [trial.name for trial in found.trials] == ["training step", "inference"]
    assert all(check.ok for check in found.checks)


def test_another_network_is_noticed(tmp_path):
    """The check is not passed by weights that were not ported."""
    module, config = SMALL["denoiser"]
    pair = module.make_pair(config, 2)
    stranger = dataclasses.replace(pair, ours=lambda: denoiser.variants.build("ddpm", **denoiser.our_arguments(config)))
    assert agreement(pair, BenchmarkOptions("cpu", "bf16", cache=tmp_path))[0].ok
    assert not agreement(stranger, BenchmarkOptions("cpu", "bf16", cache=tmp_path))[0].ok


def test_samples_are_the_pipelines():
    pair = denoiser.make_pair(SMALL["denoiser"][1], 2)
    made = {name: sample(3) for name, sample in denoiser.samplers(pair, BenchmarkOptions("cpu", "fp32"), 2).items()}
    assert made[OURS].shape == (2, *pair.image) and made[OURS].std() > 0.1
    torch.testing.assert_close(made[OURS], made["diffusers, fp32"], rtol=0, atol=1e-3)


def test_every_step_of_sampling_is_looked_at():
    pair, visited = denoiser.make_pair(SMALL["denoiser"][1], 2), []

    class Listening(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = pair.ours()

        def forward(self, x, t, context):
            visited.append(int(t[0]))
            return self.network(x, t, context)

    check = denoiser.agreement_in_sampling(dataclasses.replace(pair, ours=Listening), FP32, 4)
    assert visited == [999, 749, 499, 249] and check.ok and check.value < 1e-4


def test_a_detail_that_differs_is_noticed():
    config = SMALL["denoiser"][1]
    pair = denoiser.make_pair(config, 2)

    def astray():                                  # the weights are the peer's, the sinusoids are DDPM's
        network = denoiser.variants.build("ddpm", **{**denoiser.our_arguments(config), "frequency_shift": 1})
        fill(network, pair.theirs().state_dict(), denoiser.slots(network))
        return network

    assert not denoiser.agreement_in_sampling(dataclasses.replace(pair, ours=astray), FP32, 4).ok
