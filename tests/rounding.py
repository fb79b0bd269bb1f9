"""What bf16 must cost: float64 in which whatever is stored is rounded to bf16, and how far off that is."""

import copy
import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode

UNIT = 2.0 ** -8            # bf16 keeps 8 bits: rounding to nearest is off by at most UNIT / (1 + UNIT) of the value


class Rounding(TorchDispatchMode):
    """Whatever an operator makes in float64 is rounded to bf16; what it computes on the way is not."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if any(made.alias_info is not None for made in operator._schema.returns):    # a view, or changed in place
            return result
        if isinstance(result, (tuple, list)):
            return type(result)(rounded(x) for x in result)
        return rounded(result)


class Watching(TorchDispatchMode):
    """Keeps (operator's name, the tensors it takes, the tensors it returns) of those whose name holds a word."""

    def __init__(self, *words):
        super().__init__()
        self.words, self.seen = words, []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if any(word in str(operator) for word in self.words):
            self.seen.append((str(operator), [x for x in args if isinstance(x, torch.Tensor)],
                              list(result) if isinstance(result, (tuple, list)) else [result]))
        return result


def rounded(x):
    return x.bfloat16().double() if isinstance(x, torch.Tensor) and x.dtype == torch.float64 else x


def stored_in_bf16(network):
    """A copy in float64, its parameters rounded to bf16; to be run under ``Rounding``."""
    network = copy.deepcopy(network).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(rounded(parameter))
    return network


def error(y, exact):
    """Root mean square, relative to the standard deviation of ``exact``."""
    return float((y.double() - exact).square().mean().sqrt() / exact.std())


def distance(found, exact):
    """Length of the difference over that of ``exact``."""
    return float((found.double() - exact).norm() / exact.norm())


def over_seeds(errors):
    """Root mean square."""
    return math.sqrt(sum(e * e for e in errors) / len(errors))
