"""Fuse LoRA files into Stable Diffusion v1 (Hu et al., arXiv 2106.09685).

A LoRA changes the weight of a layer from W to W + scale * alpha / rank * up @ down, with `down` (rank, in) and `up`
(out, rank). Files name the layers in the style of diffusers, PEFT or kohya. This module matches these names with the
model's layers itself: diffusers' loader only logs tensors that match no layer, and ignores alphas that differ between
layers.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from its.errors import UserError
from its.media.limited import read_text
from its_plugins.experts.stable_diffusion_configs import FAMILIES

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

Role = Literal["down", "up", "alpha"]

_TENSOR = re.compile(
    r"(?P<layer>.+?)"
    r"(?:\.lora_(?P<letter>A|B|down|up)(?:\.[^.]+)?|[._]lora(?:_linear_layer)?\.(?P<word>down|up))\.weight"
)
_ALPHA = re.compile(r"(?P<layer>.+?)(?:[._]lora(?:_linear_layer)?)?\.alpha")
_ROLES: dict[str, Role] = {"A": "down", "B": "up", "down": "down", "up": "up"}

_CROSS_ATTENTION = re.compile(r"attn2[._](?:processor\.)?to_[kv]$")
_TEXT_INPUT = re.compile(r"(?:^|[._])encoder[._]layers[._]\d+[._](?:self_attn[._](?:[qkv]_proj|to_[qkv])|mlp[._]fc1)$")
_OTHER_METHODS = {"hada_": "LoHa", "lokr_": "LoKr", "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA",
                  "lora_mid": "LoRA with Tucker decomposition", "oft_": "OFT"}  # fmt: skip
_PEFT = "base_model.model."
_XL = ("lora_te1_", "lora_te2_", "text_encoder_2.")
_TRANSFORMERS = ("double_blocks", "single_blocks", "single_transformer_blocks", "joint_blocks", "joint_transformer")
_TRANSFORMER_PREFIXES = ("transformer.", "lora_transformer_")


def check(
    shapes: Mapping[str, tuple[int, ...]], *, unet_config: Mapping[str, Any], text_config: Mapping[str, Any], where: str
) -> None:
    """Check that a file is a LoRA for a model, by the names and shapes of its tensors.

    Args:
        shapes: names and shapes of the file's tensors.
        unet_config: contents of the UNet's `config.json`.
        text_config: contents of the text encoder's `config.json`.
        where: name of the file, for messages.

    Raises:
        UserError: the file is not a LoRA, is incomplete, of an unsupported type, or for another architecture.
    """
    for name in shapes:
        for part, method in _OTHER_METHODS.items():
            if part in name:
                raise UserError(
                    f"{where} is a {method} ({name}), which is not supported; "
                    "expected a plain LoRA with lora_down/lora_up or lora_A/lora_B tensors"
                )
    layers, unknown = _by_layer(shapes)
    if not any({"down", "up"} & tensors.keys() for tensors in layers.values()):
        raise UserError(
            f"{where} has no LoRA tensors; expected lora_down/lora_up or lora_A/lora_B, "
            f"got {_first_names(shapes) or 'an empty file'}"
        )
    _check_architecture(shapes, layers, unet_config["cross_attention_dim"], text_config["hidden_size"], where=where)
    if unknown:
        raise UserError(f"{where} has {len(unknown)} tensors that are not part of a LoRA: {_first_names(unknown)}")
    for layer, tensors in layers.items():
        if missing := [role for role in ("down", "up") if role not in tensors]:
            raise UserError(f"{where} is incomplete: layer {layer} has no {missing[0]} tensor; get the file again")


@torch.no_grad()
def fuse(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    loras: Sequence[tuple[Mapping[str, Tensor], float]],
    where: Sequence[str],
    *,
    adapter_configs: Sequence[Mapping[str, Any] | None] | None = None,
) -> None:
    """Add LoRAs to the weights of a UNet and a text encoder, in place and in the given order.

    Sums are computed in float32 or better and rounded once to the dtype of the weights. The layers stay plain
    `nn.Linear` and `nn.Conv2d`.

    Args:
        unet: UNet in any floating-point dtype.
        text_encoder: text encoder in any floating-point dtype.
        loras: tensors by name, and scale, of each file.
        where: name of each file, for messages.
        adapter_configs: result of `adapter_config` for each file. Without it, alpha equals the rank in layers without
            an `alpha` tensor, as in diffusers.

    Raises:
        UserError: a tensor matches no layer, has another shape than its layer, or is not finite. The models are then
            unchanged.
    """
    layers = _layers_by_alias(unet, text_encoder)
    updates = [
        update
        for (tensors, scale), file, config in zip(loras, where, adapter_configs or [None] * len(loras), strict=True)
        for update in _updates(tensors, scale, layers, file, config or {})
    ]
    changes: dict[nn.Linear | nn.Conv2d, Tensor] = {}
    for module, factor, down, up in updates:
        dtype = torch.promote_types(module.weight.dtype, torch.float32)
        down, up = (half.flatten(1).to(module.weight.device, dtype) for half in (down, up))
        changes[module] = changes.get(module, torch.zeros((), dtype=dtype)) + factor * (up @ down)
    for module, change in changes.items():
        module.weight.copy_(module.weight.to(change.dtype) + change.view_as(module.weight))


def is_peft(names: Iterable[str]) -> bool:
    """Return whether tensor names are PEFT's, which stores alphas in `adapter_config.json`."""
    return any(name.startswith(_PEFT) for name in names)


def adapter_config(path: Path, peft_config: Path | None) -> dict[str, Any] | None:
    """Read the ranks and alphas that diffusers and PEFT store apart from the tensors.

    diffusers stores them in the header of the safetensors file, PEFT in `adapter_config.json` in the same folder.

    Args:
        path: path of the LoRA file.
        peft_config: path of `adapter_config.json`, or None.

    Returns:
        The settings, for `fuse`; None if the file has none.

    Raises:
        UserError: the settings are damaged, or not those of a plain LoRA.
    """
    from safetensors import safe_open

    text, source = None, path
    if path.suffix.lower() == ".safetensors":
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("lora_adapter_metadata")
    if text is None and peft_config is not None:
        text, source = read_text(peft_config), peft_config
    if text is None:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise UserError(f"{source}: the LoRA settings are not JSON: {error}; get the file again") from None
    if not isinstance(config, dict):
        raise UserError(f"{source}: the LoRA settings are a {type(config).__name__}; expected a mapping")
    for key, value in config.items():
        option = key.rpartition(".")[2]
        if (option == "peft_type" and value != "LORA") or (option == "use_dora" and value):
            raise UserError(f"{source}: {key} is {value}, which is not supported; expected a plain LoRA")
    return config


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Layer of a model that a LoRA can change."""

    prefix: Literal["unet", "text_encoder"]
    name: str
    module: nn.Linear | nn.Conv2d


def _by_layer(names: Iterable[str]) -> tuple[dict[str, dict[Role, str]], list[str]]:
    """Group tensor names by the layer's name in the file; also return the names that are not LoRA tensors."""
    layers: dict[str, dict[Role, str]] = defaultdict(dict)
    unknown = []
    for name in names:
        role: Role
        if match := _TENSOR.fullmatch(name):
            role = _ROLES[match["letter"] or match["word"]]
        elif match := _ALPHA.fullmatch(name):
            role = "alpha"
        else:
            unknown.append(name)
            continue
        if layers[match["layer"]].setdefault(role, name) != name:  # a second adapter in the same file
            unknown.append(name)
    return dict(layers), unknown


def _check_architecture(
    shapes: Mapping[str, tuple[int, ...]],
    layers: Mapping[str, Mapping[Role, str]],
    cross_attention_dim: int,
    text_width: int,
    *,
    where: str,
) -> None:
    def input_widths(pattern: re.Pattern[str]) -> dict[str, int]:
        names = [tensors["down"] for layer, tensors in layers.items() if pattern.search(layer) and "down" in tensors]
        return {name: shapes[name][1] for name in names if len(shapes[name]) > 1}

    advice = f"expected one for a model of cross-attention width {cross_attention_dim}; use a LoRA of the same family"
    widths = set(input_widths(_CROSS_ATTENTION).values())
    width = f" (cross-attention width {max(widths)})" if widths else ""
    for name in shapes:
        bare = name.removeprefix(_PEFT)
        if bare.startswith(_XL):
            raise UserError(f"{where} is a LoRA for Stable Diffusion XL{width}, since it has {name}; {advice}")
        if bare.startswith(_TRANSFORMER_PREFIXES) or any(part in bare for part in _TRANSFORMERS):
            raise UserError(f"{where} is a LoRA for Flux or another transformer, since it has {name}; {advice}")
    if widths - {cross_attention_dim}:
        raise UserError(f"{where} is a LoRA for {FAMILIES.get(max(widths), 'another model')}{width}; {advice}")
    for name, input_width in input_widths(_TEXT_INPUT).items():
        if input_width != text_width:
            raise UserError(
                f"{where} is a LoRA for a text encoder of width {input_width} ({name}), expected width {text_width}; "
                "use a LoRA of the same family"
            )


def _layers_by_alias(unet: nn.Module, text_encoder: nn.Module) -> dict[str, _Layer]:
    """Return the models' layers by all of their names in files."""
    layers: dict[str, _Layer] = {}
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            aliases = (name, f"unet.{name}", f"lora_unet_{name.replace('.', '_')}")
            layers |= dict.fromkeys(aliases, _Layer(prefix="unet", name=name, module=module))
    for name, module in text_encoder.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            layer = _Layer(prefix="text_encoder", name=name, module=module)
            bare = name.removeprefix("text_model.")  # files have this prefix, models of transformers 5 do not
            for alias in (bare, f"text_model.{bare}"):
                aliases = (alias, f"text_encoder.{alias}", f"lora_te_{alias.replace('.', '_')}")
                layers |= dict.fromkeys(aliases, layer)
    return layers


def _canonical(layer: str) -> str:
    """Remove PEFT's prefix from a layer's name, and replace names of diffusers' former attention processors."""
    layer = layer.removeprefix(_PEFT).replace(".processor.", ".")
    layer = re.sub(r"self_attn\.to_([qkv]|out)$", r"self_attn.\1_proj", layer)
    return re.sub(r"\.to_out$", ".to_out.0", layer)


def _updates(
    tensors: Mapping[str, Tensor], scale: float, layers: Mapping[str, _Layer], where: str, config: Mapping[str, Any]
) -> list[tuple[nn.Linear | nn.Conv2d, float, Tensor, Tensor]]:
    """Return (module, factor, down, up) for each layer that a file changes by factor * up @ down."""
    names_by_layer, unknown = _by_layer(tensors)
    updates: dict[nn.Module, tuple[nn.Linear | nn.Conv2d, float, Tensor, Tensor]] = {}
    for name, names in names_by_layer.items():
        layer = layers.get(_canonical(name))
        if layer is None or layer.module in updates or not {"down", "up"} <= names.keys():
            unknown += names.values()
            continue
        down, up = tensors[names["down"]], tensors[names["up"]]
        _check_shapes(layer, down, up, where=where, name=names["down"])
        alpha = tensors[names["alpha"]].item() if "alpha" in names else None
        factor = scale * _alpha_over_rank(layer, down.shape[0], alpha, config)
        if not (down.isfinite().all() and up.isfinite().all() and math.isfinite(factor)):
            raise UserError(f"{where}: the tensors of {name} have values that are not finite; get the file again")
        updates[layer.module] = layer.module, factor, down, up
    if unknown:
        raise UserError(
            f"{where}: {len(unknown)} tensors match no layer of this model: {_first_names(unknown)}; "
            "use a LoRA for Stable Diffusion v1"
        )
    return list(updates.values())


def _check_shapes(layer: _Layer, down: Tensor, up: Tensor, *, where: str, name: str) -> None:
    weight, rank = layer.module.weight, down.shape[0]
    fits = (
        down.shape[:2] == (rank, weight.shape[1])
        and down.numel() == rank * weight[0].numel()
        and up.shape[:2] == (weight.shape[0], rank)
        and up.numel() == weight.shape[0] * rank
    )
    if not fits:
        raise UserError(
            f"{where}: {name} has shape {tuple(down.shape)} and its counterpart {tuple(up.shape)}, expected "
            f"{(rank, *weight.shape[1:])} and {(weight.shape[0], rank)} for the layer {layer.name}; "
            "use a LoRA for Stable Diffusion v1"
        )


def _alpha_over_rank(layer: _Layer, rank: int, alpha: float | None, config: Mapping[str, Any]) -> float:
    """Return alpha / rank. Alpha is read from its tensor or else from the settings, and defaults to the rank."""

    def option(name: str) -> Any:
        return config.get(f"{layer.prefix}.{name}", config.get(name))

    if alpha is None:
        patterns = (option("alpha_pattern") or {}).items()
        matches = [value for pattern, value in patterns if re.fullmatch(rf"(.*\.)?({pattern})", layer.name)]
        alpha = matches[0] if matches else option("lora_alpha")
    if alpha is None:
        return 1.0
    return alpha / (rank**0.5 if option("use_rslora") else rank)


def _first_names(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
