"""Official state dicts into this project's networks: all of it, or none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

NAMED = 5       # keys that a message lists before it only counts the rest
WRAPPERS = ("ema", "state_dict", "model")              # under which training scripts store it, best first
IN_PARALLEL = "module."                                # what DataParallel puts before every key
IN_LATENT_DIFFUSION = ("model.diffusion_model.", "first_stage_model.")   # before one network's among a system's keys


@dataclass(frozen=True)
class Slot:
    """Where one official tensor goes: into (rows of) one tensor of ours, reshaped or transposed on the way.

    ``own`` key in our state dict; ``shape`` the official tensor's; ``rows`` the slice or index tensor of our
    first axis that it fills (None = all of it); ``transpose`` swaps its two axes first.
    """

    own: str
    shape: tuple[int, ...]
    rows: slice | Tensor | None = None
    transpose: bool = False


def map_by_prefix(network: nn.Module, modules: Mapping[str, str]) -> dict[str, Slot]:
    """Slots where only modules' names differ: official prefix -> ours, and every tensor below it has one name."""
    own = network.state_dict(keep_vars=True)
    return {official + key.removeprefix(ours): Slot(key, tuple(tensor.shape))
            for official, ours in modules.items() for key, tensor in own.items() if key.startswith(ours + ".")}


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or a PyTorch file. Raises ValueError in one line where it cannot."""
    path = Path(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except Exception as error:          # a truncated file, or a pickle that wants to run code, can fail in any way
        said = ("only tensors are read, no code is run" if isinstance(error, UnpicklingError) else
                re.split(r"(?<=[.:])\s", " ".join(str(error).split()))[0].rstrip(".:"))
        raise ValueError(f"{path} is not a file of weights ({type(error).__name__}: {said[:160]})") from None
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict of tensors")
    return dict(content)


def _unpickled(path: Path):
    return torch.load(path, map_location="cpu", weights_only=True)        # refuses whatever is not plain data


def renamed(network: nn.Module, table: Iterable[tuple]) -> dict[str, Slot]:
    """Slots by renaming our keys: every (regular expression, replacement) of ``table``, one after the other.

    A replacement is what ``re.sub`` takes, a string or a function of the match.
    """
    table, slots = list(table), {}
    for own, tensor in network.state_dict().items():
        official = own
        for pattern, replacement in table:
            official = re.sub(pattern, replacement, official)
        assert official not in slots, f"two tensors are named {official}"
        slots[official] = Slot(own, tuple(tensor.shape))
    return slots


def fill(network: nn.Module, official: Mapping[str, Tensor], slots: Mapping[str, Slot],
         left_out: tuple[str, ...] = ()) -> None:
    """Copy every official tensor into its slot; keys that start with one of ``left_out`` are no part of a network.

    Everything is checked and reshaped before anything is written. Raises ValueError in one line.
    """
    official = {key: value for key, value in unwrapped(official, slots).items() if not key.startswith(left_out)}
    shapes = {key: tuple(value.shape) for key, value in official.items() if isinstance(value, Tensor)}
    complain({
        "missing": slots.keys() - official.keys(),
        "unexpected": official.keys() - slots.keys(),
        "no tensor": official.keys() - shapes.keys(),
        "of another shape": [f"{key} is {shapes[key]}, not {tuple(slot.shape)}" for key, slot in slots.items()
                             if key in shapes and shapes[key] != tuple(slot.shape)]})
    own = network.state_dict(keep_vars=True)
    unfilled = own.keys() - {slot.own for slot in slots.values()}
    assert not unfilled, f"the family's slots leave {sorted(unfilled)[:NAMED]} unfilled"
    with torch.no_grad():
        ready = []
        for key, slot in slots.items():
            tensor = official[key].T if slot.transpose else official[key]
            target = own[slot.own] if slot.rows is None else own[slot.own][slot.rows]
            ready.append((own[slot.own], slot.rows, tensor.reshape(target.shape).to(target)))
        for target, rows, tensor in ready:
            target[... if rows is None else rows] = tensor


def unwrapped(official: Mapping[str, Tensor], slots: Mapping[str, Slot]) -> Mapping[str, Tensor]:
    """Keys without what training put before them, where only that keeps them from fitting.

    ``module.`` goes where every key has it. Of a latent-diffusion system, which holds several networks, the
    keys of the one that fits are taken (``model.diffusion_model.`` or ``first_stage_model.``).
    """
    if slots.keys() & official.keys():
        return official
    if official and all(key.startswith(IN_PARALLEL) for key in official):
        return unwrapped({key.removeprefix(IN_PARALLEL): value for key, value in official.items()}, slots)
    for prefix in IN_LATENT_DIFFUSION:
        inside = {key.removeprefix(prefix): value for key, value in official.items() if key.startswith(prefix)}
        if slots.keys() & inside.keys():
            return inside
    return official


def complain(problems: Mapping[str, Iterable[str]]) -> None:
    """Raise ValueError in one line that names the first few keys of every kind of problem, if there is one."""
    said = []
    for what, keys in problems.items():
        if keys := sorted(keys):
            more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            said.append(f"{what}: {', '.join(keys[:NAMED])}{more}")
    if said:
        raise ValueError(f"the weights do not fit, nothing was loaded; {'; '.join(said)}")
