"""Claims about cost: exact, counted on the meta device when the claim is tested. Nothing is trained.

Only :meth:`Cost.find` imports torch.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.analysis.claim_verdict import Finding
from harness.errors import InputError
from harness.spec import Frozen

LABELS = {"parameters": "parameters", "macs": "MACs"}


class Network(Frozen):
    """A variant or a preset, as ``inspect`` takes it."""

    network: str
    options: dict[str, Any] = Field(default_factory=dict)    # arguments of its build
    size: int | None = None                        # side of the image in pixels, where it is not the test's


class Cost(Frozen):
    """The tested network's count over each reference's, at the last of ``sizes``; it must hold against them all."""

    kind: Literal["cost"]
    quantity: Literal["parameters", "macs"]
    tested: Network
    references: dict[str, Network] = Field(min_length=1)
    sizes: tuple[int, ...] = ()                    # sides in pixels, growing; all are shown, the last decides
    at_least: float = 0.0                          # of the ratio tested / reference
    at_most: float | None = None

    def find(self) -> Finding:
        """Raises InputError for a network that does not exist or refuses its options."""
        holds, numbers = {}, []
        for name, reference in self.references.items():
            ratios = []
            for size in self.sizes or (None,):
                ours, theirs = self.count(self.tested, size), self.count(reference, size)
                ratios.append(ours / theirs)
                at = f" at {size} px" if size else ""
                numbers.append(f"{_large(ours)} against {_large(theirs)} of {name}{at} (ratio {ours / theirs:.4g})")
            holds[name] = ratios[-1] >= self.at_least and (self.at_most is None or ratios[-1] <= self.at_most)
        told = f"Counted exactly, {LABELS[self.quantity]} of {self.tested.network}: {'; '.join(numbers)}"
        if all(holds.values()):
            return Finding("supported", "", told, 0)
        if not any(holds.values()):
            return Finding("contradicted", "", told, 0)
        sides = {side: [name for name, held in holds.items() if held is side] for side in (True, False)}
        return Finding("inconclusive", f"it holds against {' and '.join(sides[True])}, not against "
                       f"{' and '.join(sides[False])}", told, 0)

    def count(self, network: Network, size: int | None) -> int:
        from harness.measurement import costs
        from harness.measurement.network import subject
        try:
            found = subject(network.network, network.size or size, network.options)
            if self.quantity == "parameters":
                return int(costs.count_parameters(found.network).value)
            return int(costs.count_macs(found.network, *found.inputs)["macs"].value)
        except (ValueError, RuntimeError) as error:            # in its forward pass
            raise InputError(f"{network.network}: {' '.join(str(error).split())}") from error

    def asked(self) -> str:
        low = f"at least {self.at_least:.4g}" if self.at_least else ""
        high = f"at most {self.at_most:.4g}" if self.at_most is not None else ""
        return f"a ratio of {' and '.join(filter(None, (low, high)))}"


def _large(value: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:g}"
