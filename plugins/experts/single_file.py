"""Read single-file checkpoints of Stable Diffusion v1 in the original layout.

Such a file holds the UNet (`model.diffusion_model.*`), the VAE (`first_stage_model.*`) and the text encoder
(`cond_stage_model.transformer.*`), but no configuration and no tokenizer: those ship with this package. diffusers
converts the tensors; nothing is downloaded.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from its.errors import UserError
from its.weights.models import SkipInit
from its_plugins.experts.noise_schedule import STABLE_DIFFUSION
from its_plugins.experts.original_layout import PREFIXES, Component, original_name
from its_plugins.experts.stable_diffusion_configs import FAMILIES, INPUT_CHANNELS
from its_plugins.random_weights.stable_diffusion import END, START, byte_letters

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

CONFIGS = Path(__file__).parent / "sd_v1"
"""Configurations of Stable Diffusion v1.5, and the merges of CLIP's tokenizer."""

MAX_TOKENS = 77

_TITLES: dict[Component, str] = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
_CONV_IN = f"{PREFIXES['unet']}input_blocks.0.0.weight"
_CROSS_ATTENTION = re.compile(rf"{re.escape(PREFIXES['unet'])}.*\.attn2\.to_k\.weight")
_TOKEN_EMBEDDING = re.compile(
    rf"{re.escape(PREFIXES['text_encoder'])}(?:text_model\.)?embeddings\.token_embedding\.weight"
)
_UNUSED = re.compile(r"(?:.*\.)?(?:position_ids|text_projection(?:\.weight)?|logit_scale)")

# What a file is if a tensor's name begins with, or contains, one of these; the first match counts.
_BEGINNINGS = {
    "conditioner.embedders.": "a Stable Diffusion XL checkpoint",
    "cond_stage_model.model.": "a Stable Diffusion v2 checkpoint, with OpenCLIP as text encoder",
    f"{PREFIXES['unet']}joint_blocks.": "a Stable Diffusion 3 checkpoint",
    f"{PREFIXES['unet']}double_blocks.": "a Flux checkpoint",
    "control_model.": "a ControlNet",
    "controlnet_cond_embedding.": "a ControlNet",
}
_LORA = re.compile(r".*(?:\.lora_(?:down|up|A|B)\.|[._]lora\.(?:down|up)\.|lora_linear_layer|\.hada_w|\.lokr_w).*")
_OTHERS = {
    "down_blocks.": "a UNet in the layout of diffusers",
    "encoder.down_blocks.": "a VAE in the layout of diffusers",
    "decoder.up_blocks.": "a VAE in the layout of diffusers",
    "encoder.down.": "a VAE alone",
    "decoder.up.": "a VAE alone",
    "input_blocks.": "a UNet alone",
    "text_model.": "a CLIP text encoder alone",
    "embeddings.": "a CLIP text encoder alone",
    "double_blocks.": "a Flux transformer",
    "emb_params": "a textual inversion embedding",
    "string_to_param": "a textual inversion embedding",
}


def check(shapes: Mapping[str, tuple[int, ...]], *, part: Component, where: str, configs: Path = CONFIGS) -> None:
    """Check that a file is a Stable Diffusion v1 checkpoint with this part whole, from names and shapes alone.

    Args:
        shapes: names and shapes of the file's tensors.
        part: the model to be read.
        where: the file, for messages.
        configs: folder with a `config.json` for each part.

    Raises:
        UserError: the file is something else, has no such part or lacks some of it, or holds a model of another
            architecture.
    """
    advice = "expected a Stable Diffusion v1 checkpoint in the original layout (model.diffusion_model.*, ...)"
    held = [each for each, prefix in PREFIXES.items() if any(name.startswith(prefix) for name in shapes)]
    if kind := _other_kind(shapes, whole=bool(held)):
        raise UserError(f"{where} is {kind}; {advice}")
    if not held:
        names = ", ".join([*shapes][:3]) or "no tensors"
        raise UserError(f"{where} is no checkpoint that can be read: it holds {names}; {advice}")
    if part not in held:
        titles = " and ".join(_TITLES[each] for each in held)
        raise UserError(
            f"{where} holds no {_TITLES[part]} ({PREFIXES[part]}*), only the {titles}; "
            "use a full checkpoint, or take this part from another source"
        )
    config = _config(configs, part)
    if part == "unet":
        _check_unet(shapes, config, where=where)
    for name, shape in shapes.items():
        if part == "text_encoder" and _TOKEN_EMBEDDING.fullmatch(name) and shape[-1] != config["hidden_size"]:
            raise UserError(
                f"{where} has a text encoder of width {shape[-1]}, expected {config['hidden_size']}; {advice}"
            )
    own = {name: torch.empty(shape, device="meta") for name, shape in shapes.items() if name.startswith(PREFIXES[part])}
    model = _build(part, config)
    _check_complete(
        _convert(own, part, model, config=config, where=where),
        model.state_dict(),
        part=part,
        config=config,
        where=where,
    )


def scheduler_config(names: Iterable[str]) -> dict[str, Any]:
    """Scheduler settings of a checkpoint: those of Stable Diffusion v1.5, changed by marker tensors.

    Args:
        names: of the file's tensors; `v_pred` marks v-prediction, `ztsnr` betas rescaled to zero terminal SNR.
    """
    names = set(names)
    return {
        **STABLE_DIFFUSION,
        "prediction_type": "v_prediction" if "v_pred" in names else "epsilon",
        "rescale_betas_zero_snr": "ztsnr" in names,
    }


def read(
    tensors: Mapping[str, Tensor], part: Component, *, configs: Path = CONFIGS, where: str = "the checkpoint"
) -> nn.Module:
    """Convert one model of a checkpoint for inference.

    The UNet comes from `model.diffusion_model.*`; an EMA copy in the same file (`model_ema.*`) is ignored. Weights
    that are in torch's default dtype already share memory with `tensors`.

    Args:
        tensors: the file's tensors by name, in any floating-point dtypes: see `its.weights.files.tensors_of`.
        part: the model.
        configs: folder with a `config.json` for each part.
        where: the file, for messages.

    Returns:
        `UNet2DConditionModel`, `AutoencoderKL` or `CLIPTextModel`, in torch's default dtype, on the CPU, in
        evaluation mode and without gradients.

    Raises:
        UserError: tensors are missing, have other shapes, or belong to another architecture.
    """
    prefix, dtype = PREFIXES[part], torch.get_default_dtype()
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    config = _config(configs, part)
    with torch.device("cpu"):
        model = _build(part, config)
        converted = _convert(own, part, model, config=config, where=where)
        _check_complete(converted, model.state_dict(), part=part, config=config, where=where)
        weights = {name: converted[name].to(device="cpu", dtype=dtype) for name in model.state_dict()}
        model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def tokenizer(*, configs: Path = CONFIGS) -> CLIPTokenizer:
    """CLIP's tokenizer, with the settings of Stable Diffusion v1.5: 49,408 tokens, texts of at most 77.

    Args:
        configs: folder with `tokenizer/merges.txt.gz`.
    """
    from transformers import CLIPTokenizer

    with gzip.open(configs / "tokenizer" / "merges.txt.gz", "rt", encoding="utf-8") as file:
        pairs = [(left, right) for left, right in map(str.split, file.read().splitlines()[1:])]  # after the version
    letters = byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, pairs), START, END]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=pairs, model_max_length=MAX_TOKENS
    )


def _other_kind(names: Iterable[str], *, whole: bool) -> str | None:
    """What a file is that is no Stable Diffusion v1 checkpoint; None if that isn't known."""
    names = list(names)
    if any(map(_LORA.fullmatch, names)):
        return "a LoRA"
    for beginnings in (_BEGINNINGS, {} if whole else _OTHERS):
        for beginning, kind in beginnings.items():
            if any(name.startswith(beginning) for name in names):
                return kind
    return None


def _check_unet(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], *, where: str) -> None:
    channels, width = config["in_channels"], config["cross_attention_dim"]
    got = shapes[_CONV_IN][1] if len(shapes.get(_CONV_IN, ())) == 4 else channels
    if got != channels:
        kind = INPUT_CHANNELS.get(got, "another model")
        raise UserError(
            f"{where} is {kind}: its UNet has {got} input channels, expected {channels}; "
            "use a text-to-image checkpoint of Stable Diffusion v1"
        )
    for name, shape in shapes.items():
        if _CROSS_ATTENTION.fullmatch(name) and shape[1] != width:
            family = FAMILIES.get(shape[1], "another model family")
            raise UserError(
                f"{where} is a checkpoint of {family}: its cross-attention has width {shape[1]}, expected {width}; "
                "use a checkpoint of Stable Diffusion v1"
            )


def _config(configs: Path, part: Component) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((configs / part / "config.json").read_text(encoding="utf-8"))
    return config


def _build(part: Component, config: Mapping[str, Any]) -> Any:
    """The model on the meta device, where its weights take no memory."""
    with torch.device("meta"), SkipInit():
        if part == "text_encoder":
            from transformers import CLIPTextConfig, CLIPTextModel

            model = CLIPTextModel(CLIPTextConfig(**config))
        else:
            from diffusers import AutoencoderKL, UNet2DConditionModel

            return (UNet2DConditionModel if part == "unet" else AutoencoderKL).from_config(config)
    embeddings = getattr(model, "text_model", model).embeddings
    embeddings.position_ids = torch.arange(config["max_position_embeddings"])[None]  # a buffer that no file holds
    return model


def _convert(
    own: dict[str, Tensor], part: Component, model: Any, *, config: Mapping[str, Any], where: str
) -> dict[str, Tensor]:
    from diffusers.loaders import single_file_utils

    try:
        if part == "unet":
            return single_file_utils.convert_ldm_unet_checkpoint(own, model.config)
        if part == "vae":
            return single_file_utils.convert_ldm_vae_checkpoint(own, model.config)
        converted = single_file_utils.convert_ldm_clip_checkpoint(own)
    except (KeyError, AttributeError):  # of tensors that the conversion takes for granted
        names = [original_name(name, part, config) for name in model.state_dict()]
        raise _incomplete(where, part, [name for name in names if name not in own]) from None
    # Neither some early checkpoints nor the model in transformers 5 have this prefix.
    inner = "text_model." if hasattr(model, "text_model") else ""
    return {f"{inner}{name.removeprefix('text_model.')}": tensor for name, tensor in converted.items()}


def _check_complete(
    converted: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    part: Component,
    config: Mapping[str, Any],
    where: str,
) -> None:
    title = _TITLES[part]
    if missing := [original_name(name, part, config) for name in expected if converted.get(name) is None]:
        raise _incomplete(where, part, missing)
    for name, tensor in expected.items():
        if converted[name].shape != tensor.shape:
            raise UserError(
                f"{where}: {original_name(name, part, config)} has shape {tuple(converted[name].shape)}, expected "
                f"{tuple(tensor.shape)} in the {title} of Stable Diffusion v1; use a checkpoint of this model family"
            )
    if more := [name for name in converted if name not in expected and not _UNUSED.fullmatch(name)]:
        raise UserError(
            f"{where}: the {title} has {len(more)} tensors that Stable Diffusion v1 has not, such as "
            f"{', '.join(more[:3])}; use a checkpoint of this model family"
        )


def _incomplete(where: str, part: Component, missing: Sequence[str]) -> UserError:
    return UserError(
        f"{where} is incomplete as {_TITLES[part]} of Stable Diffusion v1: it lacks {len(missing)} tensors, such as "
        f"{', '.join(missing[:3])}; get the file again"
    )
