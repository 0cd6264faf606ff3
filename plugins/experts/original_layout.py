"""Convert tensor names of diffusers and transformers to Stable Diffusion v1's original layout.

Single-file checkpoints have the original layout, which comes from CompVis's latent diffusion code.
`its_plugins.experts.single_file` uses these names to check files, and tests to write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

Component = Literal["unet", "vae", "text_encoder"]

PREFIXES: dict[Component, str] = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}

_UNET_LAYERS = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
                "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}  # fmt: skip
_UNET_RESIDUAL = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
                  "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
_UNET_MIDDLE = {("resnets", 0): 0, ("attentions", 0): 1, ("resnets", 1): 2}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def original_name(name: str, part: Component, config: Mapping[str, Any]) -> str:
    """Return the name of a tensor in the original layout.

    Args:
        name: its name in `UNet2DConditionModel`, `AutoencoderKL` or `CLIPTextModel`.
        part: the model.
        config: contents of the model's `config.json`.
    """
    layer, _, kind = name.rpartition(".")
    if part == "unet":
        return f"{PREFIXES[part]}{_unet_layer(layer, config)}.{kind}"
    if part == "vae":
        return f"{PREFIXES[part]}{_vae_layer(layer, len(config['block_out_channels']))}.{kind}"
    return f"{PREFIXES[part]}text_model.{name.removeprefix('text_model.')}"


def original_layout(tensors: Mapping[str, Tensor], part: Component, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert a state dict to the original layout, in which the VAE's attention consists of 1 x 1 convolutions.

    Args:
        tensors: state dict of the model.
        part: the model.
        config: contents of the model's `config.json`.
    """
    renamed = {}
    for name, tensor in tensors.items():
        is_matrix = part == "vae" and ".attentions." in name and tensor.ndim == 2
        renamed[original_name(name, part, config)] = tensor[:, :, None, None] if is_matrix else tensor
    return renamed


def _unet_layer(layer: str, config: Mapping[str, Any]) -> str:
    if layer in _UNET_LAYERS:
        return _UNET_LAYERS[layer]
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", layer):
        kind, index, rest = match[1], int(match[2]), match[3]
        return f"middle_block.{_UNET_MIDDLE[kind, index]}.{_UNET_RESIDUAL.get(rest, rest)}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", layer)
    if match is None:
        return layer
    direction, block, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    size = config["layers_per_block"] + 1  # going down: residual blocks and a downsampler; going up: residual blocks
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * size}.0.op"
    if kind == "upsamplers":
        has_attention = "CrossAttn" in config["up_block_types"][block]
        return f"output_blocks.{block * size + size - 1}.{2 if has_attention else 1}.conv"
    number = block * size + index
    stem = f"input_blocks.{1 + number}" if direction == "down" else f"output_blocks.{number}"
    return f"{stem}.0.{_UNET_RESIDUAL[rest]}" if kind == "resnets" else f"{stem}.1.{rest}"


def _vae_layer(layer: str, levels: int) -> str:
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)", layer):
        return f"{match[1]}.mid.attn_1.{_VAE_ATTENTION[match[2]]}"
    layer = layer.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    layer = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", layer)
    layer = re.sub(r"down_blocks\.(\d+)", r"down.\1", layer)
    layer = re.sub(
        r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", layer
    )  # counts from the lowest resolution
    return re.sub(r"(down|up)samplers\.0", r"\1sample", layer).replace(".resnets.", ".block.")
