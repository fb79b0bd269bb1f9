"""From a network's name and the contract's arguments to what builds it: registered here, or adapted from elsewhere."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import variants
from harness.identity.foreign_network import Adaptation, adapt
from harness.identity.networks import factory, require_module


def adaptation(name: str, arguments: dict[str, Any], inputs: tuple[Tensor | None, ...]) -> Adaptation:
    """Return how the network called ``name`` is built under the contract's ``arguments`` and its options.

    One from elsewhere is tried with inputs of the shapes of ``inputs``. Raises InputError as
    :func:`harness.identity.networks.factory`, and whatever trying it raises.
    """
    found = factory(name)
    if name in variants.names():
        return Adaptation(lambda: require_module(found(**arguments)))
    return adapt(name, found, arguments, inputs)


def build(name: str, inputs: tuple[Tensor | None, ...], /, **arguments) -> nn.Module:
    """Build the network called ``name``, as :func:`adaptation`."""
    return adaptation(name, arguments, inputs).build()
