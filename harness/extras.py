"""Optional packages: is installed what an entry of a registry needs?"""

from __future__ import annotations

from importlib.util import find_spec

from harness.errors import InputError, unknown
from variants.registry import FolderRegistry


def check_entry(registry: FolderRegistry, name: str, *, option: str) -> None:
    """Check that ``name`` is an entry of ``registry`` and that the packages in its ``NEEDS`` are installed.

    Imports neither the entry nor the packages. Raises InputError, which names the extra to install.
    """
    if name not in registry.names():
        raise unknown(registry.kind, name, registry.names())
    for package, extra in (registry.constant(name, "NEEDS") or {}).items():
        found = find_spec(package)
        if found is None or found.origin is None:  # a folder of this name, such as wandb/, is not the package
            raise InputError(f"{option} {name} needs the package {package}: pip install 'unet-bench[{extra}]'")
