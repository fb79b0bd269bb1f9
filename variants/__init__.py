"""Networks, one file each; the file's name is the network's name.

Each file defines ``build`` with one signature, and every network it returns is called one way::

    build(*, in_channels, out_channels, image_size, width=..., time=False, context_dim=None, **options)
    forward(x, t=None, context=None) -> (N, out_channels, H, W)

``x`` (N, in_channels, H, W); ``t`` (N,) step or noise level, or None; ``context`` (N, L, context_dim)
tokens, or None; networks with a class table (presets) also take integer labels (N,), a lookup that costs
no multiplication. So every network segments, generates and restores. A network may say by an attribute
``sizes`` (variants/parts/sizes.py) how it is made larger or smaller more finely than by ``width``.

>>> import variants                                          # doctest: +SKIP
>>> net = variants.build("plain", in_channels=1, out_channels=2, image_size=64)
"""

from __future__ import annotations

from pathlib import Path

from variants.registry import FolderRegistry

registry = FolderRegistry(__name__, "variant", Path(__file__).parent, exclude=("registry",))


def names() -> list[str]:
    """Names of all networks in this folder."""
    return registry.names()


def build(name: str, **arguments):
    """The network called ``name``. Raises KeyError for an unknown name; see ``names()``."""
    return registry.load(name).build(**arguments)
