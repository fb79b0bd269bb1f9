"""Published networks by name: one file per family, each a table of arguments over the parts of this project.

>>> from variants import presets                             # doctest: +SKIP
>>> net = presets.build("dit_xl_2_256")
>>> presets.load(net, "DiT-XL-2-256x256.pt")

A family's file defines

``SOURCE``
    the official repository and the paper;
``PRESETS``
    name -> arguments of its ``build``, one aligned row each, with the citation in a comment;
``build(**arguments)``
    the network; arguments carry the official constructor's names, so that any configuration can be built;
``weight_map(network)``
    official key -> :class:`variants.presets.weights.Slot`: where a tensor of the official state dict goes;
``INPUTS``
    optional: preset (None = all of them) -> ``side`` in pixels and ``tokens`` of context that it was published
    with, where its arguments do not say;
``LEFT_OUT``
    optional: beginnings of official keys that belong to training, not to the network, and are passed over.
"""

from variants.presets.catalogue import build, build_family, describe, families, family_of, load, names

__all__ = ["build", "build_family", "describe", "families", "family_of", "load", "names"]
