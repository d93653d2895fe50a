"""What the original codes of transformers call the layers that diffusers renamed or took apart.

By which ComfyUI, sd-scripts, musubi-tuner and ai-toolkit read and write adapters; as diffusers'
converters of such files have it (its `loaders.lora_conversion_utils` and
`scripts/convert_sd3_to_diffusers`). A name may be that of several layers, one above the other:
`qkv` of three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Share(NamedTuple):
    """Which part of the rows of the layer of that name a layer of diffusers is."""

    name: str
    at: int = 0
    of: int = 1
    is_turned: bool = False  # where its two halves have changed places


Names = tuple[tuple[re.Pattern[str], str], ...]


def _names(*pairs: tuple[str, str]) -> Names:
    return tuple((re.compile(pattern), name) for pattern, name in pairs)


# What diffusers calls a layer, and the original code; q is one of three that are one there.
BLOCK, SINGLE = r"transformer_blocks\.(\d+)\.", r"single_transformer_blocks\.(\d+)\."
SD3 = _names(
    (BLOCK + r"attn(2?)\.to_(?P<q>[qkv])", r"joint_blocks.\1.x_block.attn\2.qkv"),
    (BLOCK + r"attn\.add_(?P<q>[qkv])_proj", r"joint_blocks.\1.context_block.attn.qkv"),
    (BLOCK + r"attn(2?)\.to_out\.0", r"joint_blocks.\1.x_block.attn\2.proj"),
    (BLOCK + r"attn\.to_add_out", r"joint_blocks.\1.context_block.attn.proj"),
    (BLOCK + r"ff\.net\.0\.proj", r"joint_blocks.\1.x_block.mlp.fc1"),
    (BLOCK + r"ff\.net\.2", r"joint_blocks.\1.x_block.mlp.fc2"),
    (BLOCK + r"ff_context\.net\.0\.proj", r"joint_blocks.\1.context_block.mlp.fc1"),
    (BLOCK + r"ff_context\.net\.2", r"joint_blocks.\1.context_block.mlp.fc2"),
    (BLOCK + r"norm1\.linear", r"joint_blocks.\1.x_block.adaLN_modulation.1"),
    (BLOCK + r"norm1_context\.linear", r"joint_blocks.\1.context_block.adaLN_modulation.1"),
)
FLUX2 = _names(
    (BLOCK + r"attn\.to_(?P<q>[qkv])", r"double_blocks.\1.img_attn.qkv"),
    (BLOCK + r"attn\.add_(?P<q>[qkv])_proj", r"double_blocks.\1.txt_attn.qkv"),
    (BLOCK + r"attn\.to_out\.0", r"double_blocks.\1.img_attn.proj"),
    (BLOCK + r"attn\.to_add_out", r"double_blocks.\1.txt_attn.proj"),
    (BLOCK + r"ff\.linear_in", r"double_blocks.\1.img_mlp.0"),
    (BLOCK + r"ff\.linear_out", r"double_blocks.\1.img_mlp.2"),
    (BLOCK + r"ff_context\.linear_in", r"double_blocks.\1.txt_mlp.0"),
    (BLOCK + r"ff_context\.linear_out", r"double_blocks.\1.txt_mlp.2"),
    (SINGLE + r"attn\.to_qkv_mlp_proj", r"single_blocks.\1.linear1"),
    (SINGLE + r"attn\.to_out", r"single_blocks.\1.linear2"),
    (r"(single_stream_modulation|double_stream_modulation_(?:img|txt))\.linear", r"\1.lin"),
    (r"x_embedder", "img_in"),
    (r"context_embedder", "txt_in"),
    (r"time_guidance_embed\.timestep_embedder\.linear_1", "time_in.in_layer"),
    (r"time_guidance_embed\.timestep_embedder\.linear_2", "time_in.out_layer"),
    (r"time_guidance_embed\.guidance_embedder\.linear_1", "guidance_in.in_layer"),
    (r"time_guidance_embed\.guidance_embedder\.linear_2", "guidance_in.out_layer"),
    (r"proj_out", "final_layer.linear"),
)
ZIMAGE = _names(
    (r"(.+\.attention)\.to_(?P<q>[qkv])", r"\1.qkv"),
    (r"(.+\.attention)\.to_out\.0", r"\1.out"),
    (r"all_x_embedder\.2-1", "x_embedder"),
    (r"all_final_layer\.2-1\.(linear|adaLN_modulation\.1)", r"final_layer.\1"),
)
KREA_BLOCKS = (
    (BLOCK, r"blocks.\1."),
    (r"text_fusion\.((?:layerwise|refiner)_blocks\.\d+)\.", r"txtfusion.\1."),
)
KREA2 = _names(
    *(
        (ours + layer, theirs + name)
        for ours, theirs in KREA_BLOCKS
        for layer, name in (
            (r"attn\.to_([qkv])", r"attn.w\2"),
            (r"attn\.to_out\.0", "attn.wo"),
            (r"attn\.to_gate", "attn.gate"),
            (r"ff\.(gate|up|down)", r"mlp.\2"),
        )
    ),
    (r"img_in", "first"),
    (r"final_layer\.linear", "last.linear"),
    (r"time_embed\.linear_1", "tmlp.0"),
    (r"time_embed\.linear_2", "tmlp.2"),
    (r"time_mod_proj", "tproj.1"),
    (r"txt_in\.linear_1", "txtmlp.1"),
    (r"txt_in\.linear_2", "txtmlp.3"),
    (r"text_fusion\.projector", "txtfusion.projector"),
)
ANIMA = _names(
    (BLOCK + r"attn1\.to_([qkv])", r"blocks.\1.self_attn.\2_proj"),
    (BLOCK + r"attn2\.to_([qkv])", r"blocks.\1.cross_attn.\2_proj"),
    (BLOCK + r"attn1\.to_out\.0", r"blocks.\1.self_attn.output_proj"),
    (BLOCK + r"attn2\.to_out\.0", r"blocks.\1.cross_attn.output_proj"),
    (BLOCK + r"ff\.net\.0\.proj", r"blocks.\1.mlp.layer1"),
    (BLOCK + r"ff\.net\.2", r"blocks.\1.mlp.layer2"),
    (BLOCK + r"norm1\.linear_([12])", r"blocks.\1.adaln_modulation_self_attn.\2"),
    (BLOCK + r"norm2\.linear_([12])", r"blocks.\1.adaln_modulation_cross_attn.\2"),
    (BLOCK + r"norm3\.linear_([12])", r"blocks.\1.adaln_modulation_mlp.\2"),
    (r"norm_out\.linear_([12])", r"final_layer.adaln_modulation.\1"),
    (r"time_embed\.t_embedder\.(.+)", r"t_embedder.1.\1"),
    (r"patch_embed\.proj", "x_embedder.proj.1"),
    (r"proj_out", "final_layer.linear"),
)
EVERY = (SD3, FLUX2, ZIMAGE, KREA2, ANIMA)
TURNED = ".norm1_context.linear"  # in SD 3's last block


def called(names: Names, layer: str) -> Share:
    """What one original code calls a layer; by its own name where that stayed."""
    return _called(names, layer) or Share(layer)


def original_names(layer: str, rows: int, columns: int) -> Iterator[Share]:
    """The names of a transformer's layer, with weights (rows, columns), in all original codes.

    What no layer of a base is called by is asked of none, so they stand side by side.
    """
    for names in EVERY:
        if share := _called(names, layer):
            yield share._replace(is_turned=layer.endswith(TURNED) and rows == 2 * columns)


def _called(names: Names, layer: str) -> Share | None:
    for pattern, name in names:
        if found := pattern.fullmatch(layer):
            letter = found.groupdict().get("q")
            at, of = ("qkv".index(letter), 3) if letter else (0, 1)
            return Share(found.expand(name), at, of)
    return None
