"""U-ViT: all are worth words, by data set and size, with the long skips and without."""

from __future__ import annotations

from torch import nn

from variants.presets.weights import Slot, renamed
from variants.uvit import UViT

SOURCE = "baofff/U-ViT libs/uvit.py, libs/uvit_t2i.py; Bao et al. 2022, arXiv:2209.12152"

# Table 8 of the paper, configs/*.py of the repository. 1001 classes are ImageNet's and one for "no class".
SMALL = dict(embed_dim=512,  depth=12, num_heads=8)
MID   = dict(embed_dim=768,  depth=16, num_heads=12)
LARGE = dict(embed_dim=1024, depth=20, num_heads=16)
HUGE  = dict(embed_dim=1152, depth=28, num_heads=16, conv=False)
TEXT  = dict(clip_dim=768, num_clip_token=77)

PRESETS = {
    "uvit_s2_cifar10":        dict(**SMALL, img_size=32, patch_size=2, in_chans=3),
    "uvit_s2_cifar10_noskip": dict(**SMALL, img_size=32, patch_size=2, in_chans=3, skip=False),       # Fig. 2a
    "uvit_s4_celeba64":       dict(**SMALL, img_size=64, patch_size=4, in_chans=3),
    "uvit_m4_imagenet64":     dict(**MID,   img_size=64, patch_size=4, in_chans=3, num_classes=1000),
    "uvit_l4_imagenet64":     dict(**LARGE, img_size=64, patch_size=4, in_chans=3, num_classes=1000),
    "uvit_l2_imagenet256":    dict(**LARGE, img_size=32, patch_size=2, in_chans=4, num_classes=1001),
    "uvit_h2_imagenet256":    dict(**HUGE,  img_size=32, patch_size=2, in_chans=4, num_classes=1001),
    "uvit_l4_imagenet512":    dict(**LARGE, img_size=64, patch_size=4, in_chans=4, num_classes=1001),
    "uvit_h4_imagenet512":    dict(**HUGE,  img_size=64, patch_size=4, in_chans=4, num_classes=1001),
    "uvit_s2_mscoco":         dict(**SMALL, **TEXT, img_size=32, patch_size=2, in_chans=4),
    "uvit_s2deep_mscoco":     dict(**{**SMALL, "depth": 16}, **TEXT, img_size=32, patch_size=2, in_chans=4),
}


def build(*,
    img_size       = 224,
    patch_size     = 16,
    in_chans       = 3,
    embed_dim      = 768,
    depth          = 12,
    num_heads      = 12,
    mlp_ratio      = 4.0,
    qkv_bias       = False,
    qk_scale       = None,           # Without effect, as in the official code with PyTorch 2's fused attention.
    norm_layer     = nn.LayerNorm,   # Of which the eps is taken.
    mlp_time_embed = False,
    num_classes    = -1,             # Above 0: class labels (N,), of the table's rows.
    use_checkpoint = False,          # Without effect: it trades time for memory in training, not numbers.
    conv           = True,
    skip           = True,
    clip_dim       = None,           # Channels of a text token; given (or num_clip_token), it is uvit_t2i.py's UViT.
    num_clip_token = None,           # Default 77.
) -> UViT:
    """The arguments of the two official constructors.

    Call with x (N, in_chans, H, W), t (N,), and class labels (N,) or text tokens (N, num_clip_token, clip_dim)
    where it has them. Raises ValueError for sizes that the patch does not divide.
    """
    text = clip_dim is not None or num_clip_token is not None
    if text and num_classes > 0:
        raise ValueError("a U-ViT takes class labels (num_classes) or text tokens (clip_dim), not both")
    return UViT(in_chans, in_chans, image_size=img_size, patch_size=patch_size, hidden_size=embed_dim, depth=depth,
                num_heads=num_heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, norm_eps=norm_layer(1).eps,
                skip="concat" if skip else "none", conv=conv, mlp_time_embed=mlp_time_embed, pad=False, time=True,
                context_dim=(clip_dim or 768) if text else None,
                context_tokens=(num_clip_token or 77) if text else None,
                num_classes=num_classes if num_classes > 0 else None)


RENAMED = (
    (r"^positions$",                             "pos_embed"),
    (r"^patches\.",                              "patch_embed.proj."),
    (r"^time_mlp\.",                             "time_embed."),
    (r"^classes\.",                              "label_emb."),
    (r"^context\.",                              "context_embed."),
    (r"^conv\.",                                 "final_layer."),
    (r"^trunk\.head\.0\.",                       "norm."),
    (r"^trunk\.head\.1\.",                       "decoder_pred."),
    (r"^trunk\.encoder\.(\d+)\.parts\.0\.",      r"in_blocks.\1."),
    (r"^trunk\.middle\.parts\.0\.",              "mid_block."),
    (r"^trunk\.decoder\.(\d+)\.parts\.0\.",      r"out_blocks.\1."),
    (r"^trunk\.decoder\.(\d+)\.skip\.project\.", r"out_blocks.\1.skip_linear."),
    (r"^(.*_blocks?(?:\.\d+)?)\.qkv\.",          r"\1.attn.qkv."),
    (r"^(.*_blocks?(?:\.\d+)?)\.out\.",          r"\1.attn.proj."),
    (r"^(.*_blocks?(?:\.\d+)?)\.mlp\.0\.",       r"\1.mlp.fc1."),
    (r"^(.*_blocks?(?:\.\d+)?)\.mlp\.2\.",       r"\1.mlp.fc2."),
)


def weight_map(network: UViT) -> dict[str, Slot]:
    """As in ``UViT.state_dict()``."""
    return renamed(network, RENAMED)
