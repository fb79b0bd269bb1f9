"""Arguments of networks from elsewhere, by the field's names: what a factory's signature calls the contract's.

The contract is that of ``variants``: in_channels, out_channels, image_size, width, time, context_dim. No torch import.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.errors import InputError
from harness.spec import portable_variant

# The contract's arguments -> what other libraries and published code call them, the contract's own name first.
ALIASES = {
    "in_channels": ("in_channels", "in_chans", "in_ch", "n_channels", "input_channels", "input_channel", "in_channel",
                    "img_channels", "img_ch", "num_channels", "num_input_channels", "input_nc", "channels_in", "in_c",
                    "in_dim", "n_channel", "input_ch"),
    "out_channels": ("out_channels", "out_chans", "out_ch", "classes", "num_classes", "n_classes", "output_channels",
                     "output_channel", "out_channel", "num_class", "n_class", "nclass", "class_num", "output_ch",
                     "output_nc", "num_output_channels", "channels_out", "out_c", "out_dim"),
    "image_size": ("image_size", "img_size", "sample_size", "input_size", "resolution", "img_dim"),
    "width": ("width",),
    "time": ("time",),
    "context_dim": ("context_dim", "cross_attention_dim"),
}
CLASS_TABLES = {"num_class_embeds": 1, "num_embeds_ada_norm": 0, "num_classes": 0}  # name -> entries beside the classes
WEIGHTS = ("encoder_weights", "weights", "weights_backbone", "pretrained", "pretrained_backbone", "encoder_pretrained")
KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def parameters_of(function: Callable | None) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function's signature, without ``self``; {} where it has none to be read."""
    try:
        found = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}
    found.pop("self", None)
    return found


def named(names: Sequence[str], parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """Return the first of ``names`` that can be given by keyword."""
    return next((name for name in names if name in parameters and parameters[name].kind in KEYWORD), None)


def keyword_arguments(name: str, factory: Callable, arguments: Mapping[str, Any],
                      takes_labels: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Return ``arguments`` (the contract's, and options) by the names of ``factory``'s signature; what was assumed.

    Options that are not the contract's are passed on as they are, and stand for the contract's where they have its
    meaning. ``takes_labels``: the network's ``forward`` takes class labels, so that ``num_classes`` counts these.
    Raises InputError where the factory needs more.
    """
    parameters = parameters_of(factory)
    found = {argument: named(aliases, parameters) for argument, aliases in ALIASES.items()}
    if takes_labels and found["out_channels"] == "num_classes":
        found["out_channels"] = None
    if "height" in parameters:                     # its width is that of an image
        found["width"] = None
    # **options take the contract's names, unless the factory has other names for them
    anything = not parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    anything = anything and all(alias in (None, argument) for argument, alias in found.items())
    given = {option: value for option, value in arguments.items() if option not in ALIASES}
    assumed = []
    for argument in ALIASES.keys() & arguments.keys():
        value, alias = arguments[argument], found[argument] or (argument if anything else None)
        if alias is None and argument in ("in_channels", "out_channels", "width"):
            assumed.append(f"{argument} is no argument of it")
        if alias is None or alias in given or value is None and alias != argument:
            continue
        given[alias] = side_or_sides(value, parameters.get(alias)) if argument == "image_size" else value
        if argument == "in_channels":              # some have two names for it, and use one of them
            given |= {other: value for other in ALIASES[argument] if other in parameters and other not in given}
        if alias != argument:
            assumed.append(f"{argument} is its {alias}")
    usual = {}
    table = named(tuple(CLASS_TABLES), parameters)
    if takes_labels and table and arguments.get("context_dim"):
        usual[table] = arguments["context_dim"] + CLASS_TABLES[table]
    if "spatial_dims" in parameters:
        usual["spatial_dims"] = 2
    for weights in WEIGHTS:                        # nothing is downloaded unless it is asked for
        default = getattr(parameters.get(weights), "default", None)
        if default not in (None, False):
            usual[weights] = False if isinstance(default, bool) else None
    assumed += [f"{argument} = {value}" for argument, value in usual.items() if argument not in given]
    given = {**usual, **given}
    missing = [each.name for each in parameters.values()
               if each.default is each.empty and each.kind in KEYWORD and each.name not in given]
    if missing:
        example = ", ".join(f"{argument}=..." for argument in missing)
        name = portable_variant(name)
        raise InputError(f"variant {name!r} needs {', '.join(missing)}: give them as --variant '{name}({example})'")
    return given, sorted(assumed)


def side_or_sides(size: int | tuple[int, int], parameter: inspect.Parameter | None) -> int | tuple[int, int]:
    """Return (H, W) as one number for a name that is not the contract's, where sides are equal and its default is
    no sequence."""
    if parameter is None or parameter.name == "image_size" or isinstance(parameter.default, (tuple, list)):
        return size
    return size[0] if isinstance(size, tuple) and size[0] == size[1] else size
