"""``plain`` against the nearest U-Nets of MONAI and segmentation_models.pytorch: forward and backward, per MAC."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import variants
from harness.benchmark import EXTRA
from harness.benchmark.contest import OURS, STEP_FLOPS, BenchmarkOptions, autocast, take_turns
from harness.benchmark.result import Contest, Contestant, Trial, compared
from harness.measurement.costs import count_macs, count_parameters
from harness.training.train import make_accelerator

IMAGE_SIZE, BATCH_SIZE, WIDTH, CLASSES = 128, 8, 32, 8
CHANNELS = 3
WIDTHS = range(8, 129, 8)                          # that a peer's network may have: multiples suit every kernel
SECONDS = 60.0
GOALS = {"fp32": 1.5}


@dataclass(frozen=True)
class Peer:
    """A network of another library."""

    label: str                                     # how it is called there
    module: str                                    # what must be installed
    build: Callable[[int], nn.Module]              # width -> the network; imports the library


def basic_unet(width: int) -> nn.Module:
    from monai.networks.nets import BasicUNet
    return BasicUNet(2, CHANNELS, CLASSES, features=(width, width, 2 * width, 4 * width, 8 * width, width))


def residual_unet(width: int) -> nn.Module:
    from monai.networks.nets import UNet
    return UNet(2, CHANNELS, CLASSES, channels=(width, 2 * width, 4 * width, 8 * width), strides=(2, 2, 2),
                num_res_units=2)


def resnet_unet(width: int) -> nn.Module:
    from segmentation_models_pytorch import Unet
    return Unet("resnet34", encoder_weights=None, in_channels=CHANNELS, classes=CLASSES,
                decoder_channels=tuple(width * scale // 2 for scale in (16, 8, 4, 2, 1)))


PEERS = (Peer("MONAI BasicUNet", "monai", basic_unet),
         Peer("MONAI UNet", "monai", residual_unet),
         Peer("smp Unet", "segmentation_models_pytorch", resnet_unet))


def run(asked: BenchmarkOptions, image_size: int = IMAGE_SIZE, batch_size: int = BATCH_SIZE,
        width: int = WIDTH) -> Contest:
    """The contest; the rest are the sizes, which tests make smaller."""
    def ours() -> nn.Module:
        return variants.build("plain", in_channels=CHANNELS, out_channels=CLASSES, image_size=image_size, width=width)

    target, absent, nearest = size(ours(), image_size)[1], [], {}
    for peer in PEERS:
        if importlib.util.find_spec(peer.module) is None:
            absent.append(missing(peer))
        else:
            nearest[peer.label] = (peer, nearest_width(peer, target, image_size))
    builds = {OURS: ours, **{name: lambda peer=peer, width=width: peer.build(width)
                             for name, (peer, width) in nearest.items()}}
    sizes = ", ".join(f"{name} of width {width}" for name, (_, width) in nearest.items())
    trials = [forward_backward(builds, asked, image_size, batch_size, compiled) for compiled in asked.ways] \
        if nearest else []
    return Contest(
        name="segmenter", trials=trials, absent=absent,
        setting=f"`plain` of width {width} and, each with the width, of {WIDTHS.start}, {WIDTHS.start + WIDTHS.step}, "
                f"..., that brings its MACs nearest: {sizes or 'none'}. smp: resnet34 encoder without pretrained "
                f"weights. Norms and activations are each library's own. {batch_size} images of {CHANNELS} x "
                f"{image_size} x {image_size}, {CLASSES} classes, cross-entropy; forward and backward, no optimiser. "
                "Times are divided by each network's MACs.")


def missing(peer: Peer) -> str:
    """What people read where a library is not there."""
    return f"{peer.label}: {peer.module} is not installed; pip install -e '.[{EXTRA}]'"


def size(network: nn.Module, image_size: int) -> tuple[int, int]:
    """(parameters, MACs of one image), counted on the meta device."""
    network = network.to("meta")
    parameters = int(count_parameters(network).value)      # before the MACs: counting those freezes the network
    x = torch.empty(1, CHANNELS, image_size, image_size, device="meta")
    return parameters, int(count_macs(network, x)["macs"].value)


def nearest_width(peer: Peer, macs: int, image_size: int) -> int:
    """The one of WIDTHS whose network has the most similar number of MACs; these grow with the width."""
    def distance(width: int) -> float:
        return abs(math.log(size(peer.build(width), image_size)[1] / macs))

    best, least = WIDTHS[0], distance(WIDTHS[0])
    for width in WIDTHS[1:]:
        found = distance(width)
        if found > least:
            break
        best, least = width, found
    return best


def forward_backward(builds: dict[str, Callable[[], nn.Module]], asked: BenchmarkOptions, image_size: int,
                     batch_size: int, compiled: bool) -> Trial:
    """Ours on the default path against every peer, eager in fp32 and under autocast."""
    asked.say("forward and backward" + ", compiled" * compiled)
    device = make_accelerator(asked.device, asked.precision).device
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, CHANNELS, image_size, image_size, generator=generator).to(device)
    y = torch.randint(CLASSES, (batch_size, image_size, image_size), generator=generator).to(device)
    calls, labels, sizes, pairs = {}, {}, {}, []
    for name, build in builds.items():
        torch.manual_seed(0)
        network = build().train()
        layout = torch.channels_last if name == OURS else torch.contiguous_format
        network = network.to(device, memory_format=layout)
        if compiled:
            network.compile()
        counted = size(build(), image_size)
        for precision in (asked.precision,) if name == OURS else asked.peer_precisions:
            who = OURS if name == OURS else f"{name}, {precision}" + ("" if precision == "fp32" else " autocast")
            calls[who] = step(network, x.contiguous(memory_format=layout), y, precision)
            labels[who] = f"ours, {precision}" if name == OURS else who
            sizes[who] = counted
            if name != OURS:
                pairs.append((who, asked.goal(GOALS, precision, compiled)))
    with asked.compiling(compiled):
        timed = take_turns(calls, asked.budget(SECONDS), device)
    contestants = {
        who: Contestant(label=labels[who] + ", compiled" * compiled, seconds=seconds, first_s=timed.first_s.get(who),
                        parameters=sizes[who][0], macs=sizes[who][1], images=batch_size,
                        flops=2 * STEP_FLOPS * sizes[who][1] * batch_size)
        for who, seconds in timed.seconds.items()}
    return Trial(name="forward and backward" + ", compiled" * compiled, contestants=contestants,
                 comparisons=[compared("speedup", OURS, who, contestants, per_mac=True, goal=goal)
                              for who, goal in pairs], calls_per_turn=timed.calls_per_turn)


def step(network: nn.Module, x: Tensor, y: Tensor, precision: str) -> Callable[[], None]:
    def call() -> None:
        network.zero_grad()
        with autocast(x.device, precision):
            loss = F.cross_entropy(network(x), y)
        loss.backward()
    return call
