"""Noise prediction: the objective, the sampler, and guidance, against what theory says of them."""

import pytest
import torch

from harness.diffusion import NoisePrediction, label_tokens


class Perfect:
    """Predicts the noise exactly, for data that is one known image."""

    def __init__(self, diffusion, image):
        self.alphas, self.image = diffusion.scheduler.alphas_cumprod, image

    def __call__(self, x, t, context=None):
        a = self.alphas[t][:, None, None, None]
        return (x - a.sqrt() * self.image) / (1 - a).sqrt()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [5, 25])
def test_perfect_noise_predictor_samples_the_data(schedule, steps):
    diffusion = NoisePrediction(1000, schedule)
    image = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    noise = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sampled = diffusion.sample(Perfect(diffusion, image), noise, None, num_inference_steps=steps)
    torch.testing.assert_close(sampled, image.expand(3, -1, -1, -1), atol=2e-2, rtol=0)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_perfect_noise_predictor_has_no_loss(schedule):
    diffusion = NoisePrediction(1000, schedule)
    image = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    noise, t = torch.randn(4, 1, 8, 8), torch.tensor([10, 300, 600, 999])
    loss = diffusion.loss(Perfect(diffusion, image), image.expand(4, -1, -1, -1), noise, t, None)
    assert loss < 1e-6


def test_schedules_start_clean_and_end_as_noise():
    for schedule in ("cosine", "linear"):
        alphas = NoisePrediction(1000, schedule).scheduler.alphas_cumprod
        assert alphas[0] > 0.999 and alphas[-1] < 1e-4
        assert (alphas.diff() < 0).all()


def test_cosine_schedule_by_its_formula():
    """Nichol & Dhariwal 2021, Eq. 17, away from the end where betas are clipped."""
    t = torch.arange(1, 901, dtype=torch.float64)
    f = torch.cos((t / 1000 + 0.008) / 1.008 * torch.pi / 2) ** 2
    expected = f / torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2, dtype=torch.float64)) ** 2
    alphas = NoisePrediction(1000, "cosine").scheduler.alphas_cumprod[:900]
    torch.testing.assert_close(alphas.double(), expected, atol=1e-5, rtol=1e-4)


def test_guidance_extrapolates_from_unconditional_to_conditional():
    diffusion = NoisePrediction(10)
    seen = []

    def model(x, t, context):
        seen.append(context)
        return context.sum((1, 2))[:, None, None, None] * torch.ones_like(x)

    x, context = torch.zeros(2, 1, 4, 4), label_tokens(torch.tensor([0, 1]), 2)
    diffusion.sample(model, x, context, num_inference_steps=1, guidance_scale=3.0)
    assert len(seen) == 1 and len(seen[0]) == 4                   # both guesses in one call
    assert not seen[0][:2].any() and torch.equal(seen[0][2:], context)
    guided = diffusion.sample(model, x, context, num_inference_steps=2, guidance_scale=2.0)
    twice = diffusion.sample(lambda x, t, c: 2 * model(x, t, c), x, context, num_inference_steps=2)
    torch.testing.assert_close(guided, twice)                     # 0 + 2 (1 - 0) = 2


def test_same_noise_gives_the_same_sample_and_stays_in_range():
    diffusion = NoisePrediction()
    noise = torch.randn(2, 1, 4, 4)
    first, second = (diffusion.sample(lambda x, t, c: -x, noise, None, num_inference_steps=4) for _ in range(2))
    assert torch.equal(first, second) and first.abs().max() <= 1


def test_label_tokens_are_one_hot_and_hidden_ones_zero():
    tokens = label_tokens(torch.tensor([2, -1]), 3)
    assert tokens.tolist() == [[[0, 0, 1]], [[0, 0, 0]]]
