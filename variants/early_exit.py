"""U-Net with heads on the way up, by which an image leaves as soon as one of them is confident.

After BranchyNet (Teerapittayanon et al. 2016, arXiv:1709.01686), whose threshold is on the certainty of the
class; here it is on its mean over the image. ``average_cost`` says what is saved: the multiplications up to
each exit, weighted by the share of images that left there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from variants.parts.resampling import enlarge
from variants.parts.unet import UNet, build_unet


def class_confidence(logits: Tensor) -> Tensor:
    """Return the mean over pixels of the likeliest class's probability: (N, classes, H, W) -> (N,).

    One channel is yes or no.
    """
    if logits.shape[1] == 1:
        probability = logits.sigmoid()
        return torch.maximum(probability, 1 - probability).mean(dim=(1, 2, 3))
    return logits.softmax(dim=1).amax(dim=1).mean(dim=(1, 2))


class EarlyExits(nn.Module):
    """Hold the heads after steps of the decoder, and count the images that left by each.

    In evaluation an image leaves by the first head whose confidence is at least ``threshold``; None = all go to
    the network's end. ``left`` counts the images of all evaluations since the last :meth:`reset` by exit, the
    network's end last.
    """

    def __init__(self,
        heads,                               # {index of the decoder's step: module that makes its output}
        threshold  = None,
        confidence = class_confidence,       # output (N, C, H, W) -> (N,); the default is for logits of classes
    ):
        super().__init__()
        self.heads = nn.ModuleDict({str(step): heads[step] for step in sorted(heads)})
        self.threshold, self.confidence = threshold, confidence
        self.only: int | None = None         # All leave by this exit, for counting; len(heads) = the network's end.
        self.reset()

    def reset(self) -> None:
        """Forget the images counted."""
        self.left = [0] * (len(self.heads) + 1)

    def shares(self) -> list[float]:
        """Return the share of images that left by each exit; NaN where none was evaluated."""
        total = sum(self.left)
        return [count / total if total else float("nan") for count in self.left]

    def one_each(self, outputs: list[Tensor]) -> Tensor:
        """Return for each image the output of one exit, the exits in turn from a random first one on.

        So any loop that knows one output (N, C, H, W) trains all exits, and its expected loss is the mean over them.
        """
        stacked = torch.stack(outputs)                                            # (exits, N, C, H, W)
        rows = torch.arange(stacked.shape[1], device=stacked.device)
        first = torch.randint(len(outputs), (), device=stacked.device)
        return stacked[(rows + first) % len(outputs), rows]


class EarlyExitUNet(UNet):
    """Build a U-Net with exits; its other arguments are those of :class:`UNet`.

    Raises ValueError for exits that are not among the decoder's levels 1 and deeper, and as UNet does.
    """

    def __init__(self, *arguments,
        exits          = None,               # Decoder levels, 1 or deeper, with an exit each; None = 1, where there is.
        exit_threshold = None,               # Confidence from which an image leaves; None = all go to the end.
        confidence     = class_confidence,   # Of an exit's output; the default is for logits of classes.
        **options,                           # UNet's.
    ):
        super().__init__(*arguments, **options)
        exits = tuple(range(1, self.bottom))[:1] if exits is None else exits
        if not set(exits) <= set(range(1, self.bottom)):
            raise ValueError(f"exits {tuple(exits)} must be among the decoder's levels 1..{self.bottom - 1}")
        # Two steps a level, from the bottom: one doubles the size, the next one runs the blocks.
        heads = {2 * (self.bottom - level) - 1: nn.Conv2d(self.decoder_channels(level), self.out_channels, 1)
                 for level in exits}
        self.exits = EarlyExits(heads, exit_threshold, confidence)

    def decode(self, x: Tensor, emb: Tensor | None, context: Tensor | None, skips: list[Tensor]) -> Tensor:
        """Return the output of each image's exit, (N, out, H, W); ``skips`` as in EncoderDecoder."""
        size, skips = (skips[0] if skips else x).shape[2:], list(skips)
        exits, counting = self.exits, not self.training and self.exits.only is None
        leaves_early = counting and exits.threshold is not None and x.device.type != "meta"
        outputs, rows, output = [], torch.arange(len(x), device=x.device), None
        for i, step in enumerate(self.decoder):
            if step.skip is not None:
                x = step.merge_skip(x, skips.pop())
            x = step(x, emb, context)
            if str(i) not in exits.heads:
                continue
            outputs.append(enlarge(exits.heads[str(i)](x), size))
            if exits.only == len(outputs) - 1 and not self.training:
                return outputs[-1]
            if leaves_early:
                leave = exits.confidence(outputs[-1]) >= exits.threshold          # of those still there
                exits.left[len(outputs) - 1] += int(leave.sum())
                output = torch.zeros_like(outputs[-1]) if output is None else output
                output[rows[leave]] = outputs[-1][leave]
                rows, x, emb, context, *skips = select(~leave, rows, x, emb, context, *skips)
                if not len(rows):
                    return output
        end = self.head(x)
        if counting:
            exits.left[-1] += len(end)
        if output is not None:
            output[rows] = end
            return output
        return exits.one_each([*outputs, end]) if self.training and outputs else end


def select(kept: Tensor, *parts: Tensor | None) -> list[Tensor | None]:
    """Return the images ``kept`` (N,) of each tensor (N, ...); None stays None."""
    return [None if part is None else part[kept] for part in parts]


def exit_macs(network: EarlyExitUNet, *inputs: Tensor | None) -> list[int]:
    """Return multiply-accumulates of one call that leaves by each exit, earlier heads included; the end last."""
    network = copy.deepcopy(network).to("meta").eval().requires_grad_(False)
    inputs = [None if x is None else x.to("meta") for x in inputs]
    counts = []
    for exit in range(len(network.exits.heads) + 1):
        network.exits.only = exit
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(*inputs)
        counts.append(counter.get_total_flops() // 2)
    return counts


def average_cost(network: EarlyExitUNet, *inputs: Tensor | None) -> dict[str, list | float]:
    """Return what an image cost, of those evaluated since ``network.exits.reset()``.

    ``inputs`` are an example of one image: x (1, C, H, W), t, context. Returns ``macs`` and ``shares`` by
    exit, the network's end last, and their mean ``average_macs`` (NaN where nothing was evaluated).
    """
    macs, shares = exit_macs(network, *inputs), network.exits.shares()
    return {"macs": macs, "shares": shares, "average_macs": sum(m * s for m, s in zip(macs, shares))}


def build(**arguments) -> EarlyExitUNet:
    """Build ``plain`` with ``exits`` in its decoder; ``exit_threshold`` lets images leave by them in evaluation."""
    return build_unet(EarlyExitUNet, **arguments)
