"""Noise prediction: the training objective and the samplers, on diffusers' schedules."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import unknown

SCHEDULES = {"cosine": "squaredcos_cap_v2", "linear": "linear"}
SAMPLERS = {"ddim": "DDIM", "ddpm": "DDPM", "dpm_solver++": "DPM-Solver++"}       # name -> how papers write it
VARIANCES = ("fixed_small", "fixed_large")


def label_tokens(labels: Tensor, num_classes: int) -> Tensor:
    """Class labels (N,) as context: one one-hot token each -> (N, 1, num_classes).

    A network's first linear layer on it is then its class embedding table. ``-1`` gives the all-zero
    token, which stands for "no condition".
    """
    tokens = F.one_hot(labels.clamp(min=0), num_classes).float()
    return (tokens * (labels >= 0)[:, None])[:, None]


class ClippingSolver(DPMSolverMultistepScheduler):
    """DPM-Solver++ that clips the predicted image to -1..1, as the other two samplers do.

    diffusers offers its dynamic thresholding only, which with a largest value of 1 is the same after sorting
    every pixel at every step.
    """

    def _threshold_sample(self, sample: Tensor) -> Tensor:
        return sample.clamp(-1, 1)


def check_sampler(sampler: str, *, eta: float = 0.0, solver_order: int = 2, variance_type: str = "fixed_small") -> None:
    """Raise InputError for an unknown sampler or variance, ValueError for an argument that is another sampler's."""
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    if variance_type not in VARIANCES:
        raise unknown("variance", variance_type, VARIANCES)
    if solver_order not in (1, 2, 3):
        raise ValueError(f"the solver order is 1, 2 or 3, not {solver_order}")
    for name, value, usual, owner in (("eta", eta, 0.0, "ddim"), ("solver_order", solver_order, 2, "dpm_solver++"),
                                      ("variance", variance_type, "fixed_small", "ddpm")):
        if value != usual and sampler != owner:
            raise ValueError(f"{name} {value} is for the sampler {owner!r}; {sampler!r} has none")


class NoisePrediction:
    """Epsilon-prediction diffusion (DDPM, Ho et al. 2020, Eq. 14) and its samplers.

    ``schedule`` is "cosine" (improved DDPM, Nichol & Dhariwal 2021, Eq. 17) or "linear" (DDPM). Images
    are (N, C, H, W) in -1..1.
    """

    def __init__(self, timesteps: int = 1000, schedule: str = "cosine"):
        self.shared = {"num_train_timesteps": timesteps, "beta_schedule": SCHEDULES[schedule],
                       "prediction_type": "epsilon", "timestep_spacing": "trailing"}
        self.scheduler = DDIMScheduler(**self.shared, clip_sample=True, set_alpha_to_one=True)
        self.timesteps = timesteps

    def loss(self, model: nn.Module, images: Tensor, noise: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        """Mean squared error between the noise in the image at step ``t`` (N,) and the network's guess."""
        noisy = self.scheduler.add_noise(images, noise, t)
        return F.mse_loss(model(noisy, t, context).float(), noise)

    def sample(self, model: nn.Module, noise: Tensor, context: Tensor | None, *,
               num_inference_steps: int, guidance_scale: float = 1.0, eta: float = 0.0,
               generator: torch.Generator | None = None, sampler: str = "ddim", solver_order: int = 2,
               variance_type: str = "fixed_small") -> Tensor:
        """From ``noise`` (N, C, H, W) to images of the same shape in -1..1.

        ``guidance_scale`` w > 1 extrapolates from the unconditional to the conditional guess,
        eps = eps_0 + w (eps_c - eps_0) (Ho & Salimans 2022, arXiv:2207.12598); 1 takes the conditional alone.

        ``sampler``: "ddim" (Song et al. 2021, arXiv:2010.02502; ``eta`` 0 is deterministic, 1 has DDPM's small
        variance); "ddpm", ancestral (Ho et al. 2020, Alg. 2) on the spaced steps, with ``variance_type``
        "fixed_small" (the posterior's variance) or "fixed_large" (DDIM's sigma-hat, Sec. 5); "dpm_solver++"
        (Lu et al. 2022, arXiv:2211.01095), multistep of ``solver_order`` 1, 2 or 3. Every one takes its steps at
        the same noise levels and clips the predicted image. All further noise comes from ``generator``, and how
        much of it does not depend on the model. Raises ValueError as :func:`check_sampler` does.
        """
        check_sampler(sampler, eta=eta, solver_order=solver_order, variance_type=variance_type)
        scheduler, options = self.scheduler, {"eta": eta, "generator": generator}
        if sampler == "ddpm":
            scheduler = DDPMScheduler(**self.shared, clip_sample=True, variance_type=variance_type)
            options = {"generator": generator}
        elif sampler == "dpm_solver++":
            scheduler = ClippingSolver(**self.shared, algorithm_type="dpmsolver++", solver_order=solver_order,
                                       thresholding=True)
            options = {}
        scheduler.set_timesteps(num_inference_steps, device=noise.device)
        guided = context is not None and guidance_scale != 1.0
        x = noise
        for t in scheduler.timesteps:
            if guided:
                both = torch.cat([torch.zeros_like(context), context])
                eps_0, eps_c = model(torch.cat([x, x]), t.expand(2 * len(x)), both).float().chunk(2)
                eps = eps_0 + guidance_scale * (eps_c - eps_0)
            else:
                eps = model(x, t.expand(len(x)), context).float()
            step = scheduler.step(eps, t, x, **options)
            x = step.prev_sample
        if sampler == "ddpm":          # The last step is the mean alone (Alg. 2, line 3); diffusers adds noise to it
            x = step.pred_original_sample      # where steps are spaced, because its t is then not 0.
        return x.clamp(-1, 1)
