"""Memory on paper: what a training step or a forward pass will hold at its peak, without running it.

The network's tensors are fake: they have shape, layout and device, but no contents. PyTorch then calls the same
operators, in the same order, as it would on the device, and every storage is followed from the operator that
makes it until nothing refers to it any more.

``MemoryEstimate.tensors`` is the peak of the tensors that operators return or save: the same with every kernel.
``total`` adds a convolution's copies of its maps in one layout and of its kernel in oneDNN's order. All other scratch
space depends on the processor and PyTorch's version and is left out: with AVX2, bf16 maps laid out in columns, k^2
times the map, and oneDNN's sums of a kernel's gradient; with AVX-512 without bf16, fp32 sums of bf16 matrix products.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from harness.errors import InputError, unknown
from harness.measurement.allocations import tensors_of
from harness.training.step import make_optimizer, training_step

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
OPTIMIZERS: dict[str, Callable | None] = {
    "adamw": lambda parameters: make_optimizer(parameters, "cpu"),
    "sgd": lambda parameters: torch.optim.SGD(parameters, momentum=0.9, fused=True),
}
PARTS = ("parameters", "gradients", "optimizer", "ema", "inputs", "activations", "workspace")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes. ``total`` is the peak; the parts are what each holds at that moment, and add up to it.

    ``saved`` and ``all_gradients`` are the most that activations and gradients ever hold, which need not be at
    the peak: in the backward pass gradients come as activations go.
    """

    parameters: int                                # and buffers
    gradients: int
    optimizer: int                                 # AdamW: two values per trainable parameter
    ema: int                                       # averaged parameters and buffers
    inputs: int                                    # the batch and its target
    activations: int                               # saved for the backward pass; 0 in inference
    workspace: int                                 # all else: what is being computed, and operators' scratch space
    total: int
    tensors: int                                   # the peak without operators' scratch space
    saved: int                                     # activations at the end of the forward pass
    all_gradients: int

    @property
    def fixed(self) -> int:
        """What does not depend on the batch: parameters, optimiser state and averaged parameters."""
        return self.parameters + self.optimizer + self.ema


@dataclass(eq=False)
class Block:
    """One storage; ``kind`` is one of ``PARTS``."""

    size: int
    kind: str


@dataclass
class Ledger:
    """Which storages are alive, and which were when most bytes were."""

    live: dict[int, Block] = field(default_factory=dict)
    references: dict[int, weakref.ref] = field(default_factory=dict)
    now: int = 0
    tensors: int = 0                               # the most that ``now`` ever was
    peak: int = 0                                  # with operators' scratch space
    at_peak: list[Block] = field(default_factory=list)
    rising: bool = False                           # at the peak, and it is not yet in ``at_peak``

    def add(self, tensor: Tensor, kind: str = "workspace") -> None:
        """Follow the tensor's storage; one that is followed already keeps its kind."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self.live:
            self.live[key] = Block(storage.nbytes(), kind)
            self.references[key] = weakref.ref(storage, lambda _: self.drop(key))
            self.reach(self.live[key].size)

    def reach(self, more: int) -> None:
        """``more`` bytes are held from now on."""
        self.now += more
        self.tensors = max(self.tensors, self.now)
        if self.now > self.peak:
            self.peak, self.rising = self.now, True

    def settle(self) -> None:
        """Keep what is alive if this is the peak; only when bytes go, because until then the peak may rise."""
        if self.rising:
            self.at_peak, self.rising = list(self.live.values()), False

    def drop(self, key: int) -> None:
        self.settle()
        self.now -= self.live.pop(key).size
        del self.references[key]

    def scratch(self, size: int) -> None:
        """An operator held ``size`` bytes while it ran."""
        if self.now + size > self.peak:
            self.peak, self.rising = self.now + size, False
            self.at_peak = [*self.live.values(), Block(size, "workspace")]

    def mark(self, tensor: Tensor, kind: str) -> None:
        """The storage is ``kind``, unless it is something other than workspace already."""
        self.add(tensor)
        block = self.live[id(tensor.untyped_storage())]
        if block.kind == "workspace":
            block.kind = kind

    def held(self, kind: str) -> int:
        return sum(block.size for block in self.live.values() if block.kind == kind)


class Following(TorchDispatchMode):
    """Enters what every operator returns into the ledger."""

    def __init__(self, ledger: Ledger):
        super().__init__()
        self.ledger = ledger

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = laid_out(operator, args, operator(*args, **(kwargs or {})))
        for tensor in tensors_of(result):
            self.ledger.add(tensor)
        if operator in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default):
            self.ledger.scratch(sum(copied(args)) + reordered(operator, args))
        return result


def laid_out(operator: Any, args: tuple, result: Any) -> Any:
    """The operator's result in the layout of the real kernel: on a CPU, a group norm and its gradient keep the map's.

    Fake group norms of PyTorch 2.14.1 return contiguous maps, as a GPU's do, and what follows would be copied.
    """
    norms = {torch.ops.aten.native_group_norm.default: 0, torch.ops.aten.native_group_norm_backward.default: 1}
    of_norm_on_cpu = operator in norms and result[0] is not None and result[0].device.type == "cpu"
    return (torch.empty_like(args[norms[operator]]), *result[1:]) if of_norm_on_cpu else result


def copied(args: tuple) -> Iterator[int]:
    """Bytes of the maps that a convolution, which wants them dense and in one layout, copies first."""
    maps = [x for x in args[:3] if isinstance(x, Tensor) and x.ndim == 4]
    layout = next((torch.channels_last for x in maps[-2:] if suggest_memory_format(x) == torch.channels_last),
                  torch.contiguous_format)
    for x in maps:
        if not x.is_contiguous(memory_format=layout):
            yield x.numel() * x.element_size()


def reordered(operator: Any, args: tuple) -> int:
    """Bytes of a kernel's copies in oneDNN's own order, on a CPU: one forwards, two of its gradient backwards.

    A 1x1 kernel is taken as it is, and one image of few values does without oneDNN (PyTorch's Convolution.cpp,
    use_mkldnn). Measured with AVX-512; other instruction sets may have other orders.
    """
    backward = operator is torch.ops.aten.convolution_backward.default
    x, kernel, groups = args[backward], args[1 + backward], args[8 + backward]
    small = (x.dtype == torch.float32 and len(x) == 1 and x.numel() <= 20480 and groups == 1
             and max(kernel.shape[2:]) <= 3)
    if kernel.device.type != "cpu" or kernel[0, 0].numel() == 1 or small:
        return 0
    return (1 + backward) * kernel.numel() * kernel.element_size()


def empty_like_run(tensor: Tensor, device: str) -> Tensor:
    """An empty tensor of this shape and type, images and kernels channels last, as a run has them."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device, memory_format=layout)


def fake_network(network: nn.Module, device: str) -> nn.Module:
    """A copy of ``network`` with empty tensors on ``device``; to be called under a FakeTensorMode."""
    made: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            empty = empty_like_run(tensor, device)
            made[id(tensor)] = (nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter)
                                else empty)
        return made[id(tensor)]

    with unset_fake_temporarily():                 # a buffer cannot be copied where tensors become fake
        network = copy.deepcopy(network)
    for module in network.modules():
        for held in (module._parameters, module._buffers, module.__dict__):
            for name, value in list(held.items()):
                if isinstance(value, Tensor):
                    held[name] = fake(value)
    return network


def mean_square(outputs: list[Tensor], target: list[Tensor]) -> Tensor:
    """The loss of a denoiser, on every tensor that the network returns."""
    return sum(F.mse_loss(y.float(), goal) for y, goal in zip(outputs, target))


def forward_loss(network: nn.Module, inputs: tuple, target: list[Tensor], autocast: Any,
                 loss: Callable = mean_square) -> Tensor:
    """Compute the loss of a forward pass under ``autocast``."""
    with autocast:
        outputs = tensors_of(network(*inputs))
    return loss(outputs, target)


def predict_memory(network: nn.Module | Callable[[], nn.Module], inputs: tuple[Tensor | None, ...], *,
                   training: bool, precision: str = "fp32", optimizer: str = "adamw", ema: bool = False,
                   loss: Callable = mean_square, device: str = "cpu") -> MemoryEstimate:
    """Peak memory of a training step, optimiser state included, or of a forward pass in inference mode.

    ``network`` is on the meta device, or builds one there; ``inputs`` are meta tensors of the batch, as the
    network is called, laid out as a run lays them out (channels last). ``precision`` "bf16" and "fp16" mean autocast
    with fp32 parameters. ``loss`` takes lists of outputs and of targets, both fp32. Operators are those of
    ``device``: "cpu", or "cuda" where there is a GPU, whose autocast keeps norms in fp32. Raises InputError for an
    unknown precision or optimiser and for "cuda" without a GPU, and what the network raises.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if optimizer not in OPTIMIZERS:
        raise unknown("optimiser", optimizer, OPTIMIZERS)
    if device.startswith("cuda") and not torch.cuda.is_available():    # autocast would silently do nothing
        raise InputError("memory on a GPU is predicted where PyTorch finds one; use device cpu")
    if not isinstance(network, nn.Module):
        with torch.device("meta"):
            network = network()
    dtype, ledger = PRECISIONS[precision], Ledger()

    def autocast():                                # in inference mode it keeps no copies of the weights between layers
        return torch.autocast(torch.device(device).type, dtype, cache_enabled=training) if dtype else nullcontext()

    with FakeTensorMode(allow_non_fake_inputs=True):
        network = fake_network(network, device).train(training)
        inputs = tuple(x if x is None else empty_like_run(x, device) for x in inputs)
        for tensor in [*network.parameters(), *network.buffers()]:
            ledger.add(tensor, "parameters")
        for tensor in tensors_of(inputs):
            ledger.add(tensor, "inputs")
        if not training:
            with torch.no_grad(), Following(ledger), autocast():
                network(*inputs)
            ledger.settle()
            return estimate(ledger, 0, 0)

        with torch.no_grad():
            target = [empty_like_run(y, device) for y in tensors_of(network(*inputs))]
        if not target:
            raise ValueError("the network must return a tensor")
        averaged = [torch.empty_like(x) for x in [*network.parameters(), *network.buffers()]] if ema else []
        trained = [p for p in network.parameters() if p.requires_grad]
        made = OPTIMIZERS[optimizer](trained)
        first_step(made, trained)
        for kind, tensors in (("inputs", target), ("ema", averaged),
                              ("optimizer", [s for state in made.state.values() for s in tensors_of(state)])):
            for tensor in tensors:
                ledger.add(tensor, kind)
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(lambda p: ledger.mark(p.grad, "gradients"))

        def pack(tensor: Tensor) -> Tensor:
            ledger.mark(tensor, "activations")
            return tensor

        saved = []
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), Following(ledger):
            training_step(lambda: forward_loss(network, inputs, target, autocast(), loss), network, made,
                          mark=lambda name: saved.append(ledger.held("activations")))
        ledger.settle()
    return estimate(ledger, saved[0], sum(p.numel() * p.element_size() for p in trained))


def first_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Leave the state that an optimiser has from its first step on."""
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def estimate(ledger: Ledger, saved: int, all_gradients: int) -> MemoryEstimate:
    parts = {kind: sum(block.size for block in ledger.at_peak if block.kind == kind) for kind in PARTS}
    return MemoryEstimate(**parts, total=ledger.peak, tensors=ledger.tensors, saved=saved, all_gradients=all_gradients)
