"""Suites, one file each: what is trained, how it is evaluated. The file's name is the suite's name.

A file defines (the names in capitals are literals, read without importing it)
``NEEDS``: fields that its data sets must hold, some of "images", "masks", "labels";
``METRICS``: names that a run can leave (a mapping has them as keys), the headline first, without single classes;
``SUMMARY``: optional, those of ``METRICS`` that a comparison's first table and figures show; the others follow below;
``CAPTION``: optional, what these are; by default quality on the test data;
``CURVES``: names of its training curves, each with the direction that is better, "higher" or "lower"; {} if none;
``Settings``: its own settings, a :class:`harness.spec.Frozen` model;
``ACCEPTS``: optional, options of the command line that ``complete_settings`` takes;
``complete_settings(settings: dict, data, cache, **accepted) -> dict``: optional, settings that need a look at the data;
``data_facts(data, settings) -> dict``: optional, for the record and its notes (:mod:`harness.data_notes`);
``network_arguments(data, settings) -> dict``: what the contract in ``variants`` must know: channels, size, ...;
``example_inputs(data, settings, batch_size, device) -> tuple``: tensors of the shapes trained on, for counting;
``prepare(spec, settings, data, runtime, cache)``: optional, make what runs share, while another run trains;
``run(job) -> Outcome``: train and, unless the spec says otherwise, ``evaluate(job, outcome)`` the trained model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.record import Metric, Picture
from harness.spec import RunSpec
from variants.registry import FolderRegistry

if TYPE_CHECKING:                                  # listing suites must not wait for numpy
    from harness.dataset import Dataset


@dataclass(frozen=True)
class Job:
    """Everything a suite is given. ``model`` is on the device, initialised from ``spec.seeds.init``."""

    spec: RunSpec
    settings: Any                                  # the suite's Settings
    data: Dataset
    model: Any                                     # torch.nn.Module
    runtime: Any                                   # harness.training.train.Runtime: device, lease, ...
    memory: Any                                    # harness.measurement.costs.PeakMemory, begun before the model
    folder: Path                                   # where pictures go
    cache: Path                                    # what may be kept between runs (trained extractors)


@dataclass
class Outcome:
    """What a suite gives back. ``metrics``' first entry is the headline."""
    model: Any                                     # the weights that were evaluated
    metrics: dict[str, Metric] = field(default_factory=dict)
    cost: dict[str, Metric] = field(default_factory=dict)
    curves: list[tuple[int, float, str, float]] = field(default_factory=list)  # (step, seconds, name, value)
    cases: list[dict] = field(default_factory=list)                            # case, metric, class, value
    pictures: dict[str, Picture] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)                         # the suite's data_facts
    assumed: list[str] = field(default_factory=list)                           # of a network from elsewhere


registry = FolderRegistry(__name__, "suite", Path(__file__).parent)
