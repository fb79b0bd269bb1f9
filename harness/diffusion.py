"""Noise prediction: the training objective and the sampler, on diffusers' schedules."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn
from torch.nn import functional as F

SCHEDULES = {"cosine": "squaredcos_cap_v2", "linear": "linear"}


def label_tokens(labels: Tensor, num_classes: int) -> Tensor:
    """Class labels (N,) as context: one one-hot token each -> (N, 1, num_classes).

    A network's first linear layer on it is then its class embedding table. ``-1`` gives the all-zero
    token, which stands for "no condition".
    """
    tokens = F.one_hot(labels.clamp(min=0), num_classes).float()
    return (tokens * (labels >= 0)[:, None])[:, None]


class NoisePrediction:
    """Epsilon-prediction diffusion (DDPM, Ho et al. 2020, Eq. 14), sampled by DDIM (Song et al. 2021).

    ``schedule`` is "cosine" (improved DDPM, Nichol & Dhariwal 2021, Eq. 17) or "linear" (DDPM). Images
    are (N, C, H, W) in -1..1.
    """

    def __init__(self, timesteps: int = 1000, schedule: str = "cosine"):
        self.scheduler = DDIMScheduler(num_train_timesteps=timesteps, beta_schedule=SCHEDULES[schedule],
                                       prediction_type="epsilon", clip_sample=True, set_alpha_to_one=True,
                                       timestep_spacing="trailing")
        self.timesteps = timesteps

    def loss(self, model: nn.Module, images: Tensor, noise: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        """Mean squared error between the noise in the image at step ``t`` (N,) and the network's guess."""
        noisy = self.scheduler.add_noise(images, noise, t)
        return F.mse_loss(model(noisy, t, context).float(), noise)

    def sample(self, model: nn.Module, noise: Tensor, context: Tensor | None, *,
               num_inference_steps: int, guidance_scale: float = 1.0, eta: float = 0.0,
               generator: torch.Generator | None = None) -> Tensor:
        """From ``noise`` (N, C, H, W) to images of the same shape in -1..1.

        ``guidance_scale`` w > 1 extrapolates from the unconditional to the conditional guess,
        eps = eps_0 + w (eps_c - eps_0) (Ho & Salimans 2022, arXiv:2207.12598); 1 takes the conditional alone.
        """
        self.scheduler.set_timesteps(num_inference_steps, device=noise.device)
        guided = context is not None and guidance_scale != 1.0
        x = noise
        for t in self.scheduler.timesteps:
            if guided:
                both = torch.cat([torch.zeros_like(context), context])
                eps_0, eps_c = model(torch.cat([x, x]), t.expand(2 * len(x)), both).float().chunk(2)
                eps = eps_0 + guidance_scale * (eps_c - eps_0)
            else:
                eps = model(x, t.expand(len(x)), context).float()
            x = self.scheduler.step(eps, t, x, eta=eta, generator=generator).prev_sample
        return x.clamp(-1, 1)
