"""Noise prediction: the objective, the samplers, and guidance, against what theory says of them."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from harness.diffusion import NoisePrediction, check_sampler, label_tokens
from harness.errors import InputError


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


class Gaussian:
    """The best guess at the noise, E[eps | x_t], for data whose pixels are N(mean, deviation^2)."""

    def __init__(self, diffusion, mean=0.2, deviation=0.15):
        self.alphas, self.mean, self.deviation = diffusion.scheduler.alphas_cumprod, mean, deviation

    def __call__(self, x, t, context=None):
        a = self.alphas[t][:, None, None, None]
        return (1 - a).sqrt() * (x - a.sqrt() * self.mean) / (a * self.deviation ** 2 + 1 - a)


EVERY_SAMPLER = [{}, {"eta": 1.0}, {"sampler": "ddpm"}, {"sampler": "ddpm", "variance_type": "fixed_large"},
                 *({"sampler": "dpm_solver++", "solver_order": order} for order in (1, 2, 3))]


def drawn(model, diffusion, steps, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(64, 1, 16, 16, generator=generator)
    return diffusion.sample(model, noise, None, num_inference_steps=steps, generator=generator, **options), generator


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("options", EVERY_SAMPLER, ids=str)
def test_every_sampler_at_many_steps_draws_from_the_data(schedule, options):
    """16 384 pixels: the mean's standard error is 0.0012 and the deviation's 0.0008."""
    diffusion = NoisePrediction(1000, schedule)
    x, _ = drawn(Gaussian(diffusion), diffusion, 1000, **options)
    assert x.mean().item() == pytest.approx(0.2, abs=0.004)
    assert x.std().item() == pytest.approx(0.15, abs=0.004)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_default_is_diffusers_ddim(eta):
    diffusion = NoisePrediction()
    model, generator = Gaussian(diffusion), torch.Generator().manual_seed(0)
    x = noise = torch.randn(3, 1, 8, 8, generator=generator)
    ours = diffusion.sample(model, noise, None, num_inference_steps=7, eta=eta,
                            generator=torch.Generator().manual_seed(5))
    scheduler = DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
    scheduler.set_timesteps(7)
    generator.manual_seed(5)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t.expand(3)), t, x, eta=eta, generator=generator).prev_sample
    assert torch.equal(ours, x.clamp(-1, 1))


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [10, 50])
def test_samplers_agree_where_theory_says_so(schedule, steps):
    """DDIM at eta = 1 is DDPM with the small variance (Song et al. 2021, Sec. 4.1), where nothing is clipped, and
    DPM-Solver++ of order 1 is DDIM (Lu et al. 2022, Sec. 4)."""
    diffusion = NoisePrediction(1000, schedule)
    model = Gaussian(diffusion)
    for one, other in (({"eta": 1.0}, {"sampler": "ddpm"}), ({}, {"sampler": "dpm_solver++", "solver_order": 1})):
        x, y = (drawn(model, diffusion, steps, **options)[0] for options in (one, other))
        torch.testing.assert_close(x, y, atol=1e-3, rtol=0)


def test_higher_orders_come_nearer_in_few_steps():
    diffusion = NoisePrediction()
    misses = [abs(drawn(Gaussian(diffusion), diffusion, 25, sampler="dpm_solver++", solver_order=order)[0].std() - 0.15)
              for order in (1, 2, 3)]
    assert misses[0] > misses[1] > misses[2]


def test_large_variance_is_the_larger_and_the_last_step_adds_none():
    diffusion = NoisePrediction()
    small, large = (drawn(Gaussian(diffusion), diffusion, 10, sampler="ddpm", variance_type=kind)[0].std()
                    for kind in ("fixed_small", "fixed_large"))
    assert large > small
    image = torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
    for kind in ("fixed_small", "fixed_large"):
        x, _ = drawn(Perfect(diffusion, image), diffusion, 10, sampler="ddpm", variance_type=kind)
        torch.testing.assert_close(x, image.expand_as(x), atol=2e-2, rtol=0)


@pytest.mark.parametrize("options", EVERY_SAMPLER, ids=str)
def test_noise_on_the_way_comes_from_the_generator_alike_for_every_model(options):
    diffusion = NoisePrediction()
    model, other = Gaussian(diffusion), Gaussian(diffusion, -0.3)
    torch.manual_seed(1)
    first, generator = drawn(model, diffusion, 6, **options)
    torch.manual_seed(2)
    second, _ = drawn(model, diffusion, 6, **options)
    assert torch.equal(first, second)
    third, others = drawn(other, diffusion, 6, **options)
    assert not torch.equal(first, third) and torch.equal(generator.get_state(), others.get_state())
    noise = torch.randn(2, 1, 4, 4)
    x, y = (diffusion.sample(model, noise, None, num_inference_steps=6, generator=torch.Generator().manual_seed(seed),
                             **options) for seed in (0, 1))
    stochastic = options.get("eta") == 1.0 or options.get("sampler") == "ddpm"
    assert torch.equal(x, y) != stochastic


@pytest.mark.parametrize("order", [1, 2, 3])
def test_solver_clips_the_predicted_image_as_the_others_do(order):
    """As diffusers' own thresholding does with a largest value of 1."""
    diffusion, x = NoisePrediction(), torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wild = Gaussian(diffusion, 1.5, 0.5)
    ours = diffusion.sample(wild, x, None, num_inference_steps=8, sampler="dpm_solver++", solver_order=order)
    scheduler = DPMSolverMultistepScheduler(1000, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing",
                                            solver_order=order, thresholding=True, sample_max_value=1.0)
    scheduler.set_timesteps(8)
    for t in scheduler.timesteps:
        x = scheduler.step(wild(x, t.expand(2)), t, x).prev_sample
    torch.testing.assert_close(ours, x)


@pytest.mark.parametrize("sampler, options, words", [
    ("ddpm", {"eta": 0.5}, "eta 0.5 is for the sampler 'ddim'"), ("dpm_solver++", {"eta": 1.0}, "eta"),
    ("ddim", {"solver_order": 3}, "solver_order 3 is for"), ("ddim", {"variance_type": "fixed_large"}, "variance"),
    ("dpm_solver++", {"solver_order": 4}, "1, 2 or 3")])
def test_arguments_of_another_sampler_are_refused(sampler, options, words):
    with pytest.raises(ValueError, match=words):
        check_sampler(sampler, **options)


def test_unknown_sampler_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'ddpm'"):
        NoisePrediction().sample(None, torch.zeros(1, 1, 4, 4), None, num_inference_steps=2, sampler="dppm")
    with pytest.raises(InputError, match="did you mean 'fixed_large'"):
        check_sampler("ddpm", variance_type="fixed_lagre")
