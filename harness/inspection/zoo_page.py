"""The zoo against the literature: ``python bench.py page zoo`` writes results/zoo/.

Every row of tests/reference/counts.json (counted on official code) beside the preset that claims to be it,
built and counted on the meta device at the row's input shape.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.measurement.network import layers, subject
from variants import presets

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "tests" / "reference" / "counts.json"
PAGE = ROOT / "results" / "zoo"

# A preset carries its row's name in lower case, without the image's size; where it does not, these rules apply.
PRESET_OF = (
    (r"DiT-(\w+)_(\d)",                                      r"dit_\1_\2_256"),
    (r"DiT-XL_2_512",                                        r"dit_xl_2_512"),
    (r"DiT-XL_2_block_(\w+)_ownrebuild",                     r"dit_xl_2_256_\1"),
    (r"DiT-XL_2_block_cross_ownrebuild",                     r"dit_xl_2_256_cross_attention"),
    (r"DiT-XL_2_block_in-context_ownrebuild",                r"dit_xl_2_256_in_context"),
    (r"ldm_firststage_(kl|vq)-(f\d+)_256",                   r"vae_\1_\2"),
    (r"ldm_firststage_vq-f4-noattn_256",                     r"vae_vq_f4_no_attn"),
    (r"ldm_firststage_vq-f8-n256_256",                       r"vae_vq_f8_n256"),
    (r"sd_vae_autoencoderkl_f8_[a-z-]+_\d+",                 r"vae_sd_v1"),
    (r"sd_vae_(encoder|decoder)_only_[a-z-]+_\d+",           r"vae_sd_v1_\1"),
)
NOT_BUILT = (
    (r"(att)?unet3d_.*",           "takes volumes; this project builds networks for images"),
)
NO_PRESET = "no preset has its name"


@dataclass(frozen=True)
class Comparison:
    """One row: what was counted on official code, and what is counted here (None where it is not built)."""

    row: dict
    preset: str | None
    parameters: int | None = None
    trainable: int | None = None
    macs: int | None = None
    why_not: str = ""

    @property
    def exact(self) -> bool:
        row = self.row
        return (self.parameters, self.trainable, self.macs) == (row["params"], row["trainable_params"], row["macs"])


def reference_rows() -> list[dict]:
    return json.loads(REFERENCE.read_bytes())


def preset_of(row_name: str) -> str | None:
    """The preset that claims to be a row, or None."""
    known = {name.lower(): name for name in presets.names()}
    candidates = [re.sub(rule, to, row_name) for rule, to in PRESET_OF if re.fullmatch(rule, row_name)]
    candidates += [row_name, re.sub(r"_\d+$", "", row_name)]
    return next((known[name.lower()] for name in candidates if name.lower() in known), None)


def reason(row_name: str) -> str:
    """Why a row is not built, where that is meant to be so; otherwise ""."""
    return next((why for rule, why in NOT_BUILT if re.fullmatch(rule, row_name)), "")


def compare(row: dict) -> Comparison:
    """Build and count the row's preset, at the row's input."""
    name = preset_of(row["name"])
    if name is None:
        return Comparison(row, None, why_not=reason(row["name"]) or NO_PRESET)
    built = subject(name)
    whole = layers(built.network, row_inputs(row, built.inputs), name)[0]
    return Comparison(row, name, whole.parameters, whole.trainable, whole.macs)


def row_inputs(row: dict, example: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """A preset's own ``example`` inputs with the row's image size and tokens.

    The row gives the official wrapper's inputs, which may do without what the network takes: the labels of a
    class-conditional one, or the small image that an upsampler finds behind the noisy one.
    """
    shapes = row["input_shape"] if isinstance(row["input_shape"][0], list) else [row["input_shape"]]
    x, *rest = example
    x = x.new_empty((*x.shape[:2], *shapes[0][2:]))
    if len(shapes) > 2 and len(shapes[2]) == 3 and all(shapes[2]):
        rest = [rest[0], torch.empty(shapes[2], device="meta")]
    return x, *rest


def published(row: dict) -> str:
    """What the paper or repository itself says of size and cost, as it says it: "130 M; 23.01 G"."""
    said = row.get("published", {})
    parameters = str(said.get("params") or "") or (f"{said['params_M']} M" if said.get("params_M") else "")
    number, _, remark = str(said.get("gflops") or "").partition(" ")
    return "; ".join(part for part in (parameters, f"{number} G {remark}".strip() if number else "") if part)


def shown(row: dict) -> str:
    shapes = row["input_shape"] if isinstance(row["input_shape"][0], list) else [row["input_shape"]]
    return "x".join(map(str, shapes[0][1:]))


def as_line(one: Comparison) -> dict[str, object]:
    """A line of counts.csv."""
    row, said = one.row, one.row.get("published", {})
    return {"family": row["family"], "network": row["name"], "preset": one.preset or "", "input": shown(row),
            "parameters": one.parameters, "reference_parameters": row["params"],
            "trainable": one.trainable, "reference_trainable": row["trainable_params"],
            "macs": one.macs, "reference_macs": row["macs"],
            "published": published(row), "citation": said.get("citation", ""),
            "published_status": said.get("status", ""),
            "source": f"{row['source_repo']} {row['source_path']}", "why_not": one.why_not}


def write_csv(path: Path, compared: list[Comparison]) -> None:
    lines = [as_line(one) for one in compared]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def page(compared: list[Comparison]) -> str:
    """The page in Markdown: a summary, then a table for each family."""
    built = [one for one in compared if one.preset]
    exact = [one for one in built if one.exact]
    lines = [
        "# The zoo against the literature", "",
        "Generated by `python bench.py page zoo`; the numbers are in `counts.csv`, too. "
        "*Reference* is counted on the official code (`tests/reference/`), *ours* on the preset built from this "
        "project's parts, both with `torch.utils.flop_counter` on the meta device at the given image. MACs are half "
        "the FLOPs. *Published* is what the paper or repository says, in its own rounding and convention (\"G\" means "
        "10^9 MACs in most papers here); how sure we are of it is in `counts.csv`.", "",
        f"**{len(exact)} of {len(built)} rows that are built are equal in parameters, trainable parameters and MACs; "
        f"{len(compared) - len(built)} rows are not built.**", ""]
    for family in dict.fromkeys(one.row["family"] for one in compared):
        of_family = [one for one in compared if one.row["family"] == family]
        built_here = [one for one in of_family if one.preset]
        lines += [f"## {family}", ""]
        if built_here:
            lines += ["| network | preset | image | parameters | difference | MACs | difference | published |",
                      "|---|---|---|---:|---:|---:|---:|---|", *map(line, built_here), ""]
        missing = [one for one in of_family if not one.preset]
        lines += [*(f"- Not built: `{one.row['name']}` ({one.row['params']:,} parameters, {one.row['macs']:,} MACs): "
                    f"{one.why_not}." for one in missing), *([""] if missing else [])]
    return "\n".join(lines).rstrip() + "\n"


def line(one: Comparison) -> str:
    row = one.row
    cells = [row["name"], f"`{one.preset}`", shown(row)]
    for ours, theirs in ((one.parameters, row["params"]), (one.macs, row["macs"])):
        cells += [f"{ours:,}", "0" if ours == theirs else f"{ours - theirs:+,}"]
    figure, citation = published(row), row.get("published", {}).get("citation", "")
    cells.append(f"{figure}; {citation}" if figure and citation else figure)
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def main(folder: Path = PAGE) -> None:
    """Write README.md and counts.csv into ``folder``."""
    torch.set_num_threads(1)
    compared = [compare(row) for row in reference_rows()]
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "counts.csv", compared)
    (folder / "README.md").write_text(page(compared), encoding="utf-8")
    print(f"{folder}: {sum(one.exact for one in compared)} of {len(compared)} rows equal")
