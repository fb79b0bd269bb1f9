"""The search for the size at which a network costs what it should: see :mod:`harness.ablation.matching`.

Scale every size alike and round; then, only as far as needed, move a ratio such as that of a transformer's
MLP within its limits, or single levels by one step.
"""

from __future__ import annotations

import inspect
import itertools
import math
import statistics
from collections.abc import Callable

from harness.errors import one_line
from harness.identity import networks
from harness.spec import canonical_json
from variants.parts.sizes import Fine, Scaled

LABELS = {"params": "parameters", "macs": "MACs", "latency": "ms per training step"}
WIDTH = 32                   # default width in the contract of ``variants``
LARGEST = {"params": 64, "macs": 64, "latency": 8}   # times its own sizes, to which a network is made larger
HALVINGS = {"params": 10, "macs": 10, "latency": 5}
MOST_MOVED = 3               # sizes that are moved by one step at once
DETOURS = 12                 # steps of 3 % to either side of a size that cannot be built
REPEATS = 15                 # steps that are timed, after 3 that are not


def step_ms(model, inputs: tuple) -> tuple[float, float]:
    """Median time of forward and backward in ms, and its noise: half the quartiles' distance / the median."""
    import torch

    from harness.measurement.timing import time_calls

    model.to(memory_format=torch.channels_last).train()            # as in a run

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(*inputs).square().mean().backward()

    seconds = time_calls(step, inputs[0].device, warmup=3, repeats=REPEATS)
    quartiles = statistics.quantiles(seconds, n=4)
    return 1e3 * quartiles[1], (quartiles[2] - quartiles[0]) / 2 / quartiles[1]


class Arm:
    """One network in several sizes; each is counted once. ``problem`` is what the last that failed said."""

    def __init__(self, factory: Callable, arguments: dict, inputs: tuple, quantity: str):
        self.factory, self.arguments, self.inputs, self.quantity = factory, arguments, inputs, quantity
        self.seen: dict[str, tuple[int | float | None, dict]] = {}
        self.problem = ""

    def build(self, options: dict):
        import torch

        device = self.inputs[0].device
        with networks.contained(), torch.device(device):
            model = self.factory(**{**self.arguments, **options})
        return model.to(device)                    # a factory may have put a part elsewhere

    def measure(self, options: dict) -> tuple[int | float, float | None]:
        """Value and noise, measured anew. Raises what building or calling the network raises."""
        import torch

        from harness.measurement import costs

        if self.quantity == "latency":
            return step_ms(self.build(options), self.inputs)
        model = self.build(options)
        if self.quantity == "macs":
            return int(costs.count_macs(model, *self.inputs)["macs"].value), None
        with torch.no_grad():
            model.eval()(*self.inputs)             # a size at which it cannot be called is none
        return int(costs.count_parameters(model).value), None

    def value(self, options: dict) -> int | float | None:
        """As measured before, or now; None where the network cannot be built with ``options``, or called."""
        key = canonical_json(options)
        if key not in self.seen:
            try:
                with networks.contained():
                    value = self.measure(options)[0]
            except Exception as error:             # anyone's network, which may refuse a size in any way
                value, self.problem = None, one_line(error, 200)
            self.seen[key] = (value, options)
        return self.seen[key][0]

    def sizes(self) -> dict[str, Scaled | Fine]:
        """What makes it larger: its own ``sizes`` where build() takes them, else ``width``; {} = nothing does."""
        sizes = getattr(self.build({}), "sizes", None)
        if isinstance(sizes, dict) and all(isinstance(size, (Scaled, Fine)) for size in sizes.values()):
            same = {name: listed(size.value) for name, size in sizes.items()}
            if self.takes(same):
                return sizes
        parameters = inspect.signature(self.factory).parameters
        width = self.arguments.get("width", getattr(parameters.get("width"), "default", WIDTH))
        takes = "width" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        return {"width": Scaled(width, coarsens=False)} if takes and isinstance(width, int) else {}

    def takes(self, same: dict) -> bool:
        """Does build() hand these arguments on? Given the network's own sizes, it then builds the same."""
        try:
            return [p.shape for p in self.build(same).parameters()] == [p.shape for p in self.build({}).parameters()]
        except Exception:                          # anyone's factory: most say TypeError
            return False


def listed(value):
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def shown(options: dict) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "as it is"


class Search:
    """The search for one arm. ``run`` gives a reason where it ends without a match."""

    def __init__(self, arm: Arm, target: int | float, tolerance: float):
        self.arm, self.target, self.tolerance = arm, target, tolerance
        self.scaled: dict[str, Scaled] = {}
        self.fine: dict[str, Fine] = {}

    def error(self, value: int | float) -> float:
        return value / self.target - 1

    def within(self) -> bool:
        value = self.nearest()[0]
        return value is not None and abs(self.error(value)) <= self.tolerance

    def nearest(self) -> tuple[int | float | None, dict]:
        """The nearest so far; of equals the first."""
        known = [seen for seen in self.arm.seen.values() if seen[0] is not None]
        return min(known, key=lambda seen: abs(self.error(seen[0])), default=(None, {}))

    def run(self) -> str:
        """Fill the arm's ``seen`` until one is near enough; else why none is."""
        own = self.arm.value({})
        if own is None:
            return f"it cannot be built as it is: {self.arm.problem}"
        if self.within():
            return ""
        sizes = self.arm.sizes()
        self.scaled = {name: size for name, size in sizes.items() if isinstance(size, Scaled)}
        self.fine = {name: size for name, size in sizes.items() if isinstance(size, Fine)}
        if not self.scaled:
            return "it takes no width or other size"
        ends, reason = self.bracket(own)
        if reason:
            return reason
        below, above = self.bisect(*ends)
        if self.arm.quantity != "latency" and not self.within():
            self.tune_ratios(below, above)
            self.move_levels(below, above)
        if self.within():
            return ""
        ends = (f"{shown(options)} ({self.error(value):+.1%})" for options in (below, above)
                if (value := self.arm.value(options)) is not None)
        finer = "; it has no finer size than whole channels of width" if list(sizes) == ["width"] else ""
        return f"nothing is nearer than {' and '.join(ends)}{finer}"

    def options(self, scale: float) -> dict:
        """All sizes times ``scale``, rounded to what they may be; without those that stay as they are."""
        made = {name: tuple(size.near(scale * one) for one in size.value) if isinstance(size.value, tuple)
                else size.near(scale * size.value) for name, size in self.scaled.items()}
        return {name: listed(value) for name, value in made.items() if value != self.scaled[name].value}

    def probe(self, scale: float) -> tuple[float, int | float | None]:
        """The scale nearest to ``scale`` at which the network can be built, and its value there."""
        offsets = [0, *(sign * k for k in range(1, DETOURS + 1) for sign in (1, -1))]
        for offset in offsets:
            near = scale * 1.03 ** offset
            value = self.arm.value(self.options(near))
            if value is not None:
                return near, value
        return scale, None

    def bracket(self, own: int | float) -> tuple[tuple[float, float], str]:
        """Two scales between which the target lies; or the reason why there are none."""
        entries = [(one, size.multiple) for size in self.scaled.values()
                   for one in (size.value if isinstance(size.value, tuple) else (size.value,))]
        # Below this the smallest level would stay while others shrink, which is another shape.
        smallest = min(1.0, max(multiple / 2 / one for one, multiple in entries))
        up, largest = own < self.target, LARGEST[self.arm.quantity]
        scale = 1.0
        while True:
            last, scale = scale, min(largest, 2 * scale) if up else max(smallest, scale / 2)
            if scale == last:
                break
            at, value = self.probe(scale)
            if value is None:
                return (1, 1), f"no other size of it can be built: {self.arm.problem}"
            if up and value >= self.target or not up and value <= self.target:
                return (last, at) if up else (at, last), ""
            scale = max(scale, at) if up else min(scale, at)
        options = self.options(scale)
        value = self.arm.value(options)
        if value in (own, None) and options:
            return (1, 1), f"its {LABELS[self.arm.quantity]} do not depend on {' or '.join(self.scaled)}"
        extreme = f"{largest} times as wide" if up else "at the smallest that it can be"
        return (1, 1), f"{extreme} ({shown(options)}), it is off by {self.error(value or own):+.1%}"

    def bisect(self, low: float, high: float) -> tuple[dict, dict]:
        """The options nearest to the target from below and from above, all sizes in proportion."""
        for _ in range(HALVINGS[self.arm.quantity]):
            if self.arm.quantity == "latency" and self.within():
                break
            middle, value = self.probe(math.sqrt(low * high))
            if value is None or not low < middle < high:
                break
            low, high = (middle, high) if value < self.target else (low, middle)
        return self.options(low), self.options(high)

    def tune_ratios(self, *around: dict) -> None:
        """From the nearest sizes, move each ratio within its limits, by halves, to two decimals."""
        for options, (name, fine) in itertools.product(around, self.fine.items()):
            low, high = fine.low, fine.high
            for _ in range(10):
                ratio = round((low + high) / 2, 2)
                value = self.arm.value({**options, name: ratio})
                if value is None:
                    break
                low, high = (ratio, high) if value < self.target else (low, ratio)

    def move_levels(self, *around: dict) -> None:
        """From the nearest sizes, move one level by one step, then two, then three, until one is near enough."""
        for moved in range(1, MOST_MOVED + 1):
            if self.within():
                return
            for options in around:
                for changed in neighbours({**{n: listed(s.value) for n, s in self.scaled.items()}, **options},
                                          self.scaled, moved):
                    self.arm.value({name: value for name, value in changed.items()
                                    if value != listed(self.scaled[name].value)})
                    if moved > 1 and self.within():        # of single moves the nearest; of so many, any that will do
                        return


def neighbours(options: dict, sizes: dict[str, Scaled], moved: int):
    """``options`` with ``moved`` of its channel counts one step larger or smaller."""
    places = [(name, i) for name, value in options.items()
              for i in (range(len(value)) if isinstance(value, list) else (None,))]
    for chosen in itertools.combinations(places, moved):
        for signs in itertools.product((1, -1), repeat=moved):
            made = {name: list(value) if isinstance(value, list) else value for name, value in options.items()}
            for (name, i), sign in zip(chosen, signs):
                now = made[name] if i is None else made[name][i]
                to = sizes[name].near(max(1, now + sign * sizes[name].step(now + sign)))
                if i is None:
                    made[name] = to
                else:
                    made[name][i] = to
            yield made
