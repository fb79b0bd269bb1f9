"""Which part of a network feeds which: one forward pass on the meta device, followed tensor by tensor.

A *unit* is a module that a drawing shows as one thing. Every tensor knows the units that it comes from, also
through operations that belong to no module (a concatenation, a sum, an interpolation), so the drawing rests on
what the network does and not on what it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.measurement.allocations import tensors_of
from harness.measurement.network import run
from variants.parts.encoder_decoder import EncoderDecoder, Step

INPUTS = ("x", "t", "context")              # sources before the first unit: -3, -2, -1
X, TIME, CONTEXT = -3, -2, -1
JOINS = {"cat": "concat", "concat": "concat", "stack": "concat", "add": "add", "__add__": "add", "add_": "add",
         "__iadd__": "add", "__radd__": "add", "sum": "add"}
ENOUGH_UNITS = 6                            # a drawing of fewer looks one level deeper into the network


@dataclass(eq=False)
class Unit:
    """One call of a module: what it read, and what came out."""

    index: int
    module: nn.Module
    path: str
    shape: tuple[int, ...]                         # of its first output
    sources: set[int] = field(default_factory=set)      # units and inputs that its output comes from
    given: set[int] = field(default_factory=set)   # units and inputs whose tensors it was called with
    joined: str = ""                               # how images it read had been put together: concat, add, or ""
    attends: bool = False                          # does a softmax or an attention run in it?
    sees: bool = False                             # does anything of the image reach it?
    skip: bool = False                             # is it what a step of an encoder-decoder merges a skip with?


class Follow(TorchFunctionMode):
    """Keeps, for every tensor made while it is on, the units it comes from and how they were joined."""

    def __init__(self, inputs: tuple[Tensor | None, ...]):
        super().__init__()
        self.known: dict[int, tuple[Tensor, frozenset[int], str]] = {}   # id -> (kept alive, sources, joined)
        self.running: Unit | None = None
        self.seeing = {X}                          # sources that the image reaches
        for source, x in enumerate(inputs, -len(INPUTS)):
            if x is not None:
                self.mark(x, {source})

    def mark(self, x: Tensor, sources: set[int], joined: str = "") -> None:
        self.known[id(x)] = (x, frozenset(sources), joined)

    def sources(self, x: Tensor) -> frozenset[int]:
        return self.known[id(x)][1] if id(x) in self.known else frozenset()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        made = tensors_of(args[:1] if name == "__setitem__" else out)
        if not made:                               # a question about a shape reads nothing
            return out
        read = [self.known[id(x)] for x in tensors_of((args, kwargs)) if id(x) in self.known]
        sources = frozenset().union(*(s for _, s, _ in read))
        already = next((how for *_, how in read if how), "")
        images = {s & self.seeing for _, s, _ in read} - {frozenset()}
        for x in made:
            self.mark(x, sources, JOINS.get(name, already) if len(images) > 1 else already)
        if self.running is not None:
            self.running.joined = self.running.joined or already
            self.running.attends |= "softmax" in name or "attention" in name
        return out


def encoder_decoder_of(network: nn.Module) -> EncoderDecoder | None:
    """The network's only encoder-decoder: itself, or what it wraps."""
    found = [module for module in network.modules() if isinstance(module, EncoderDecoder)]
    return found[0] if len(found) == 1 else None


def trace(network: nn.Module, inputs: tuple[Tensor | None, ...]) -> list[Unit]:
    """The network's units in the order in which they are called, and last its outputs as one each.

    Of an encoder-decoder, what its steps are made of, its skips, its embedding and its head; of anything else the
    modules that its forward calls, or where these are few, those that they call.
    """
    trunk = encoder_decoder_of(network)
    if trunk is None:
        for depth in (1, 2, 3):
            units = follow(network, inputs, lambda module, level, depth=depth: level == depth or (
                level < depth and not any(True for _ in module.children())))
            if len(units) > ENOUGH_UNITS:
                break
        return units
    around = {module for module in network.modules() if isinstance(module, Step) or trunk in module.modules()}
    units = follow(network, inputs, lambda module, level: module not in around)
    skips = {step.skip for step in around if isinstance(step, Step)}
    for unit in units:
        unit.skip = unit.module in skips
    return units


def follow(network: nn.Module, inputs: tuple[Tensor | None, ...],
           is_unit: Callable[[nn.Module, int], bool]) -> list[Unit]:
    """Run the network and record the outermost modules for which ``is_unit(module, level of the call)``."""
    units: list[Unit] = []
    paths = {module: path for path, module in network.named_modules()}
    level, nested = [-1], []                       # of the call in hand; how deep in the running unit
    mode = Follow(inputs)

    def enter(module, args):
        level[0] += 1
        if mode.running is not None:
            nested.append(module)
        elif level[0] > 0 and is_unit(module, level[0]):
            mode.running = Unit(len(units), module, paths[module], ())

    def leave(module, args, output):
        level[0] -= 1
        if nested:
            nested.pop()
        elif mode.running is not None:
            unit, mode.running = mode.running, None
            unit.given = {source for x in tensors_of(args) for source in mode.sources(x)}
            given = tensors_of(output)
            unit.shape = tuple(given[0].shape) if given else ()
            unit.sources = {source for x in given for source in mode.sources(x)}
            for x in given:
                mode.mark(x, {unit.index})
            unit.sees = not mode.seeing.isdisjoint(unit.sources)
            mode.seeing |= {unit.index} if unit.sees else set()
            units.append(unit)

    hooks = [hook for module in paths for hook in (
        module.register_forward_pre_hook(enter), module.register_forward_hook(leave))]
    try:
        with mode:
            given = tensors_of(run(network, inputs, "the network"))
    finally:
        for hook in hooks:
            hook.remove()
    for x in given:
        _, sources, joined = mode.known[id(x)]
        units.append(Unit(len(units), nn.Identity(), "output", tuple(x.shape), set(sources), set(sources), joined,
                          sees=True))
    return units
