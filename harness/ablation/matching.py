"""The size at which a network meets another's parameters, MACs or step time: ``match`` of a study.

A network says by its attribute ``sizes`` (variants/parts/sizes.py) which arguments make it larger and which
values they may take; one that says nothing has ``width``, in whole channels. An arm that already meets the
base keeps its own size. ``python bench.py page matching`` writes results/matching/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from pydantic import Field

from harness.ablation.size_search import Arm, Search
from harness.errors import unknown
from harness.spec import Frozen

Quantity = Literal["params", "macs", "latency"]
TOLERANCE = {"params": 0.02, "macs": 0.02, "latency": 0.05}   # of a time: what a quiet machine repeats it to


class Match(Frozen):
    """What was found: ``options`` for the arm's build(), and how near it comes. JSON-able."""

    quantity: Quantity
    target: int | float                            # the base's
    value: int | float | None                      # the arm's with ``options``; None = it cannot be built
    error: float | None                            # value / target - 1
    options: dict[str, Any] = Field(default_factory=dict)   # {} = the arm as it is
    within: bool                                   # is |error| <= tolerance?
    reason: str = ""                               # why it is not, in one line
    tolerance: float
    tried: int                                     # networks that were counted or timed
    noise: float | None = None                     # of a time: half its quartiles' distance / its median


def measured(factory: Callable, arguments: dict, inputs: tuple, quantity: Quantity) -> int | float:
    """``quantity`` of the network that ``factory(**arguments)`` builds: a base's ``target``.

    ``inputs`` are tensors on the meta device for params and macs; for latency (ms of forward and backward)
    they are those of a training step, on its device. Raises what building or calling the network raises.
    """
    return Arm(factory, arguments, inputs, quantity).measure({})[0]


def match_width(factory: Callable, arguments: dict, inputs: tuple, quantity: Quantity, target: int | float, *,
                tolerance: float | None = None) -> Match:
    """The options with which ``factory(**arguments, **options)`` meets ``target`` within ``tolerance``.

    ``factory``, ``arguments`` and ``inputs`` as in :func:`measured`; a tolerance of None is 2 %, for latency
    5 %. Where there are no such options, the match has the nearest ones and a reason. Latency is searched in
    few probes, and what was found is timed once more, so that the value is not the luckiest of several.
    Raises InputError for an unknown quantity and ValueError for a target that is not positive.
    """
    if quantity not in get_args(Quantity):
        raise unknown("quantity to match", quantity, get_args(Quantity))
    if not target > 0:
        raise ValueError(f"the target must be positive, not {target!r}")
    tolerance = TOLERANCE[quantity] if tolerance is None else tolerance
    arm = Arm(factory, arguments, inputs, quantity)
    search = Search(arm, target, tolerance)
    reason = search.run()
    value, options = search.nearest()
    tried, noise = len(arm.seen), None
    if quantity == "latency" and value is not None:
        value, noise = arm.measure(options)
        tried += 1
    error = None if value is None else value / target - 1
    within = error is not None and abs(error) <= tolerance
    if not within and noise is not None:
        reason += f"{'; ' if reason else ''}timed once more it is off by {error:+.1%}; its times vary by {noise:.1%}"
    return Match(quantity=quantity, target=target, value=value, error=error, options=options, within=within,
                 reason="" if within else reason, tolerance=tolerance, tried=tried, noise=noise)
