"""Early exit: heads on the way up, and images that leave as soon as one of them is sure.

After BranchyNet (Teerapittayanon et al. 2016, arXiv:1709.01686), whose threshold is on the certainty of the
class; here it is on its mean over the image. ``average_cost`` says what is saved: the multiplications up to
each exit, weighted by the share of images that left there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


def class_confidence(logits: Tensor) -> Tensor:
    """Mean over pixels of the likeliest class's probability: (N, classes, H, W) -> (N,); one channel is yes or no."""
    if logits.shape[1] == 1:
        probability = logits.sigmoid()
        return torch.maximum(probability, 1 - probability).mean(dim=(1, 2, 3))
    return logits.softmax(dim=1).amax(dim=1).mean(dim=(1, 2))


def enlarge(y: Tensor, size: tuple[int, int]) -> Tensor:
    return y if y.shape[2:] == size else F.interpolate(y, size, mode="bilinear")


class EarlyExits(nn.Module):
    """Heads after steps of the decoder, and who left by them.

    In evaluation an image leaves by the first head whose confidence is at least ``threshold`` (None = nobody
    does). In training, each call returns one exit's output, drawn evenly from all and the network's end: any
    loop that knows one output then trains them all, and its expected loss is the mean over exits.
    ``left`` counts the images of all evaluations since the last :meth:`reset` by exit, the network's end last.
    """

    def __init__(self,
        heads,                               # {index of the decoder's step: module that makes its output}
        threshold  = None,
        confidence = class_confidence,       # output (N, C, H, W) -> (N,); the default is for logits of classes
    ):
        super().__init__()
        self.heads: Mapping[str, nn.Module] = nn.ModuleDict({str(i): heads[i] for i in sorted(heads)})
        self.threshold: float | None = threshold
        self.confidence: Callable[[Tensor], Tensor] = confidence
        self.only: int | None = None         # All leave by this exit, for counting; len(heads) = the network's end.
        self.reset()

    def reset(self) -> None:
        self.left = [0] * (len(self.heads) + 1)

    def shares(self) -> list[float]:
        """Share of images that left by each exit; NaN where none was evaluated."""
        total = sum(self.left)
        return [count / total if total else float("nan") for count in self.left]

    def begin(self, size: tuple[int, int]) -> ExitState:
        only = int(torch.randint(len(self.heads) + 1, ())) if self.training else self.only
        return ExitState(self, size, only)


class ExitState:
    """One call's images on their way up: who is still there, and what those who left went with."""

    def __init__(self, exits: EarlyExits, size: tuple[int, int], only: int | None):
        self.exits, self.size, self.only = exits, size, only
        self.numbers = {int(step): k for k, step in enumerate(exits.heads)}
        self.output: Tensor | None = None    # (N, C, H, W), filled as images leave
        self.rows: Tensor | None = None      # which of the N are still there; None = all

    def at(self, step: int, x: Tensor, *others) -> tuple[bool, tuple]:
        """After decoder step ``step``: is nobody left, and ``x`` and ``others`` of those who are."""
        number = self.numbers.get(step)
        if number is None or (self.exits.training and number != self.only):
            return False, (x, *others)
        y = enlarge(self.exits.heads[str(step)](x), self.size)
        if self.only is not None or self.exits.threshold is None:
            if number == self.only:
                self.output = y
            return number == self.only, (x, *others)
        leaves = self.exits.confidence(y) >= self.exits.threshold                 # (N,)
        self.exits.left[number] += int(leaves.sum())
        if not leaves.any():
            return False, (x, *others)
        if self.rows is None:
            self.rows, self.output = torch.arange(len(x), device=x.device), torch.empty_like(y)
        self.output[self.rows[leaves]] = y[leaves]
        self.rows = self.rows[~leaves]
        return len(self.rows) == 0, tuple(select(part, ~leaves) for part in (x, *others))

    def end(self, y: Tensor) -> Tensor:
        """All outputs, where ``y`` are those of the images that went to the end."""
        if self.only is None and not self.exits.training:
            self.exits.left[-1] += len(y)
        if self.rows is None:
            return y
        self.output[self.rows] = y
        return self.output


def select(part, rows: Tensor):
    """The images ``rows`` of a tensor, of a list of them, or of nothing."""
    if isinstance(part, list):
        return [select(each, rows) for each in part]
    return None if part is None else part[rows]


def exit_macs(network: nn.Module, *inputs: Tensor | None) -> list[int]:
    """Multiply-accumulates of one call that leaves by each exit, earlier heads included; the network's end last."""
    network = copy.deepcopy(network).to("meta").eval().requires_grad_(False)
    inputs = [None if x is None else x.to("meta") for x in inputs]
    counts = []
    for exit in range(len(network.exits.heads) + 1):
        network.exits.only = exit
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(*inputs)
        counts.append(counter.get_total_flops() // 2)
    return counts


def average_cost(network: nn.Module, *inputs: Tensor | None) -> dict[str, list | float]:
    """What an image cost, of those evaluated since ``network.exits.reset()``.

    ``inputs`` are an example of one image: x (1, C, H, W), t, context. Returns ``macs`` and ``shares`` by
    exit, the network's end last, and their mean ``average_macs`` (NaN where nothing was evaluated).
    """
    macs, shares = exit_macs(network, *inputs), network.exits.shares()
    return {"macs": macs, "shares": shares, "average_macs": sum(m * s for m, s in zip(macs, shares))}
