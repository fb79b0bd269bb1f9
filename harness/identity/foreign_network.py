"""Networks from elsewhere under the contract of ``variants``: arguments, inputs and outputs by the field's names.

A factory is read by its signature: ``n_channels``, ``in_chans`` or ``img_ch`` are the contract's ``in_channels``, and
what it has no argument for is left out. The network it builds is tried once, on the CPU, in training and in evaluation
mode, before anything is trained: which inputs its ``forward`` names, which of its outputs is the answer, and to which
multiple of pixels an image must be padded. What follows the contract as it stands is not wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import InputError
from harness.identity.foreign_arguments import ALIASES, KEYWORD, keyword_arguments, named, parameters_of
from harness.identity.networks import contained, require_module

TIMES = ("t", "timestep", "timesteps", "time", "time_step", "time_steps")
CONTEXTS = ("context", "encoder_hidden_states")
LABELS = ("class_labels", "class_label", "y", "labels")
OUTPUTS = ("out", "sample", "logits", "output", "pred", "prediction", "masks", "x")
LARGEST_TRIAL = 512     # pixels; a larger image would take minutes and much memory, only to see whether it fits
MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)          # of pixels to which sides are padded, in the order they are tried


@dataclass(frozen=True)
class Adaptation:
    """How a network is built, and what was taken for granted about one from elsewhere."""

    build: Callable[[], nn.Module]
    assumed: tuple[str, ...] = ()                  # a line each, for the record


@dataclass
class Call:
    """What a network's ``forward`` takes beside the image: name of its argument -> the contract's input."""

    inputs: dict[str, str] = field(default_factory=dict)     # argument -> "t", "context" or "labels"
    positional: bool = False                       # follows the contract: forward(x, t, context)
    token_dim: int | None = None                   # channels of the tokens that it needs where a suite has none


def adapt(name: str, factory: Callable, arguments: Mapping[str, Any], inputs: Sequence[Tensor | None]) -> Adaptation:
    """Find how ``factory`` is called under the contract's ``arguments``, and its network with ``inputs``.

    ``inputs`` are x (N, C, H, W), t (N,) or None, context (N, L, context_dim) or None; only their shapes count.

    Raises
    ------
    InputError
        The factory needs arguments that nobody gives.
    ValueError
        The network returns nothing of (N, out_channels, H, W), or needs an input that no suite has.
    Exception
        Whatever the network raises for an image of this size and of those that are larger.
    """
    real_size = tuple(inputs[0].shape[2:])
    size, first_problem, tried = tuple(map(trial_side, real_size)), None, set()
    x, t, context = example(inputs, size)
    forward = parameters_of(getattr(factory, "forward", None))
    takes_tokens = any(forward[tokens].default is Parameter.empty for tokens in CONTEXTS if tokens in forward)
    takes_labels = named(LABELS, forward) is not None and not takes_tokens
    for multiple in MULTIPLES:
        padded = tuple(-(-side // multiple) * multiple for side in size)
        if padded in tried:
            continue
        tried.add(padded)
        whole = tuple(-(-side // multiple) * multiple for side in real_size)
        its = arguments if padded == size == real_size else {**arguments, "image_size": padded}
        given, assumed = keyword_arguments(name, factory, its, takes_labels)
        try:
            with torch.device("cpu"), torch.random.fork_rng(devices=()), contained():
                network = require_module(factory(**given))
                call = call_of(network, factory, given, t, context)
                adapted = Adapted(network, call, multiple if padded != size else 1, arguments["out_channels"])
                said = [*assumed, *try_out(adapted, x, t, context)]
        except InputError:
            raise
        except Exception as problem:               # whatever other people's code raises
            # a package that is missing shows only where the size is one that it takes
            first_problem = problem if first_problem is None or isinstance(problem, ImportError) else first_problem
            continue
        if padded != size:
            said.append(f"images are padded to multiples of {multiple} pixels, and its output is cut back")
        if whole != padded:
            given, _ = keyword_arguments(name, factory, {**arguments, "image_size": whole}, takes_labels)
        how = {"call": call, "multiple": adapted.multiple, "out_channels": adapted.out_channels, "deep": adapted.deep}
        return Adaptation(partial(build, factory, given, how if adapted.changes else None), tuple(said))
    raise first_problem


def build(factory: Callable, given: Mapping[str, Any], how: Mapping[str, Any] | None) -> nn.Module:
    """Build the network; called as ``how`` says (arguments of :class:`Adapted`), or as it stands where that is None."""
    network = require_module(factory(**given))
    return network if how is None else Adapted(network, **how)


def trial_side(side: int) -> int:
    """Return the side in pixels of the images that a network is tried with: of a large one, as large a rest by every
    multiple to which it may have to be padded."""
    return side if side <= LARGEST_TRIAL else LARGEST_TRIAL // 2 + side % MULTIPLES[-1]


def example(inputs: Sequence[Tensor | None], size: tuple[int, int]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return two cases of random inputs on the CPU, of the shapes of ``inputs``, but images of ``size``."""
    x, t, context = inputs if len(inputs) == 3 else (inputs[0], None, None)
    with torch.device("cpu"):
        draws = torch.Generator().manual_seed(0)
        return (torch.randn(2, x.shape[1], *size, generator=draws), None if t is None else torch.tensor([1, 500]),
                None if context is None else torch.eye(context.shape[2])[:1].expand(2, *context.shape[1:]))


def call_of(network: nn.Module, factory: Callable, given: Mapping[str, Any], t: Tensor | None,
            context: Tensor | None) -> Call:
    """Return what ``network.forward`` takes beside the image. Raises ValueError for an argument that nobody has."""
    parameters = parameters_of(network.forward)
    others = list(parameters.values())[1:]
    follows = [each.name for each in others[:2]] == ["t", "context"]
    if follows or any(each.kind is each.VAR_POSITIONAL for each in parameters.values()):
        return Call(positional=True)
    call = Call()
    time, tokens, labels = (named(names, {each.name: each for each in others}) for names in (TIMES, CONTEXTS, LABELS))
    needed = {each.name for each in others if each.default is each.empty}
    if time and (t is not None or time in needed):
        call.inputs[time] = "t"
    if labels in needed or labels and tokens not in needed and context is not None:
        call.inputs[labels] = "labels"
    if tokens in needed or tokens and labels not in call.inputs and context is not None:
        call.inputs[tokens] = "context"
        if context is None:
            call.token_dim = next((value for alias in ALIASES["context_dim"] for value in (
                given.get(alias), getattr(parameters_of(factory).get(alias), "default", None))
                if isinstance(value, int)), 1)
    unknown = [each.name for each in others if each.name in needed - call.inputs.keys()
               and each.kind in (*KEYWORD, each.POSITIONAL_ONLY)]
    if unknown:
        raise ValueError(f"its forward needs {', '.join(unknown)}, which no suite has")
    return call


class Adapted(nn.Module):
    """A network from elsewhere, called as ``network(x, t, context)`` -> (N, out_channels, H, W).

    In training it returns a list where the network returns several outputs of that many channels (deep supervision).
    Raises ValueError in ``forward`` for an output that is none of these.
    """

    def __init__(self,
        network: nn.Module,
        call: Call,
        multiple: int,                            # Of pixels, to which sides are padded.
        out_channels: int,
        deep: bool | None = None,                 # Several outputs in training? None = not known yet.
    ):
        super().__init__()
        self.network, self.call, self.multiple = network, call, multiple
        self.out_channels, self.deep = out_channels, deep
        self.taken = ""                            # which of its outputs, where there are several
        self.resized = ""                          # from what size its output is brought to the image's

    @property
    def changes(self) -> bool:
        """Whether it does anything that the network by itself would not."""
        return not self.call.positional or bool(self.multiple > 1 or self.taken or self.resized or self.deep)

    def forward(self, x: Tensor, t: Tensor | None = None, context: Tensor | None = None) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        x = self.pad(x)
        if self.call.positional:
            given = [t, context]
            while given and given[-1] is None:
                given.pop()
            output = self.network(x, *given)
        else:
            output = self.network(x, **{argument: self.input(kind, x, t, context)
                                        for argument, kind in self.call.inputs.items()})
        outputs = self.outputs(output)
        if self.training and self.deep:
            return [self.fit(each, x, size) for each in outputs]
        return self.fit(next((each for each in outputs if each.shape[2:] == x.shape[2:]), outputs[0]), x, size)

    def pad(self, x: Tensor) -> Tensor:
        """Pad (N, C, H, W) at the bottom and right by repeating its edge."""
        more = [-side % self.multiple for side in x.shape[2:]]
        return F.pad(x, (0, more[1], 0, more[0]), mode="replicate") if any(more) else x

    def input(self, kind: str, x: Tensor, t: Tensor | None, context: Tensor | None) -> Tensor:
        """Return an input of the contract; where the suite has none, the one that says nothing: zeros."""
        n = len(x)
        if kind == "t":
            return t if t is not None else torch.zeros(n, dtype=torch.long, device=x.device)
        if kind == "context":
            return context if context is not None else x.new_zeros(n, 1, self.call.token_dim)
        if context is None:
            return torch.zeros(n, dtype=torch.long, device=x.device)
        tokens = context[:, 0]                     # one-hot, or zeros for "no condition": the class after the last
        return torch.where(tokens.any(1), tokens.argmax(1), tokens.shape[1])

    def outputs(self, output: Any) -> list[Tensor]:
        """Return the tensors (N, out_channels, h, w) of ``output``, the answer first."""
        if isinstance(output, Tensor):
            found = {"": output}
        elif isinstance(output, Mapping):
            found = dict(output)
        elif isinstance(output, (list, tuple)):
            found = {f"the first of {len(output)}" if i == 0 else str(i): each for i, each in enumerate(output)}
        else:
            found = {key: value for key, value in getattr(output, "__dict__", {}).items() if not key.startswith("_")}
        keys = sorted(found, key=lambda key: OUTPUTS.index(key) if key in OUTPUTS else len(OUTPUTS))
        fitting = [key for key in keys if isinstance(found[key], Tensor) and found[key].ndim == 4
                   and found[key].shape[1] == self.out_channels]
        if not fitting:
            shapes = [tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__ for each in found.values()]
            raise ValueError(f"the network must return a tensor of shape (N, {self.out_channels}, H, W), not "
                             f"{', '.join(map(str, shapes)) or 'nothing'}")
        self.taken = fitting[0] if len(found) > 1 or fitting[0] else ""
        several = isinstance(output, (list, tuple)) and len(fitting) > 1
        return [found[key] for key in (fitting if several else fitting[:1])]

    def fit(self, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Enlarge an output (N, K, h, w) to the size of the padded image ``x``, and cut that to ``size``.

        Raises ValueError for a size that is no whole fraction of the image's.
        """
        if y.shape[2:] != x.shape[2:]:
            factors = {whole / part for whole, part in zip(x.shape[2:], y.shape[2:], strict=True)}
            if len(factors) > 1 or factors.pop() % 1:          # borders are lost, or it is no map of the image at all
                raise ValueError(f"the network must return a tensor of shape (N, {self.out_channels}, {x.shape[2]}, "
                                 f"{x.shape[3]}), not {tuple(y.shape)}")
            self.resized = f"{y.shape[2]} x {y.shape[3]}"
            y = F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)
        return y[..., :size[0], :size[1]]


def try_out(adapted: Adapted, x: Tensor, t: Tensor | None, context: Tensor | None) -> list[str]:
    """Take a training step and two forward passes without anything to learn; return what was found.

    Raises whatever the network does, and ValueError for an output that does not fit.
    """
    adapted.deep = False
    adapted.train()
    outputs = []
    hook = adapted.network.register_forward_hook(lambda module, args, output: outputs.append(output))
    answer = adapted(x, t, context)
    hook.remove()
    adapted.deep = t is None and len(adapted.outputs(outputs[0])) > 1
    if answer.requires_grad:
        answer.float().mean().backward()
    adapted.zero_grad(set_to_none=True)
    adapted.eval()
    with torch.no_grad():
        one, other = adapted(x, t, context), adapted(x, t, context)
    said = []
    if adapted.deep:
        said.append("its outputs are trained with weights 1, 1/2, 1/4, ... (deep supervision), the first is the answer")
    elif adapted.taken:
        said.append(f"of its outputs, {adapted.taken} is the answer")
    if adapted.resized:
        said.append(f"its output of {adapted.resized} is enlarged (bilinear) to {x.shape[2]} x {x.shape[3]}")
    if not torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True):
        said.append("it is not deterministic in evaluation mode")
    if t is not None and not adapted.call.positional and "t" not in adapted.call.inputs.values():
        said.append("it takes no time step")
    if context is not None and not adapted.call.positional \
            and not {"context", "labels"} & set(adapted.call.inputs.values()):
        said.append("it takes no condition")
    names = {"t": ("the time step", t), "context": ("the condition", context), "labels": ("the class", context)}
    for argument, kind in adapted.call.inputs.items():
        what, value = names[kind]
        said.append(f"{what} is its {argument}" if value is not None else f"its {argument} is zeros")
    return said
