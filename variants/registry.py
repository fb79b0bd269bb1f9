"""A folder as a registry: one file is one entry, and the file's name is the entry's name.

Names and one-line descriptions are read without importing anything, so listing is instant.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType


class FolderRegistry:
    """Modules of one package, found by their place. ``kind`` names them in messages ("variant").

    >>> FolderRegistry("variants", "variant").names()        # doctest: +SKIP
    ['attention_gate', 'cross_attention', ...]
    """

    def __init__(self, package: str, kind: str, folder: Path, exclude: tuple[str, ...] = ()):
        self.package, self.kind, self.folder, self.exclude = package, kind, folder, ("__init__", *exclude)

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.py") if path.stem not in self.exclude)

    def describe(self, name: str) -> str:
        """First line of the module's docstring."""
        tree = ast.parse((self.folder / f"{name}.py").read_text())
        return (ast.get_docstring(tree) or "").partition("\n")[0]

    def constant(self, name: str, constant: str):
        """The value of a module-level literal such as ``FIELDS``, or None."""
        for node in ast.parse((self.folder / f"{name}.py").read_text()).body:
            if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == constant for t in node.targets):
                return ast.literal_eval(node.value)
        return None

    def load(self, name: str) -> ModuleType:
        """Import the entry. Raises KeyError where there is none of that name."""
        if name not in self.names():
            raise KeyError(name)
        return importlib.import_module(f"{self.package}.{name}")
