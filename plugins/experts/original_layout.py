"""Tensor names of Stable Diffusion v1's original layout, given those of diffusers and transformers.

Single-file checkpoints use the original layout, of the latent diffusion code by CompVis.
`its_plugins.experts.single_file` reads them; these names serve its messages, and files for tests.
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

_UNET_LAYERS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_MIDDLE = {("resnets", 0): 0, ("attentions", 0): 1, ("resnets", 1): 2}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def original_name(name: str, part: Component, config: Mapping[str, Any]) -> str:
    """The name that a tensor has in the original layout.

    Args:
        name: its name in `UNet2DConditionModel`, `AutoencoderKL` or `CLIPTextModel`.
        part: which of these models.
        config: contents of the model's `config.json`.
    """
    layer, _, kind = name.rpartition(".")
    if part == "unet":
        return f"{PREFIXES[part]}{_unet_layer(layer, config)}.{kind}"
    if part == "vae":
        return f"{PREFIXES[part]}{_vae_layer(layer, len(config['block_out_channels']))}.{kind}"
    return f"{PREFIXES[part]}text_model.{name.removeprefix('text_model.')}"


def original_layout(tensors: Mapping[str, Tensor], part: Component, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename, and in the VAE's attention reshape, the tensors of a model as a single-file checkpoint has them.

    Args:
        tensors: the model's state dict.
        part: which model.
        config: contents of the model's `config.json`.
    """
    named = {}
    for name, tensor in tensors.items():
        matrix = part == "vae" and ".attentions." in name and tensor.ndim == 2
        named[original_name(name, part, config)] = tensor[:, :, None, None] if matrix else tensor
    return named


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
    rows = config["layers_per_block"] + 1  # residual blocks of a level, and the change of resolution going down
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * rows}.0.op"
    if kind == "upsamplers":
        attends = "CrossAttn" in config["up_block_types"][block]
        return f"output_blocks.{block * rows + rows - 1}.{2 if attends else 1}.conv"
    stem = (
        f"input_blocks.{1 + block * rows + index}" if direction == "down" else f"output_blocks.{block * rows + index}"
    )
    return f"{stem}.0.{_UNET_RESIDUAL[rest]}" if kind == "resnets" else f"{stem}.1.{rest}"


def _vae_layer(layer: str, levels: int) -> str:
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)", layer):
        return f"{match[1]}.mid.attn_1.{_VAE_ATTENTION[match[2]]}"
    layer = layer.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    layer = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", layer)
    layer = re.sub(r"down_blocks\.(\d+)", r"down.\1", layer)
    layer = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", layer)  # numbered from below
    return re.sub(r"(down|up)samplers\.0", r"\1sample", layer).replace(".resnets.", ".block.")
