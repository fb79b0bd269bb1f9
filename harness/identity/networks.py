"""Networks by name: registered here, offered by an installed package, or written in anyone's file."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import variants
from harness.errors import InputError, one_line, unknown

ENTRY_POINTS = "unet_bench.variants"
INLINE = re.compile(r"(?P<name>[^()]+)\((?P<arguments>.*)\)", re.DOTALL)     # NAME(argument=value, ...)


def split_inline(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and arguments of ``NAME(argument=value, ...)``; a bare word as a value is a string.

    Raises InputError for anything in the parentheses that is not that.
    """
    found = INLINE.fullmatch(text.strip())
    if not found:
        return text, {}
    try:
        call = ast.parse(f"_({found['arguments']})", mode="eval").body
        values = {each.arg: each.value.id if isinstance(each.value, ast.Name) else ast.literal_eval(each.value)
                  for each in call.keywords}
        if call.args or None in values:
            raise ValueError
    except (SyntaxError, ValueError, TypeError):
        raise InputError(f"variant {text!r}: write its arguments as NAME(argument=value, ...)") from None
    return found["name"].strip(), values


def installed() -> dict[str, EntryPoint]:
    """Networks that installed packages offer through the entry point group ``unet_bench.variants``."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def source_file(name: str) -> Path | None:
    """The file that a ``path/to/file.py:Class`` name points at; None for any other name."""
    path, colon, _ = name.rpartition(":")
    return Path(path) if colon and path.endswith(".py") else None


def check(name: str) -> None:
    """Raise InputError for a name that cannot be a network, or a file that is not Python, without importing it (nor
    torch)."""
    file = source_file(name)
    if file is not None:
        if not file.is_file():
            raise InputError(f"variant {name!r}: there is no file {file}")
        _compile(name, file)
    elif ":" not in name and name not in variants.names() and name not in installed():
        raise unknown("variant", name, [*variants.names(), *installed()])


def factory(name: str) -> Callable:
    """What builds the network: called with the arguments of the contract in ``variants``.

    Raises InputError for an unknown name, a module that cannot be found or raises while it is imported, and an
    attribute that is missing or cannot be called.
    """
    check(name)
    if name in variants.names():
        return variants.registry.load(name).build
    module_name, _, attribute = name.rpartition(":")
    file = source_file(name)
    try:
        with contained():
            if name in installed():
                return installed()[name].load()
            module = import_file(file) if file else importlib.import_module(module_name)
            found = getattr(module, attribute, None)
    except ModuleNotFoundError as error:
        raise InputError(f"variant {name!r}: {error}") from error
    except Exception as error:                     # whatever other people's code raises
        raise InputError(f"variant {name!r} cannot be imported: {type(error).__name__}: {one_line(error)}") from error
    if found is None:
        raise InputError(f"variant {name!r}: {file or module_name} has no {attribute!r}")
    if not callable(found):
        raise InputError(f"variant {name!r}: {attribute!r} is a {type(found).__name__}, nothing that builds a network")
    return found


def require_module(network):
    """``network``. Raises ValueError where what a factory returned is no ``torch.nn.Module``."""
    from torch import nn
    if not isinstance(network, nn.Module):
        raise ValueError(f"what builds the network must return a torch.nn.Module, not {type(network).__name__}")
    return network


@contextmanager
def contained() -> Iterator[None]:
    """Turn SystemExit, KeyboardInterrupt and other BaseExceptions that other people's code raises by itself into
    RuntimeError, so that they end its run and not the command. A real Ctrl-C still ends the command."""
    interrupts, before = [], signal.getsignal(signal.SIGINT)
    listens = callable(before) and threading.current_thread() is threading.main_thread()    # else none can arrive

    def interrupt(*arguments) -> None:
        interrupts.append(arguments)
        before(*arguments)

    if listens:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        raise
    except BaseException as problem:
        if interrupts:
            raise
        said, kind = one_line(problem), type(problem).__name__
        raise RuntimeError(f"the network's code raised {kind}{f': {said}' if said != kind else ''}") from problem
    finally:
        if listens:
            signal.signal(signal.SIGINT, before)


def _compile(name: str, file: Path) -> None:
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise InputError(f"variant {name!r}: {file}{line} is not Python: {error.msg}") from None
    except (OSError, ValueError, OverflowError, RecursionError, MemoryError) as error:    # null bytes, deep nesting
        raise InputError(f"variant {name!r}: {file} cannot be read: {one_line(error)}") from None


def package_of(path: Path) -> tuple[Path, str]:
    """Return the folder from which a file is imported, and its dotted name there: as part of the packages around it."""
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        folder, parts = folder.parent, [folder.name, *parts]
    return folder, ".".join(parts)


def import_file(path: Path):
    """Import the module in ``path`` as ``python path`` would, with what lies beside it, or as part of its package.

    A file by itself gets a name of its own. Its folder stays on ``sys.path``, as the last, for what it imports later.
    """
    path = path.absolute()
    root, name = package_of(path)
    _forget_namesakes(root)
    sys.path.insert(0, str(root))
    try:
        top = sys.modules.get(name.partition(".")[0])
        if "." in name and (top is None or all(Path(place).parent == root for place in getattr(top, "__path__", ()))):
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(f"variant_file_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[spec.name]
            raise
        return module
    finally:
        sys.path.remove(str(root))
        if str(root) not in sys.path:
            sys.path.append(str(root))


def _forget_namesakes(root: Path) -> None:
    """Drop modules that another network's file imported from beside itself under a name that ``root`` has, too."""
    beside = {path.stem for path in root.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in beside and file and not Path(file).is_relative_to(root) \
                and any(Path(file).is_relative_to(folder) for folder in map(Path, _roots - {str(root)})):
            del sys.modules[name]
    _roots.add(str(root))


_roots: set[str] = set()                           # folders that networks' files were imported from


def all_names() -> list[str]:
    """Registered networks, then those of installed packages."""
    return [*variants.names(), *installed()]
