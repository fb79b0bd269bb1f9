"""ADM: the ablated diffusion model, its upsamplers, and the rows of its architecture ablation."""

from __future__ import annotations

import re

from variants.parts.diffusion_unet import DiffusionUNet
from variants.parts.embedding import condition_embedding
from variants.presets.published import PublishedDiffusionUNet
from variants.presets.weights import Slot, renamed

SOURCE = "openai/guided-diffusion guided_diffusion/unet.py; Dhariwal & Nichol 2021, arXiv:2105.05233"

CHANNEL_MULT = {512: (0.5, 1, 1, 2, 2, 4, 4), 256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4)}
CLASSES = 1000


def flags(
    image_size,
    num_channels,
    num_res_blocks,
    channel_mult            = "",        # "1,2,3,4"; empty = CHANNEL_MULT's for the size.
    learn_sigma             = False,     # Twice the output channels: noise and its variance.
    class_cond              = False,
    attention_resolutions   = "16",      # Pixels on a side.
    **arguments,
) -> dict:
    """The official scripts' flags (script_util.create_model) -> arguments of :func:`build`."""
    if not channel_mult and image_size not in CHANNEL_MULT:
        raise ValueError(f"image_size {image_size} needs a channel_mult (without one: {sorted(CHANNEL_MULT)})")
    return dict(image_size=image_size, in_channels=3, model_channels=num_channels, out_channels=6 if learn_sigma else 3,
                num_res_blocks=num_res_blocks,
                attention_resolutions=tuple(image_size // int(side) for side in attention_resolutions.split(",")),
                channel_mult=tuple(map(int, channel_mult.split(","))) if channel_mult else CHANNEL_MULT[image_size],
                num_classes=CLASSES if class_cond else None, **arguments)


def super_resolution(large_size, small_size, **arguments) -> dict:
    """Flags of script_util.sr_create_model -> arguments of :func:`build`.

    The caller concatenates the low-resolution image, bilinearly enlarged, behind the noisy one: 6 channels.
    """
    mult = "" if large_size == 64 else "1,1,2,2,4,4"
    return {**flags(large_size, channel_mult=mult, **arguments), "in_channels": 6}


def ablation(num_channels, num_res_blocks=2, **arguments) -> dict:
    """A point of Tables 1-3: ImageNet 128, class-conditional, learned variance, AdaGN unless it says otherwise."""
    return flags(128, num_channels, num_res_blocks, class_cond=True, learn_sigma=True,
                 **{"use_scale_shift_norm": True, **arguments})


ADM   = dict(learn_sigma=True, attention_resolutions="32,16,8", resblock_updown=True, use_scale_shift_norm=True)
MULTI = dict(attention_resolutions="32,16,8", resblock_updown=True)      # the setting of Tables 2 and 3

PRESETS = {
    # README, "Download pre-trained models" and "Sampling from pre-trained models".
    "adm_imagenet64":       flags(64,  192, 3, class_cond=True,  num_head_channels=64, dropout=0.1,
                                  use_new_attention_order=True, **ADM),
    "adm_imagenet128":      flags(128, 256, 2, class_cond=True,  num_heads=4, **ADM),
    "adm_imagenet256":      flags(256, 256, 2, class_cond=True,  num_head_channels=64, **ADM),
    "adm_imagenet256_uncond": flags(256, 256, 2, num_head_channels=64, **ADM),
    "adm_imagenet512":      flags(512, 256, 2, class_cond=True,  num_head_channels=64, **ADM),
    "adm_lsun256":          flags(256, 256, 2, num_head_channels=64, dropout=0.1, **ADM),
    "adm_upsampler_64_256":  super_resolution(256, 64,  num_channels=192, num_res_blocks=2, class_cond=True,
                                              num_heads=4, **ADM),
    "adm_upsampler_128_512": super_resolution(512, 128, num_channels=192, num_res_blocks=2, class_cond=True,
                                              num_head_channels=64, **{**ADM, "attention_resolutions": "32,16"}),
    # Table 1: width, depth, heads, attention resolutions, resampling in blocks, one by one and together.
    "adm_ablation_base_128":                        ablation(128),
    "adm_ablation128_ch160_depth2_heads1_attn16":   ablation(160),
    "adm_ablation128_ch128_depth4_heads1_attn16":   ablation(128, 4),
    "adm_ablation128_ch160_depth2_heads4_attn16":   ablation(160, num_heads=4),
    "adm_ablation128_ch160_depth2_heads1_attn32_16_8": ablation(160, attention_resolutions="32,16,8"),
    "adm_ablation128_ch160_depth2_heads1_attn16_bigganupdown": ablation(160, resblock_updown=True),
    "adm_ablation128_ch160_depth2_heads4_attn32_16_8_bigganupdown": ablation(160, num_heads=4, **MULTI),
    "adm_ablation128_ch160_depth2_noadagn":         ablation(160, use_scale_shift_norm=False),
    # Table 2: heads.
    "adm_ablation128_t2_ch128_heads1":              ablation(128, num_heads=1, **MULTI),
    "adm_ablation128_t2_ch128_heads2":              ablation(128, num_heads=2, **MULTI),
    "adm_ablation128_t2_ch128_heads4":              ablation(128, num_heads=4, **MULTI),
    "adm_ablation128_t2_ch128_heads8":              ablation(128, num_heads=8, **MULTI),
    "adm_ablation128_t2_ch128_headch32":            ablation(128, num_head_channels=32,  **MULTI),
    "adm_ablation128_t2_ch128_headch64":            ablation(128, num_head_channels=64,  **MULTI),
    "adm_ablation128_t2_ch128_headch128":           ablation(128, num_head_channels=128, **MULTI),
    # Table 3: AdaGN against addition and GroupNorm.
    "adm_ablation128_t3_ch128_headch64_adagn":      ablation(128, num_head_channels=64, **MULTI),
    "adm_ablation128_t3_ch128_headch64_addition_groupnorm": ablation(128, num_head_channels=64,
                                                                     use_scale_shift_norm=False, **MULTI),
}


def build(*,
    image_size              = None,      # Unused, as officially: the network takes any size.
    in_channels,
    model_channels,
    out_channels,
    num_res_blocks,
    attention_resolutions,               # Factors by which an attended level is smaller than the image.
    dropout                 = 0.0,
    channel_mult            = (1, 2, 4, 8),
    conv_resample           = True,      # Learned resampling, where blocks do not resample.
    dims                    = 2,
    num_classes             = None,      # Classes that the context may name.
    use_checkpoint          = False,     # Unused: trades time for memory, moves no number.
    use_fp16                = False,     # Unused: a precision, not an architecture.
    num_heads               = 1,
    num_head_channels       = -1,        # -1 = num_heads at every width.
    num_heads_upsample      = -1,        # -1 = num_heads.
    use_scale_shift_norm    = False,
    resblock_updown         = False,
    use_new_attention_order = False,
    context_dim             = None,      # Channels of the tokens that attention reads (LDM); ADM has none.
    network                 = PublishedDiffusionUNet,    # A class that takes its arguments.
    **options,                           # Further arguments of the class.
) -> DiffusionUNet:
    """Build ``UNetModel`` by its official constructor's arguments. Raises ValueError for other than 2-D images."""
    if dims != 2:
        raise ValueError(f"this project builds networks for 2-D images, not dims={dims}")
    factors = set(attention_resolutions)
    embedding, token_dim = condition_embedding(model_channels, True, context_dim, "attention", num_classes=num_classes)
    return network(in_channels, out_channels, [int(model_channels * mult) for mult in channel_mult], **{
        "num_blocks": num_res_blocks, "embedding": embedding, "token_dim": token_dim,
        "attention_levels": tuple(i for i in range(len(channel_mult)) if 2 ** i in factors),
        "num_heads": num_heads, "num_heads_up": num_heads_upsample if num_heads_upsample != -1 else num_heads,
        "head_channels": num_head_channels if num_head_channels != -1 else None,
        "qkv_order": "split_first" if use_new_attention_order else "heads_first",
        "down": "block" if resblock_updown else "padded_strided_conv" if conv_resample else "avg_pool",
        "up": "block" if resblock_updown else "nearest_conv" if conv_resample else "nearest",
        "time_conditioning": "scale_shift" if use_scale_shift_norm else "add_before_norm",
        "norm": "group32", "norm_eps": 1e-5, "dropout": dropout, **options})


PART = r"((?:(?:input|output)_blocks\.\d+|middle_block)\.\d+)"      # a block, an attention or a resampling
RENAMED = (
    (r"^embedding\.mlp\.",                     "time_embed."),
    (r"^embedding\.context\.",                 "label_emb."),
    (r"^encoder\.(\d+)\.parts\.",             r"input_blocks.\1."),
    (r"^middle\.parts\.",                      "middle_block."),
    (r"^decoder\.(\d+)\.parts\.",             r"output_blocks.\1."),
    (r"^head\.",                               "out."),
    # Residual blocks.
    (rf"^{PART}\.norm1\.",                     r"\1.in_layers.0."),
    (rf"^{PART}\.conv1\.",                     r"\1.in_layers.2."),
    (rf"^{PART}\.modulation\.project\.1\.",    r"\1.emb_layers.1."),
    (rf"^{PART}\.norm2\.",                     r"\1.out_layers.0."),
    (rf"^{PART}\.conv2\.",                     r"\1.out_layers.3."),
    (rf"^{PART}\.shortcut\.",                  r"\1.skip_connection."),
    # Self-attention; spatial transformers, which only LDM has.
    (rf"^{PART}\.out\.",                       r"\1.proj_out."),
    (rf"^{PART}\.enter\.",                     r"\1.proj_in."),
    (rf"^{PART}\.leave\.",                     r"\1.proj_out."),
    (rf"^{PART}\.blocks\.",                    r"\1.transformer_blocks."),
    (r"\.self_attention\.out\.",               ".attn1.to_out.0."),
    (r"\.self_attention\.([qkv])\.",           r".attn1.to_\1."),
    (r"\.cross_attention\.out\.",              ".attn2.to_out.0."),
    (r"\.cross_attention\.([qkv])\.",          r".attn2.to_\1."),
    (r"\.feed_forward\.enter\.",               ".ff.net.0.proj."),
    (r"\.feed_forward\.leave\.",               ".ff.net.2."),
    # Resampling; the first convolution has no name of its own.
    (r"^(input_blocks\.(?!0\.)\d+\.\d+)\.(weight|bias)$", r"\1.op.\2"),
    (r"^(output_blocks\.\d+\.\d+)\.1\.",     r"\1.conv."),
)


def weight_map(network: DiffusionUNet, further: tuple[tuple[str, str], ...] = ()) -> dict[str, Slot]:
    """As in ``UNetModel.state_dict()``, whose self-attention convolves where ours multiplies matrices."""
    def shape(official: str, slot: Slot) -> tuple[int, ...]:
        convolves = re.search(r"\.(qkv|proj_out|qkv_proj|c_proj)\.weight$", official) and len(slot.shape) == 2
        return (*slot.shape, 1) if convolves else slot.shape

    return {key: Slot(slot.own, shape(key, slot)) for key, slot in renamed(network, (*RENAMED, *further)).items()}
