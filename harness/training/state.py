"""The state of training on disk: saved whole every few minutes, taken up again by the same command.

A run's folder of checkpoints is named by what was asked for, so that a checkpoint of other code or data is seen and
said, and holds the last two states: ``000000300.pt`` (tensors and plain values, loaded with ``weights_only``) and
``000000300.json``, written after it, with the run's id and the file's SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

KEPT = 2                                           # states on disk: where the last one is torn, the one before serves


@dataclass
class TrainState:
    """Everything that the rest of a training depends on, besides the batches, which are functions of the step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    average: AveragedModel | None = None
    scaler: Any = None                             # torch.amp.GradScaler, with fp16
    step: int = 0                                  # steps taken
    seconds: float = 0.0                           # of training so far, without validation
    wait_s: float = 0.0                            # of these, waiting for batches
    first_step_s: float = 0.0
    curves: list[tuple[int, float, str, float]] = field(default_factory=list)
    pending: list[Tensor] = field(default_factory=list)        # losses that no curve has yet

    VALUES = ("step", "seconds", "wait_s", "first_step_s")

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values only."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            random["cuda"] = torch.cuda.get_rng_state()
        return {**parts, **{name: getattr(self, name) for name in self.VALUES}, "random": random,
                "curves": [list(point) for point in self.curves], "pending": self.pending}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` returned. Raises what torch raises where it does not fit."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name in self.VALUES:
            setattr(self, name, state[name])
        self.curves[:] = [tuple(point) for point in state["curves"]]
        device = next(self.model.parameters()).device
        self.pending[:] = [loss.to(device) for loss in state["pending"]]
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"])

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule,
                 "average": self.average, "scaler": self.scaler}
        return {name: part for name, part in parts.items() if part is not None}


class Checkpoints:
    """The checkpoints of one run in ``folder``, saved every ``every_s`` seconds (0: never).

    ``say`` hears a line about a checkpoint that is not used, or could not be written.
    """

    def __init__(self, folder: Path, run_id: str, every_s: float = 300.0,
                 say: Callable[[str], None] = lambda line: None):
        self.folder, self.run_id, self.every_s, self.say = folder, run_id, every_s, say
        self.saved = time.monotonic()

    def due(self, *, last: bool = False) -> bool:
        """Tell whether it is time to save; the ``last`` state, before evaluation, is saved a tenth as readily."""
        return self.every_s > 0 and time.monotonic() - self.saved >= self.every_s / (10 if last else 1)

    def save(self, state: TrainState) -> None:
        """Write the state, then remove the oldest. A disk that is full stops no run: ``say`` hears it."""
        name = f"{state.step:09d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            written = self.folder / f".{name}-{os.getpid()}.pt"
            torch.save(state.state_dict(), written)
            note = {"run_id": self.run_id, "step": state.step, "sha256": _sha256(written)}
            written.replace(self.folder / f"{name}.pt")
            written = written.with_suffix(".json")
            written.write_text(json.dumps(note) + "\n")
            written.replace(self.folder / f"{name}.json")
        except (OSError, RuntimeError) as error:   # torch's writer turns a full disk into a RuntimeError
            self.say(f"no checkpoint at step {state.step}: {' '.join(str(error).split())[:200]}")
            for leftover in self.folder.glob(f".*-{os.getpid()}.*"):
                leftover.unlink(missing_ok=True)
        else:
            for old in sorted(self.folder.glob("*.json"))[:-KEPT]:
                _remove(old)
        self.saved = time.monotonic()

    def restore(self, state: TrainState) -> bool:
        """Bring ``state`` to the newest checkpoint that is whole and of this run; False where there is none.

        One of other code or data is removed, and a torn one passed over; ``say`` hears both.
        """
        for note in sorted(self.folder.glob("*.json"), reverse=True):
            try:
                known = json.loads(note.read_text())
                if known["run_id"] != self.run_id:
                    self.say("a checkpoint of other code or data is not used; the run starts anew")
                    self.clear()
                    return False
                weights = note.with_suffix(".pt")
                if _sha256(weights) != known["sha256"]:
                    raise ValueError("its contents are not those that were written")
                loaded = torch.load(weights, map_location="cpu", weights_only=True)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError, UnpicklingError) as error:
                self.say(f"checkpoint {note.stem} is damaged and not used: {' '.join(str(error).split())[:200]}")
                continue
            state.load_state_dict(loaded)
            return True
        return False

    def clear(self) -> None:
        """Remove all checkpoints of the run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(note: Path) -> None:
    note.unlink(missing_ok=True)                   # the note first: a state without one is not whole
    note.with_suffix(".pt").unlink(missing_ok=True)
