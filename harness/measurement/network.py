"""What a network is made of: its modules with output shapes, parameters and MACs, without computing anything.

The network lives on the meta device, so a billion parameters take seconds and no memory. MACs are those of
:func:`harness.measurement.costs.count_macs`, split among the modules that were running when they were spent.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.errors import InputError, one_line
from harness.identity import building, networks
from harness.measurement.allocations import tensors_of
from variants import presets

VARIANT_ARGUMENTS = {"in_channels": 3, "out_channels": 3, "image_size": 64, "time": True, "context_dim": None}
SIDES = ("image_size", "img_size", "input_size", "resolution")       # official names of the image's side
TOKEN_DIMS = ("context_dim", "clip_dim")                             # and of a text token's channels
SPEAKING = (TypeError, ValueError, AssertionError, RuntimeError)     # errors whose text says enough without their type


@dataclass(frozen=True)
class Subject:
    """A network with the inputs it is shown, on the meta device where it can be, and the words for both."""

    name: str
    kind: str                                      # variant | preset | elsewhere
    arguments: dict[str, Any]                      # what it was built with
    source: str                                    # of a preset: repository and paper
    network: nn.Module
    inputs: tuple[Tensor | None, ...]
    assumed: tuple[str, ...] = ()                  # of a network from elsewhere


@dataclass
class Layer:
    """One module of the network; what it spends includes what its own modules spend."""

    path: str                                      # "" is the network itself
    type: str
    depth: int                                     # of modules that are called; lists of modules do not count
    parent: Layer | None = None
    output: list[list[int]] = field(default_factory=list)   # shapes of the last call's tensors
    calls: int = 0
    parameters: int = 0
    trainable: int = 0
    macs: int = 0
    own_parameters: int = 0                        # held by the module itself, in none of its modules
    own_macs: int = 0                              # spent in its own forward, outside of its modules


def words(error: Exception) -> str:
    """What an error says, on one line."""
    text = one_line(error)
    return text if isinstance(error, SPEAKING) or text == type(error).__name__ else f"{type(error).__name__}: {text}"


def parse_changes(changes: Iterable[str]) -> dict[str, Any]:
    """("width=64", "channel_mult=[1, 2]") -> arguments. Raises InputError for anything else."""
    parsed = {}
    for change in changes:
        argument, equals, value = change.partition("=")
        try:
            if not equals or not argument.isidentifier():
                raise InputError(f"--set {change}: write it as ARGUMENT=VALUE")
            parsed[argument] = yaml.safe_load(value)
        except InputError:
            raise
        except Exception as error:                 # PyYAML's constructors raise many kinds, e.g. of a date that is none
            raise InputError(f"--set {change}: {words(error)}") from error
    return parsed


def unknown_network(name: str) -> InputError:
    """Names the nearest variant or preset; of presets, which are many, otherwise only the families."""
    known = sorted([*networks.all_names(), *presets.names()], key=len)
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
    begun = [other for other in known if other.startswith(plain)]
    near = begun or difflib.get_close_matches(plain, known, n=1, cutoff=0.5)
    return InputError(f"unknown network {name!r}" + (f"; did you mean {near[0]!r}?" if near else (
        f" (variants: {', '.join(networks.all_names())}; presets: {len(presets.names())}, of the families "
        f"{', '.join(presets.families.names())})")))


def subject(name: str, size: int | None = None, changes: Mapping[str, Any] | None = None) -> Subject:
    """The network called ``name``: a variant, a preset, module:factory or file.py:Class.

    ``size`` is the side of the image in pixels, ``changes`` are arguments of its build. Raises InputError for
    an unknown name, for arguments that the network refuses, and for whatever else building it raises.
    """
    variant, inline = networks.split_inline(name)
    source, assumed, changes = "", (), {**inline, **(changes or {})}
    if ":" in variant or variant in networks.all_names():
        kind = "elsewhere" if ":" in variant else "variant"
        arguments = {**VARIANT_ARGUMENTS, **({"image_size": size} if size else {}), **changes}
    elif variant in presets.names():
        described = presets.describe(variant)
        kind, arguments, source = "preset", {**described["arguments"], **changes}, described["source"]
    else:
        raise unknown_network(name)
    try:
        with networks.contained(), torch.device("meta"):
            if kind == "preset":
                network = networks.require_module(presets.families.load(described["family"]).build(**arguments))
                network = network.to("meta").eval()    # a table of constants may have been made on the CPU
                inputs = preset_inputs(variant, network, arguments)
            else:
                inputs = variant_inputs(**arguments)
                adapted = building.adaptation(variant, arguments, inputs)
                network, inputs = without_values(adapted.build, inputs, or_with=kind == "elsewhere")
                assumed = adapted.assumed
    except InputError:
        raise
    except Exception as error:                     # other people's code
        raise InputError(f"{name}: {words(error)}") from error
    if size and kind == "preset":
        inputs = (inputs[0].new_empty((*inputs[0].shape[:2], size, size)), *inputs[1:])
    return Subject(name, kind, arguments, source, network, inputs, assumed)


def without_values(build: Callable[[], nn.Module], inputs: tuple, *, or_with: bool) -> tuple[nn.Module, tuple]:
    """Return the network on the meta device; ``or_with``: on the CPU with zeros, where it computes with values."""
    try:
        network = build().to("meta").eval()
        if or_with:
            with torch.no_grad():
                network(*inputs)
        return network, inputs
    except Exception:
        if not or_with:
            raise
    with torch.device("cpu"):
        return build().eval(), tuple(x if x is None else torch.zeros_like(x, device="cpu") for x in inputs)


def variant_inputs(*, in_channels, image_size, time=False, context_dim=None, **_) -> tuple[Tensor | None, ...]:
    """One image, one time step, one context token, as in the contract of ``variants``."""
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    return (torch.empty(1, in_channels, *sides), torch.zeros(1, dtype=torch.long) if time else None,
            torch.empty(1, 1, context_dim) if context_dim else None)


def preset_inputs(name: str, network: nn.Module, arguments: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
    """A preset's published input; what its arguments do not say, its family's ``INPUTS`` does, for one or all."""
    said = getattr(presets.families.load(presets.family_of(name)), "INPUTS", {})
    return found_inputs(network, arguments, **{**said.get(None, {}), **said.get(name, {})})


def found_inputs(network: nn.Module, arguments: Mapping[str, Any], *, side: int | None = None,
                 tokens: int = 77) -> tuple[Tensor | None, ...]:
    """The fewest channels and inputs that a network accepts, and of these the first.

    The image has ``side`` pixels on a side: by default what an argument of the official name says, or 256.
    A text has ``tokens``: by default CLIP's 77.
    """
    side = side or next((arguments[key] for key in SIDES if isinstance(arguments.get(key), int)), 256)
    token_dim = next((arguments[key] for key in TOKEN_DIMS if arguments.get(key)), None)
    t = torch.zeros(1, dtype=torch.long)
    told = (t, torch.empty(1, tokens, token_dim) if token_dim else t)     # t, and text or a class label
    for channels in sorted({module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)}):
        x = torch.empty(1, channels, side, side)
        for inputs in ((x,), (x, *told[:1]), (x, *told)):
            try:
                with torch.no_grad():
                    network(*inputs)
                return inputs
            except Exception:
                continue
    raise InputError(f"no input of {side} x {side} pixels that it takes was found")


def run(network: nn.Module, inputs: tuple[Tensor | None, ...], name: str) -> Any:
    """The network's output. Raises InputError, with sizes that work, for an image that it cannot take, and where it
    returns no tensor."""
    out = _call(network, inputs, name)
    if not tensors_of(out):
        raise InputError(f"{name} must return a tensor, not {type(out).__name__}")
    return out


def _call(network: nn.Module, inputs: tuple[Tensor | None, ...], name: str) -> Any:
    with torch.no_grad(), inputs[0].device:
        try:
            with networks.contained():
                return network(*inputs)
        except ValueError as error:                # the network itself says which sizes work
            raise InputError(f"{name}: {words(error)}") from error
        except Exception as error:
            x = inputs[0]
            sizes = [str(side) for side in working_sizes(network, inputs)]
            hint = f"; sizes near it that work: {', '.join(sizes)}" if sizes else ""
            raise InputError(f"{name} cannot take an image of {x.shape[2]} x {x.shape[3]} pixels{hint} "
                             f"({words(error)})") from error


def working_sizes(network: nn.Module, inputs: tuple[Tensor | None, ...]) -> Iterator[int]:
    """Sides of square images that the network takes: the nearest below, then the nearest above ``inputs``'."""
    x, *rest = inputs
    for multiples in (lambda step: (x.shape[2] - 1) // step * step, lambda step: (x.shape[2] // step + 1) * step):
        for side in (multiples(step) for step in (2, 4, 8, 16, 32, 64)):
            try:
                if side:
                    with networks.contained():
                        network(x.new_empty((*x.shape[:2], side, side)), *rest)
                    yield side
                    break
            except Exception:
                continue


def layers(network: nn.Module, inputs: tuple[Tensor | None, ...], name: str = "network") -> list[Layer]:
    """Every module that is called or holds parameters, the network first, in the order of its modules.

    A module's MACs are counted while it runs, and belong to the innermost one running: those of a skip that is
    called from outside of its decoder step are the step's nonetheless, because they are summed along the tree
    of modules. The network's are therefore the total. Freezes the parameters.
    """
    made = _tree(network)
    network.requires_grad_(False)                  # the counter's module tracker would hook into the graph
    running: list[list] = []                       # [layer, flops before it, flops of the modules in it]

    with FlopCounterMode(display=False) as counter:
        def enter(module, args):
            running.append([made[module], counter.get_total_flops(), 0])

        def leave(module, args, output):
            layer, before, inner = running.pop()
            spent = counter.get_total_flops() - before
            layer.own_macs += (spent - inner) // 2
            layer.calls += 1
            layer.output = [list(tensor.shape) for tensor in tensors_of(output)]
            if running:
                running[-1][2] += spent

        hooks = [hook for module in made for hook in (
            module.register_forward_pre_hook(enter), module.register_forward_hook(leave))]
        try:
            run(network, inputs, name)
        finally:
            for hook in hooks:
                hook.remove()
    for layer in reversed(list(made.values())):    # children come after their parents
        for what in ("macs", "parameters"):
            setattr(layer, what, getattr(layer, what) + getattr(layer, f"own_{what}"))
        for what in ("macs", "parameters", "trainable") if layer.parent else ():
            setattr(layer.parent, what, getattr(layer.parent, what) + getattr(layer, what))
    shown = [layer for layer in made.values() if layer.calls or layer.own_parameters]
    for layer in shown:                            # lists of modules are never called
        while layer.parent and layer.parent not in shown:
            layer.parent = layer.parent.parent
        layer.depth = layer.parent.depth + 1 if layer.parent else 0
    return shown


def _tree(network: nn.Module) -> dict[nn.Module, Layer]:
    """Every module once, parents first; a parameter that several share belongs to the first."""
    made: dict[nn.Module, Layer] = {}
    seen: set[int] = set()
    for path, module in network.named_modules():
        parent = made[network.get_submodule(path.rpartition(".")[0])] if path else None
        own = {id(p): p for p in module.parameters(recurse=False) if id(p) not in seen}
        seen |= own.keys()
        made[module] = Layer(path, type(module).__name__, 0, parent,
                             own_parameters=sum(p.numel() for p in own.values()),
                             trainable=sum(p.numel() for p in own.values() if p.requires_grad))
    return made
