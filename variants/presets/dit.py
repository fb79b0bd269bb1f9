"""DiT: the Diffusion Transformers of Peebles & Xie, by size, patch and conditioning block."""

from __future__ import annotations

from variants.dit import DiT
from variants.presets.weights import Slot, renamed

SOURCE = "facebookresearch/DiT models.py; Peebles & Xie 2022, arXiv:2212.09748"

SIZES = {                                                             # Table 1
    "s":  dict(hidden_size=384,  depth=12, num_heads=6),
    "b":  dict(hidden_size=768,  depth=12, num_heads=12),
    "l":  dict(hidden_size=1024, depth=24, num_heads=16),
    "xl": dict(hidden_size=1152, depth=28, num_heads=16),
}

# name_size_patch_pixels: on latents of an eighth of the image's side, 4 channels (Sec. 4).
PRESETS = {f"dit_{size}_{patch}_{pixels}": dict(**SIZES[size], patch_size=patch, input_size=pixels // 8)
           for pixels in (256, 512) for size in SIZES for patch in (8, 4, 2)}

# The other conditioning blocks of Fig. 3, as in Table 4; the official repository has adaLN-Zero only.
PRESETS |= {f"dit_xl_2_256_{block}": dict(**PRESETS["dit_xl_2_256"], conditioning=block)
            for block in ("adaln", "cross_attention", "in_context")}


def build(*,
    input_size         = 32,             # Pixels on a side of the latent; its position code is part of the weights.
    patch_size         = 2,
    in_channels        = 4,
    hidden_size        = 1152,
    depth              = 28,
    num_heads          = 16,
    mlp_ratio          = 4.0,
    class_dropout_prob = 0.1,            # Above 0 the table has one more row, the null class.
    num_classes        = 1000,
    learn_sigma        = True,           # Output noise and variance: twice in_channels.
    conditioning       = "adaln_zero",   # adaln_zero | adaln | cross_attention | in_context
) -> DiT:
    """The official constructor's arguments, and the conditioning block.

    Call with x (N, in_channels, H, W), t (N,), class labels (N,). Raises ValueError for sizes that the patch
    does not divide.
    """
    return DiT(in_channels, in_channels, patch_size=patch_size, hidden_size=hidden_size, depth=depth,
               num_heads=num_heads, mlp_ratio=mlp_ratio, conditioning=conditioning, learn_sigma=learn_sigma,
               input_size=input_size, pad=False, time=True, num_classes=num_classes, class_drop=class_dropout_prob)


RENAMED = (
    (r"^positions$",                   "pos_embed"),
    (r"^patches\.",                    "x_embedder.proj."),
    (r"^embedding\.mlp\.",             "t_embedder.mlp."),
    (r"^embedding\.context\.",         "y_embedder.embedding_table."),
    (r"^head\.",                       "final_layer.linear."),
    (r"^modulation\.project\.",        "final_layer.adaLN_modulation.1."),
    (r"^(blocks\.\d+)\.qkv\.",        r"\1.attn.qkv."),
    (r"^(blocks\.\d+)\.out\.",        r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.mlp\.0\.",     r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.mlp\.2\.",     r"\1.mlp.fc2."),
    (r"^(blocks\.\d+)\.modulation\.project\.", r"\1.adaLN_modulation.1."),
)


def weight_map(network: DiT) -> dict[str, Slot]:
    """As in ``DiT.state_dict()``; what only the other conditioning blocks have keeps our names."""
    return renamed(network, RENAMED)
