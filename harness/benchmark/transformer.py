"""diffusers' DiTTransformer2DModel against ``dit`` with the same weights: training step and inference."""

from __future__ import annotations

from functools import partial

import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import get_timestep_embedding

import variants
from harness.benchmark.contest import BenchmarkOptions
from harness.benchmark.denoiser import thirds
from harness.benchmark.result import Contest
from harness.benchmark.same_network import Pair, agreement, inference, training
from variants.dit import DiT
from variants.presets.weights import Slot, fill, renamed

# Heads of 64 channels, patches of 2 and 256 tokens, as DiT-S/2 has them on 256 x 256; half as deep, two thirds as wide.
NETWORK = {"num_attention_heads": 4, "attention_head_dim": 64, "num_layers": 6, "in_channels": 3, "sample_size": 32,
           "patch_size": 2, "num_embeds_ada_norm": 10, "norm_eps": 1e-6}
BATCH_SIZE = 16
SECONDS = {"training": 40.0, "inference": 15.0}
GOALS: dict[str, float] = {}

RENAMED = (
    (r"^positions$",                           "pos_embed.pos_embed"),
    (r"^patches\.",                            "pos_embed.proj."),
    (r"^embedding\.mlp\.0\.",                  "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1."),
    (r"^embedding\.mlp\.2\.",                  "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2."),
    (r"^embedding\.context\.",                 "transformer_blocks.0.norm1.emb.class_embedder.embedding_table."),
    (r"^modulation\.project\.",                "proj_out_1."),
    (r"^head\.",                               "proj_out_2."),
    (r"^blocks\.(\d+)\.modulation\.project\.", r"transformer_blocks.\1.norm1.linear."),
    (r"^blocks\.(\d+)\.out\.",                 r"transformer_blocks.\1.attn1.to_out.0."),
    (r"^blocks\.(\d+)\.mlp\.0\.",              r"transformer_blocks.\1.ff.net.0.proj."),
    (r"^blocks\.(\d+)\.mlp\.2\.",              r"transformer_blocks.\1.ff.net.2."),
)
EMBEDDING = ".norm1.emb."                          # of time step and class: a copy in every block, all of them computed


def run(asked: BenchmarkOptions, network: dict | None = None, batch_size: int = BATCH_SIZE) -> Contest:
    """The contest; the rest are the sizes, which tests make smaller (``network``: of the diffusers class)."""
    config = network or NETWORK
    pair = make_pair(config, batch_size)
    trials = []
    for compiled in asked.ways:
        trials += [training(pair, asked, SECONDS["training"], GOALS, compiled),
                   inference(pair, asked, SECONDS["inference"], GOALS, compiled)]
    return Contest(
        name="transformer", trials=trials, checks=agreement(pair, asked),
        setting=f"DiTTransformer2DModel(num_layers={config['num_layers']}, num_attention_heads="
                f"{config['num_attention_heads']}, attention_head_dim={config['attention_head_dim']}, patch_size="
                f"{config['patch_size']}, ...) of diffusers and `dit` of this project, filled with its weights; "
                f"images of {' x '.join(map(str, pair.image))}, batches of {batch_size}. diffusers keeps and computes "
                "the embedding of time step and class anew in every block; `dit` has one, as DiT's own code: that is "
                "the difference in parameters. They were made equal here.")


def make_pair(config: dict, batch_size: int) -> Pair:
    """Both implementations of ``DiTTransformer2DModel(**config)``, whose blocks are given one embedding."""
    def theirs() -> DiTTransformer2DModel:
        torch.manual_seed(0)
        network = DiTTransformer2DModel(**config)
        for block in network.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(network.transformer_blocks[0].norm1.emb.state_dict())
        return network

    peer = theirs()
    weights = {name: tensor for name, tensor in (*peer.state_dict().items(), *peer.named_buffers())
               if EMBEDDING not in name or name.startswith("transformer_blocks.0.")}

    def ours() -> DiT:
        network = variants.build("dit", **our_arguments(config))
        # DiT's own code has the sinusoids of ADM; diffusers gives it those of DDPM, whose last is 1 / 10 000.
        network.embedding.sinusoids = partial(get_timestep_embedding, embedding_dim=256, flip_sin_to_cos=True,
                                              downscale_freq_shift=1)
        fill(network, weights, slots(network))
        return network

    return Pair("diffusers", ours, theirs,
                lambda network, x, t, context: network(x, timestep=t, class_labels=context).sample,
                (config["in_channels"], config["sample_size"], config["sample_size"]), batch_size,
                classes=config["num_embeds_ada_norm"])


def our_arguments(config: dict) -> dict:
    """Of ``variants.dit.build``: the network that diffusers builds from ``config`` and its own defaults."""
    return {"in_channels": config["in_channels"], "out_channels": config["in_channels"],
            "image_size": config["sample_size"], "input_size": config["sample_size"], "time": True,
            "patch_size": config["patch_size"], "depth": config["num_layers"],
            "num_heads": config["num_attention_heads"],
            "hidden_size": config["num_attention_heads"] * config["attention_head_dim"],
            "num_classes": config["num_embeds_ada_norm"]}


def slots(network: DiT) -> dict[str, Slot]:
    """Where every tensor of the diffusers class's state dict goes, its blocks' repeated embeddings left out."""
    found = {name: slot for name, slot in renamed(network, RENAMED).items() if ".qkv." not in name}
    for i in range(len(network.blocks)):
        found |= thirds(network, f"blocks.{i}", f"transformer_blocks.{i}.attn1")
    return found
