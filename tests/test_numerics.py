"""The fast path (bf16 autocast, channels last) against float64, on every network: does it err as bf16 must, or more?

One rounding to bf16 is off by at most u = 2^-8 of the value, and by 0.42 u in the root mean square. Roundings are
independent, so k of them on the way to an output add up to about 0.42 sqrt(k) u, where nothing amplifies them. What
must be expected is measured, not guessed: the float64 network is run once more with every parameter, and whatever an
operator returns, rounded to bf16 (``tests/rounding.py``). The fast path does the same roundings in other places, and
may not be worse.
"""

import copy
from functools import cache, partial

import pytest
import torch
from rounding import UNIT, Rounding, Watching, distance, error, over_seeds, stored_in_bf16
from torch.nn import functional as F

import variants
from harness.diffusion import NoisePrediction
from harness.training.losses import NAMES, segmentation_loss
from harness.training.train import make_accelerator

SIDE, WIDTH, BATCH, CONTEXT = 32, 8, 2, (3, 6)
USES = {"segmentation": dict(in_channels=3, out_channels=5, image_size=SIDE),
        "denoising": dict(in_channels=3, out_channels=3, image_size=SIDE, time=True, context_dim=CONTEXT[1])}
SEEDS = range(3)
FP32_ERROR, FP32_GRADIENT_ERROR = 1e-5, 1e-4    # measured, 12 seeds: 2e-6 and 1.3e-5 (mobile, whose ReLUs end twice)
OUTPUT_ERROR = 8 * UNIT         # over seeds; measured, over 12 of them: 0.9 u (uvit) to 5.9 u (mobile)
OVER_ROUNDING = 1.5             # times the error of ``Rounding``; measured, three seeds at a time: 0.55 to 1.31
GRADIENT_COSINE = 0.95          # of each seed; measured: 0.965 (fcn, whose last maps are 1 x 1) to 0.99999 (dit)
GRADIENT_OVER_ROUNDING = 2.5    # two seeds at a time: 0.6 to 1.5; where a maximum or a ReLU flips, errors come in lumps
ONE_OVER_ROUNDING = 8           # the same of one parameter; measured: up to 3
every_variant = pytest.mark.parametrize("name", variants.names())
every_use = pytest.mark.parametrize("use", USES)


def leave_zero(network, generator):
    """Layers that start at zero (DiT's gates, DDPM's last convolutions) would hide what lies before them."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                vector = parameter.ndim == 1 or len(parameter) == 1
                parameter.normal_(0, 0.5 if vector else parameter[0].numel() ** -0.5, generator=generator)


def case(name, use, seed):
    """(network in fp32, its inputs, the generator that made them)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = variants.build(name, width=WIDTH, **USES[use])
    leave_zero(network, generator)
    x = torch.randn(BATCH, 3, SIDE, SIDE, generator=generator)
    if use == "segmentation":
        return network, (x, None, None), generator
    return network, (x, torch.tensor([3, 517]), torch.randn(BATCH, *CONTEXT, generator=generator)), generator


def doubled(network):
    return copy.deepcopy(network).double()


def fast(network):
    return copy.deepcopy(network).to(memory_format=torch.channels_last)


def in_double(inputs):
    return tuple(x.double() if x is not None and x.is_floating_point() else x for x in inputs)


def laid_out(inputs):
    return inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:]


@pytest.fixture
def accelerator():
    return make_accelerator("cpu", "bf16")


@every_use
@every_variant
def test_outputs_agree_with_float64_within_what_bf16_costs(name, use, accelerator):
    errors, expected = [], []
    for seed in SEEDS:
        network, inputs, _ = case(name, use, seed)
        network.eval()
        with torch.inference_mode():
            exact = doubled(network)(*in_double(inputs))
            assert exact.std() > 0.05, "zeros would agree with zeros"
            for y in (network(*inputs), fast(network)(*laid_out(inputs))):
                assert error(y, exact) < FP32_ERROR
            with Rounding():
                expected.append(error(stored_in_bf16(network)(*in_double(inputs)), exact))
            with accelerator.autocast():
                errors.append(error(fast(network)(*laid_out(inputs)), exact))
    assert all(e > UNIT / 8 for e in errors), "it did not compute in bf16"
    assert over_seeds(errors) < OUTPUT_ERROR
    assert over_seeds(errors) < OVER_ROUNDING * over_seeds(expected)


def mean_square(y, target):
    return F.mse_loss(y.float(), target)


def gradient(network, inputs, loss):
    """Of ``loss`` on the network's output: parameter's name -> float64 vector."""
    network.train()
    torch.manual_seed(0)                               # what a network draws in training (exits) is drawn alike
    loss(network(*inputs)).backward()
    return {key: p.grad.double().flatten() for key, p in network.named_parameters() if p.grad is not None}


@cache
def gradients(name, use):
    """Of two seeds: (float64, the same with ``Rounding``, the fast path, fp32)."""
    found = []
    for seed in SEEDS[:2]:
        network, inputs, generator = case(name, use, seed)
        if use == "segmentation":
            target = torch.randint(0, 5, (BATCH, SIDE, SIDE), generator=generator)
            loss = partial(segmentation_loss("ce+dice", 5), target=target)
        else:
            loss = partial(mean_square, target=torch.randn(BATCH, 3, SIDE, SIDE, generator=generator))
        exact = gradient(doubled(network), in_double(inputs), loss)
        with Rounding():
            expected = gradient(stored_in_bf16(network), in_double(inputs), loss)
        prepared = make_accelerator("cpu", "bf16").prepare(fast(network))
        found.append((exact, expected, gradient(prepared, laid_out(inputs), loss), gradient(network, inputs, loss)))
    return found


def joined(gradient):
    return torch.cat(list(gradient.values()))


@every_use
@every_variant
def test_gradients_agree_with_float64(name, use):
    errors, expected = [], []
    for exact, rounding, bf16, fp32 in (map(joined, each) for each in gradients(name, use)):
        assert bf16.isfinite().all()
        assert F.cosine_similarity(bf16, exact, dim=0) > GRADIENT_COSINE
        assert distance(fp32, exact) < FP32_GRADIENT_ERROR
        errors.append(distance(bf16, exact))
        expected.append(distance(rounding, exact))
    assert over_seeds(errors) < GRADIENT_OVER_ROUNDING * over_seeds(expected)


@every_use
@every_variant
def test_no_single_parameter_s_gradient_is_off(name, use):
    """In all parameters together it would be lost: a norm's are few, and small."""
    off = {}
    for key in gradients(name, use)[0][0]:
        errors, expected = ([distance(each[i][key], each[0][key]) for each in gradients(name, use)] for i in (2, 1))
        if over_seeds(errors) > max(2 * UNIT, ONE_OVER_ROUNDING * over_seeds(expected)):
            off[key] = f"{over_seeds(errors) / UNIT:.1f} u, where {over_seeds(expected) / UNIT:.1f} u is to be expected"
    assert not off


@every_use
@every_variant
def test_every_norm_takes_and_keeps_its_statistics_in_float32(name, use, accelerator):
    network, inputs, _ = case(name, use, 0)
    modules = [module for module in network.modules() if "Norm" in type(module).__name__]
    for grad in (True, False):
        with (Watching("native_group_norm", "native_layer_norm", "batch_norm") as watch, accelerator.autocast(),
              torch.set_grad_enabled(grad)):
            fast(network)(*laid_out(inputs))
        assert len(watch.seen) >= len(modules) > 0
        statistics = {statistic.dtype for _, _, (_, *statistics) in watch.seen for statistic in statistics}
        assert statistics == {torch.float32}


@pytest.mark.parametrize("name", NAMES)
def test_segmentation_losses_are_taken_in_float32(name, accelerator):
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(BATCH, 5, SIDE, SIDE, generator=generator)).bfloat16()
    target = torch.randint(0, 5, (BATCH, SIDE, SIDE), generator=generator)
    loss = segmentation_loss(name, 5)
    with Watching("softmax", "nll_loss", "sum", "mean", "div") as watch, accelerator.autocast():
        value = loss(logits, target)
    assert value.dtype == torch.float32 and value.item() == loss(logits.float(), target).item()
    taken = {x.dtype for _, tensors, _ in watch.seen for x in tensors if x.is_floating_point()}
    assert taken == {torch.float32}


def test_the_denoising_loss_is_taken_in_float32(accelerator):
    """Of a network that guesses a constant, so that the loss is known."""
    generator = torch.Generator().manual_seed(0)
    images, noise = (torch.randn(64, 3, SIDE, SIDE, generator=generator) for _ in range(2))
    with Watching("mse_loss") as watch, accelerator.autocast():
        value = NoisePrediction().loss(lambda x, t, context: torch.full_like(x, 0.5, dtype=torch.bfloat16),
                                       images, noise, torch.full((64,), 500), None)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx((noise.double() - 0.5).square().mean().item(), rel=1e-5)
    assert watch.seen and all(x.dtype == torch.float32 for _, tensors, _ in watch.seen for x in tensors)
