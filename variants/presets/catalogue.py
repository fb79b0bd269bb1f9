"""The presets of all families, found by name; what is behind ``variants.presets``."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from variants.registry import FolderRegistry

families = FolderRegistry(__package__, "family", Path(__file__).parent, exclude=("catalogue", "published", "weights"))


def names() -> list[str]:
    """Names of all presets, family by family."""
    return [name for family in families.names() for name in families.load(family).PRESETS]


def family_of(name: str) -> str:
    """The family that has the preset ``name``. Raises ValueError, with the nearest name, where none has."""
    for family in families.names():
        if name in families.load(family).PRESETS:
            return family
    near = difflib.get_close_matches(name, names(), n=1)
    raise ValueError(f"unknown preset {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def build(name: str, **changes):
    """The published network called ``name``; ``changes`` override its arguments."""
    family = family_of(name)
    module = families.load(family)
    return build_family(family, **{**module.PRESETS[name], **changes})


def build_family(family: str, **arguments):
    """Any network of a family, with the official constructor's arguments. Raises KeyError for no such family."""
    network = families.load(family).build(**arguments)
    network.preset_family = family
    return network


def describe(name: str) -> dict[str, Any]:
    """Family, source and arguments of a preset."""
    family = family_of(name)
    module = families.load(family)
    return {"name": name, "family": family, "source": module.SOURCE, "arguments": copy.deepcopy(module.PRESETS[name])}


def load(network, state_dict, family: str | None = None):
    """Official weights into ``network`` (or into a new one, where it is a preset's name); returns it.

    ``state_dict`` is a dict of tensors with the official repository's keys, or the path of a ``.pt``/``.pth``
    (read with ``weights_only=True``) or ``.safetensors`` file. Keys may carry ``module.``, or be those of a
    whole latent-diffusion system: see :func:`variants.presets.weights.unwrapped`. Raises ValueError in one
    line, with nothing loaded, where a key is missing or left over, a shape differs, or the file cannot be read.
    """
    from variants.presets.weights import fill, read
    tensors = read(state_dict) if isinstance(state_dict, (str, Path)) else state_dict
    if not isinstance(tensors, Mapping):
        raise ValueError(f"weights are a dict of tensors or the path of a file, not {type(tensors).__name__}")
    if isinstance(network, str):
        network = build(network)
    family = family or getattr(network, "preset_family", None)
    if family is None:
        raise ValueError("which family's keys? build the network with presets.build, or name its family")
    module = families.load(family)
    fill(network, tensors, module.weight_map(network), getattr(module, "LEFT_OUT", ()))
    return network
