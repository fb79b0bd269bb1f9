"""How many bytes the operators of a forward pass read and write, without running it.

What counts is what each operator must move if nothing stays in a cache between two of them: its operands, each
once, and its results. Views move nothing; what an operator keeps to itself (scratch space, reordered copies) is not
seen. Over the pass's FLOPs this is the arithmetic intensity of Williams et al. 2009 (the roofline model).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from harness.errors import unknown
from harness.measurement.allocations import tensors_of
from harness.measurement.memory import PRECISIONS, empty_like_run, fake_network

aten = torch.ops.aten
ALLOCATIONS = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)
OVERWRITES = (aten.copy_, aten.fill_, aten.zero_, aten.bernoulli_, aten.normal_, aten.uniform_)  # first operand unread


@dataclass
class Traffic:
    """Bytes read and written, by the operator's name ("aten.convolution")."""

    read: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.read.total() + self.written.total()


class Counting(TorchDispatchMode):
    """Enters what every operator reads and writes into ``traffic``."""

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = operator(*args, **kwargs)
        packet = operator.overloadpacket
        operands = distinct(tensors_of([args, kwargs]))
        changed = distinct(changed_operands(operator, args, kwargs))
        made = [tensor for tensor in distinct(tensors_of(result)).values()
                if not any(shares_storage(tensor, operand) for operand in operands.values())]
        if packet not in ALLOCATIONS and (made or changed):
            unread = [id(args[0])] if packet in OVERWRITES else []
            self.traffic.read[str(packet)] += sum(touched(x) for key, x in operands.items() if key not in unread)
            self.traffic.written[str(packet)] += sum(map(touched, [*made, *changed.values()]))
        return result


def distinct(tensors: list[Tensor]) -> dict[int, Tensor]:
    """Each tensor once: x * x reads x once."""
    return {id(tensor): tensor for tensor in tensors}


def changed_operands(operator: Any, args: tuple, kwargs: dict) -> list[Tensor]:
    """The operands that the operator says it writes to: of ``add_``, of one with ``out=``."""
    def found() -> Iterator[Any]:
        for i, argument in enumerate(operator._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                yield args[i] if i < len(args) else kwargs.get(argument.name)

    return tensors_of(list(found()))


def shares_storage(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata


def touched(tensor: Tensor) -> int:
    """Bytes of the tensor's elements; of one that was expanded, those that exist."""
    elements = math.prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size)
    return min(elements * tensor.element_size(), tensor.untyped_storage().nbytes())


def forward_traffic(network: nn.Module, inputs: tuple[Tensor | None, ...], *, precision: str = "fp32",
                    fused: bool = True, device: str = "cpu") -> Traffic:
    """Of one inference pass of ``network`` on ``inputs``, both on the meta device and left as they are.

    ``precision`` "bf16" and "fp16" mean autocast with fp32 parameters, whose casts count. ``fused`` attention reads
    queries, keys and values and writes its result; otherwise the scores are written and read, too. Operators are
    those of ``device``. Raises InputError for an unknown precision, and what the network raises.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    dtype = PRECISIONS[precision]
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = fake_network(network, device).eval()
        inputs = tuple(x if x is None else empty_like_run(x, device) for x in inputs)
        with (torch.no_grad(), Counting() as counting, nullcontext() if fused else sdpa_kernel(SDPBackend.MATH),
              torch.autocast(torch.device(device).type, dtype) if dtype else nullcontext()):
            network(*inputs)
    return counting.traffic
