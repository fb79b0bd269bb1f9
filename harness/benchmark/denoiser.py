"""diffusers' UNet2DModel against ``ddpm`` with the same weights: training step, inference, whole DDIM sampling."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from torch import Tensor, nn

import variants
from harness.benchmark.contest import OURS, BenchmarkOptions, Timed, autocast, take_turns
from harness.benchmark.result import Check, Contest, Trial
from harness.benchmark.same_network import (
    ERROR_FP32,
    ERROR_HALF,
    TIMESTEPS,
    Pair,
    agreement,
    error,
    inference,
    key,
    ready,
    training,
    trial,
)
from harness.diffusion import NoisePrediction
from harness.measurement.timing import synchronize
from harness.training.train import make_accelerator
from variants.parts.attention import SelfAttention
from variants.parts.blocks import ResidualBlock
from variants.parts.diffusion_unet import DiffusionUNet
from variants.presets.ddpm import module_paths
from variants.presets.weights import Slot, fill, map_by_prefix

NETWORK = {
    "sample_size": 32, "block_out_channels": (64, 128, 128), "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), "norm_num_groups": 32}
BATCH_SIZE, SAMPLES, STEPS = 32, 64, 25            # images of a training step; sampled together; DDIM's steps
SECONDS = {"training": 45.0, "inference": 15.0, "sampling": 60.0}
GOALS = {"training": {"fp32": 2.0, "bf16": 1.2}, "inference": {}, "sampling": {"fp32": 2.0}}
CHECKED = 2                                        # images whose way through DDIM is followed


def run(asked: BenchmarkOptions, network: dict | None = None, batch_size: int = BATCH_SIZE, samples: int = SAMPLES,
        steps: int = STEPS) -> Contest:
    """The contest; the rest are the sizes, which tests make smaller (``network``: of ``UNet2DModel``)."""
    pair = make_pair(network or NETWORK, batch_size)
    side, config = pair.image[1], network or NETWORK
    trials = []
    for compiled in asked.ways:
        trials += [training(pair, asked, SECONDS["training"], GOALS["training"], compiled),
                   inference(pair, asked, SECONDS["inference"], GOALS["inference"], compiled),
                   sampling(pair, asked, samples, steps, compiled)]
    channels = ", ".join(map(str, config["block_out_channels"]))
    return Contest(
        name="denoiser", trials=trials, checks=[*agreement(pair, asked), agreement_in_sampling(pair, asked, steps)],
        setting=f"UNet2DModel(sample_size={side}, block_out_channels=({channels}), layers_per_block="
                f"{config['layers_per_block']}, ...) of diffusers and `ddpm` of this project, filled with its weights. "
                f"Images of {' x '.join(map(str, pair.image))}; batches of {batch_size} in training and inference; "
                f"sampling: {samples} images at once, DDIM, {steps} steps.")


def make_pair(config: dict, batch_size: int) -> Pair:
    """Both implementations of ``UNet2DModel(**config)``."""
    def theirs() -> UNet2DModel:
        torch.manual_seed(0)
        return UNet2DModel(**config)

    weights = theirs().state_dict()

    def ours() -> DiffusionUNet:
        network = variants.build("ddpm", **our_arguments(config))
        fill(network, weights, slots(network))
        return network

    side = config["sample_size"]
    return Pair("diffusers", ours, theirs, lambda network, x, t, context: network(x, t).sample, (3, side, side),
                batch_size)


def our_arguments(config: dict) -> dict:
    """Of ``variants.ddpm.build``: the network that diffusers builds from ``config`` and its own defaults."""
    channels = config["block_out_channels"]
    return {
        "in_channels": 3, "out_channels": 3, "image_size": config["sample_size"], "time": True,
        "width": channels[0], "channels": channels,
        "num_blocks": config["layers_per_block"],
        "attention_levels": tuple(i for i, kind in enumerate(config["down_block_types"]) if "Attn" in kind),
        "head_channels": 8,                                # attention_head_dim
        "norm": "group32",                                 # norm_eps = 1e-5, which is ours too
        "down": "padded_strided_conv",                     # downsample_padding = 1
        "up": "nearest_conv",
        "sinusoid_order": "cos_sin", "frequency_shift": 0,  # flip_sin_to_cos, freq_shift
        "time_conditioning": "add_before_norm",            # resnet_time_scale_shift = "default"
        "zero_last": False,
    }


RESIDUAL = {"norm1": "norm1", "conv1": "conv1", "time_emb_proj": "modulation.project.1", "norm2": "norm2",
            "conv2": "conv2", "conv_shortcut": "shortcut"}
ENDS = {"conv_in": "encoder.0.parts.0", "time_embedding.linear_1": "embedding.mlp.0",
        "time_embedding.linear_2": "embedding.mlp.2", "conv_norm_out": "head.0", "conv_out": "head.2"}


def slots(network: DiffusionUNet) -> dict[str, Slot]:
    """Where every tensor of ``UNet2DModel.state_dict()`` goes."""
    found = list(module_paths(network))                          # named as in DDPM's published code, from the top down
    lowest = max(int(name.split(".")[1]) for name, _, _ in found if not name.startswith("mid"))
    modules, projections = dict(ENDS), {}
    for name, own, part in found:
        official = their_place(name, lowest)
        if isinstance(part, ResidualBlock):
            modules |= {f"{official}.{theirs}": f"{own}.{ours}" for theirs, ours in RESIDUAL.items()}
        elif isinstance(part, SelfAttention):
            modules |= {f"{official}.group_norm": f"{own}.norm", f"{official}.to_out.0": f"{own}.out"}
            projections |= thirds(network, own, official)
        else:                                              # an upsampling is (larger, convolved)
            modules[f"{official}.conv"] = own if isinstance(part, nn.Conv2d) else f"{own}.1"
    return map_by_prefix(network, modules) | projections


def their_place(name: str, lowest: int) -> str:
    """"up.2.block.0" -> "up_blocks.0.resnets.0": diffusers counts the way up from below."""
    if name.startswith("mid"):
        return {"mid.block_1": "mid_block.resnets.0", "mid.attn_1": "mid_block.attentions.0",
                "mid.block_2": "mid_block.resnets.1"}[name]
    side, level, kind = re.fullmatch(r"(down|up)\.(\d+)\.(.+)", name).groups()
    level = int(level) if side == "down" else lowest - int(level)
    kind = kind.replace("block.", "resnets.").replace("attn.", "attentions.").replace("sample", "samplers.0")
    return f"{side}_blocks.{level}.{kind}"


def thirds(network: nn.Module, own: str, official: str) -> dict[str, Slot]:
    """Slots of our joint projection ``own.qkv``, whose thirds are three layers elsewhere."""
    found = {}
    for kind in ("weight", "bias"):
        shape = tuple(network.get_parameter(f"{own}.out.{kind}").shape)           # and that of a third
        for i, name in enumerate(("to_q", "to_k", "to_v")):
            found[f"{official}.{name}.{kind}"] = Slot(f"{own}.qkv.{kind}", shape,
                                                      slice(i * shape[0], (i + 1) * shape[0]))
    return found


def ddim(network: UNet2DModel) -> DDIMPipeline:
    """The peer's sampler, with the noise levels of ours."""
    pipeline = DDIMPipeline(network, DDIMScheduler.from_config(NoisePrediction(TIMESTEPS, "linear").scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def samplers(pair: Pair, asked: BenchmarkOptions, samples: int,
             compiled: bool = False) -> dict[str, Callable[[int], Tensor]]:
    """By contestant: a number of DDIM's steps -> images (``samples``, 3, H, W) in 0..1, from the same noise."""
    accelerator = make_accelerator(asked.device, asked.precision)
    diffusion, device = NoisePrediction(TIMESTEPS, "linear"), accelerator.device
    ours = ready(pair.ours(), asked.device, compiled, channels_last=True).eval()
    pipeline = ddim(ready(pair.theirs(), asked.device, compiled).eval())

    def sample_ours(steps: int) -> Tensor:
        noise = torch.randn(samples, *pair.image, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode(), accelerator.autocast():
            images = diffusion.sample(ours, noise.to(device, memory_format=torch.channels_last), None,
                                      num_inference_steps=steps)
        return (images.float() + 1) / 2

    def sample_theirs(steps: int, precision: str) -> Tensor:
        with autocast(device, precision):
            return pipeline(batch_size=samples, generator=torch.Generator().manual_seed(0), num_inference_steps=steps,
                            output_type="pt").images.float()

    return {OURS: sample_ours, **{key(pair, precision): partial(sample_theirs, precision=precision)
                                  for precision in asked.peer_precisions}}


def sampling(pair: Pair, asked: BenchmarkOptions, samples: int, steps: int, compiled: bool = False) -> Trial:
    """Noise to images, against ``DDIMPipeline``. One step of everyone is the warm-up."""
    asked.say("sampling" + ", compiled" * compiled)
    device = make_accelerator(asked.device, asked.precision).device
    calls = samplers(pair, asked, samples, compiled)
    first = {}
    with asked.compiling(compiled):
        for name, sample in calls.items():
            started = time.perf_counter()
            sample(1)
            synchronize(device)
            first[name] = time.perf_counter() - started
        timed = take_turns({name: partial(sample, steps) for name, sample in calls.items()},
                           asked.budget(SECONDS["sampling"], warmups=0, calls=1), device)
    timed = Timed(timed.seconds, first, timed.calls_per_turn)
    return trial("sampling", pair, asked, timed, GOALS["sampling"], compiled, samples, steps)


def agreement_in_sampling(pair: Pair, asked: BenchmarkOptions, steps: int) -> Check:
    """As :func:`agreement`, at every noise level that DDIM visits: on what the peer's network is given there.

    Finished samples would say nothing. At the first steps an error in the noise is divided by sqrt(alpha_bar), 1 / 160,
    and untrained networks carry it on: noise that is moved by a ten-millionth gives other images.
    """
    accelerator = make_accelerator(asked.device, asked.precision)
    ours = ready(pair.ours(), asked.device, False, channels_last=True).eval()
    theirs, visited = ready(pair.theirs(), asked.device, False).eval(), []
    watch = theirs.register_forward_hook(lambda module, given, found: visited.append((*given, found.sample)))
    ddim(theirs)(batch_size=CHECKED, generator=torch.Generator().manual_seed(0), num_inference_steps=steps,
                 output_type="pt")
    watch.remove()
    own, half = 0.0, 0.0
    with torch.inference_mode():
        for x, t, expected in visited:
            with accelerator.autocast():
                own = max(own, error(ours(x.to(memory_format=torch.channels_last), t.expand(len(x)), None), expected))
            if asked.precision != "fp32":
                with autocast(accelerator.device, asked.precision):
                    half = max(half, error(theirs(x, t).sample, expected))
    return Check(what=f"output at DDIM's {steps} steps, ours in {asked.precision} against {pair.peer} in fp32: largest "
                      "relative error", value=own, limit=ERROR_HALF * half if half else ERROR_FP32)
