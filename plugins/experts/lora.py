"""Fuse LoRA files into Stable Diffusion v1 (Hu et al., arXiv 2106.09685).

A LoRA changes the weight of a layer from W to W + scale * alpha / rank * up @ down, with `down` (rank, in) and `up`
(out, rank). Files name the layers in the style of diffusers, PEFT or kohya. Their names are matched with the model's
own layers here, since diffusers' loader only logs tensors that it cannot place and drops alphas that differ between
layers.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
    """Check that a file is a LoRA for this model, from tensor names and shapes alone.

    Args:
        shapes: names and shapes of the file's tensors.
        unet_config: contents of the UNet's `config.json`.
        text_config: contents of the text encoder's `config.json`.
        where: the file, for messages.

    Raises:
        UserError: the file holds no LoRA, an incomplete one, one of an unsupported kind, or one for another
            architecture.
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
            f"{where} holds no LoRA tensors; expected lora_down/lora_up or lora_A/lora_B, "
            f"got {_listed(shapes) or 'an empty file'}"
        )
    _check_family(shapes, layers, unet_config=unet_config, text_config=text_config, where=where)
    if unknown:
        raise UserError(f"{where} holds {len(unknown)} tensors that are not part of a LoRA: {_listed(unknown)}")
    for layer, tensors in layers.items():
        if lacking := [role for role in ("down", "up") if role not in tensors]:
            raise UserError(f"{where} is incomplete: layer {layer} has no {lacking[0]} tensor; get the file again")


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

    Sums are computed at least in float32 and rounded once to the dtype of the weights. The layers stay plain
    `nn.Linear` and `nn.Conv2d`.

    Args:
        unet: in any floating-point dtype.
        text_encoder: likewise.
        loras: the tensors of each file, by name, and its scale.
        where: the file of each LoRA, for messages.
        adapter_configs: result of `adapter_config` for each file. Without one, a layer that has no `alpha` tensor gets
            alpha = rank, as in diffusers.

    Raises:
        UserError: a tensor has no place in these models, has another shape than its layer, or is not finite. The
            models are unchanged then.
    """
    configs = adapter_configs if adapter_configs is not None else [None] * len(loras)
    places = _places(unet, text_encoder)
    updates = [
        _updates(tensors, scale, places, file, config)
        for (tensors, scale), file, config in zip(loras, where, configs, strict=True)
    ]
    changes: dict[nn.Linear | nn.Conv2d, Tensor] = {}
    for update in chain.from_iterable(updates):
        layer, dtype = update.place.module, torch.promote_types(update.place.module.weight.dtype, torch.float32)
        down, up = (half.flatten(1).to(layer.weight.device, dtype) for half in (update.down, update.up))
        changes[layer] = changes.get(layer, torch.zeros((), dtype=dtype)) + update.factor * (up @ down)
    for layer, change in changes.items():
        layer.weight.copy_(layer.weight.to(change.dtype) + change.view_as(layer.weight))


def is_peft(names: Iterable[str]) -> bool:
    """Whether tensors are named as PEFT saves them; their alphas are in `adapter_config.json` then."""
    return any(name.startswith(_PEFT) for name in names)


def adapter_config(path: Path, beside: Path | None) -> dict[str, Any] | None:
    """Read the ranks and alphas that diffusers and PEFT store beside the tensors.

    diffusers stores them in the header of the safetensors file, PEFT in `adapter_config.json` in the same folder.

    Args:
        path: a LoRA file.
        beside: PEFT's settings; None without.

    Returns:
        The settings, for `fuse`; None if there are none.

    Raises:
        UserError: the settings are damaged, or not those of a plain LoRA.
    """
    from safetensors import safe_open

    text, source = None, path
    if path.suffix.lower() == ".safetensors":
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("lora_adapter_metadata")
    if text is None and beside is not None:
        text, source = read_text(beside), beside
    if text is None:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise UserError(f"{source}: the LoRA settings are not JSON: {error}; get the file again") from None
    if not isinstance(config, dict):
        raise UserError(f"{source}: the LoRA settings are a {type(config).__name__}, expected keys and values")
    for key, value in config.items():
        option = key.rpartition(".")[2]
        if (option == "peft_type" and value != "LORA") or (option == "use_dora" and value):
            raise UserError(f"{source}: {key} is {value}, which is not supported; expected a plain LoRA")
    return config


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A layer of a model that a LoRA can change."""

    prefix: Literal["unet", "text_encoder"]
    name: str
    module: nn.Linear | nn.Conv2d


@dataclass(frozen=True, kw_only=True)
class _Update:
    """The change of one layer: `factor * up @ down`."""

    place: _Place
    down: Tensor
    up: Tensor
    factor: float


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


def _check_family(
    shapes: Mapping[str, tuple[int, ...]],
    layers: Mapping[str, Mapping[Role, str]],
    *,
    unet_config: Mapping[str, Any],
    text_config: Mapping[str, Any],
    where: str,
) -> None:
    cross = unet_config["cross_attention_dim"]
    expected = set(cross) if isinstance(cross, list | tuple) else {cross}
    advice = f"expected one for a model of cross-attention width {min(expected)}; use a LoRA of the same model family"
    found = {
        shapes[tensors["down"]][1]
        for layer, tensors in layers.items()
        if _CROSS_ATTENTION.search(layer) and "down" in tensors and len(shapes[tensors["down"]]) > 1
    }
    width = f" (cross-attention width {max(found)})" if found else ""
    for name in shapes:
        bare = name.removeprefix(_PEFT)
        if bare.startswith(_XL):
            raise UserError(f"{where} is a LoRA for Stable Diffusion XL{width}, since it holds {name}; {advice}")
        if bare.startswith(_TRANSFORMER_PREFIXES) or any(part in bare for part in _TRANSFORMERS):
            raise UserError(f"{where} is a LoRA for Flux or another transformer, since it holds {name}; {advice}")
    if found - expected:
        family = FAMILIES.get(max(found), "another model")
        raise UserError(f"{where} is a LoRA for {family}{width}; {advice}")
    hidden = text_config["hidden_size"]
    for layer, tensors in layers.items():
        if _TEXT_INPUT.search(layer) and "down" in tensors:
            shape = shapes[tensors["down"]]
            if len(shape) > 1 and shape[1] != hidden:
                raise UserError(
                    f"{where} is a LoRA for a text encoder of width {shape[1]} ({tensors['down']}), "
                    f"expected width {hidden}; use a LoRA of the same model family"
                )


def _places(unet: nn.Module, text_encoder: nn.Module) -> dict[str, _Place]:
    """Layers by each name that files use for them."""
    places = {}
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            place = _Place(prefix="unet", name=name, module=module)
            for alias in (name, f"unet.{name}", f"lora_unet_{name.replace('.', '_')}"):
                places[alias] = place
    for name, module in text_encoder.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            place = _Place(prefix="text_encoder", name=name, module=module)
            bare = name.removeprefix("text_model.")  # transformers 5 has no such prefix, files have
            for alias in (bare, f"text_model.{bare}"):
                for full in (alias, f"text_encoder.{alias}", f"lora_te_{alias.replace('.', '_')}"):
                    places[full] = place
    return places


def _canonical(layer: str) -> str:
    """The layer's name without PEFT's prefix and without the names of diffusers' former attention processors."""
    layer = layer.removeprefix(_PEFT).replace(".processor.", ".")
    if "self_attn." in layer:
        layer = re.sub(r"self_attn\.to_([qkv]|out)$", r"self_attn.\1_proj", layer)
    return re.sub(r"\.to_out$", ".to_out.0", layer)


def _updates(
    tensors: Mapping[str, Tensor],
    scale: float,
    places: Mapping[str, _Place],
    where: str,
    config: Mapping[str, Any] | None,
) -> list[_Update]:
    layers, unknown = _by_layer(tensors)
    updates: dict[int, _Update] = {}
    for layer, names in layers.items():
        place = places.get(_canonical(layer))
        if place is None or id(place.module) in updates or not {"down", "up"} <= names.keys():
            unknown += names.values()
            continue
        down, up = tensors[names["down"]], tensors[names["up"]]
        _check_shapes(place, down, up, where=where, name=names["down"])
        alpha = tensors[names["alpha"]].item() if "alpha" in names else None
        factor = scale * _strength(place, down.shape[0], alpha, config or {})
        if not (down.isfinite().all() and up.isfinite().all() and math.isfinite(factor)):
            raise UserError(f"{where}: the tensors of {layer} hold values that are not finite; get the file again")
        updates[id(place.module)] = _Update(place=place, down=down, up=up, factor=factor)
    if unknown:
        raise UserError(
            f"{where}: {len(unknown)} tensors have no place in this model: {_listed(unknown)}; "
            "use a LoRA that was made for Stable Diffusion v1"
        )
    return list(updates.values())


def _check_shapes(place: _Place, down: Tensor, up: Tensor, *, where: str, name: str) -> None:
    weight = place.module.weight
    rank, kernel = down.shape[0], tuple(weight.shape[2:])
    fits = (
        tuple(down.shape[:2]) == (rank, weight.shape[1])
        and down.numel() == rank * weight[0].numel()
        and tuple(up.shape[:2]) == (weight.shape[0], rank)
        and up.numel() == weight.shape[0] * rank
    )
    if not fits:
        raise UserError(
            f"{where}: {name} has shape {tuple(down.shape)} and its counterpart {tuple(up.shape)}, expected "
            f"{(rank, weight.shape[1], *kernel)} and {(weight.shape[0], rank)} for the layer {place.name}; "
            "use a LoRA that was made for Stable Diffusion v1"
        )


def _strength(place: _Place, rank: int, alpha: float | None, config: Mapping[str, Any]) -> float:
    """alpha / rank: alpha from the file, else from its settings, else equal to the rank."""

    def option(name: str) -> Any:
        return config.get(f"{place.prefix}.{name}", config.get(name))

    if alpha is None:
        alpha = option("lora_alpha")
        for pattern, value in (option("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", place.name):
                alpha = value
                break
    if alpha is None:
        return 1.0
    return alpha / (rank**0.5 if option("use_rslora") else rank)


def _listed(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
