"""Read single-file checkpoints of Stable Diffusion v1 in the original layout.

Such a file contains the UNet (`model.diffusion_model.*`), the VAE (`first_stage_model.*`) and the text encoder
(`cond_stage_model.transformer.*`), but no configurations and no tokenizer, which are part of this package. diffusers
converts the tensors; nothing is downloaded.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from its.errors import UserError
from its.weights.files import read_json
from its.weights.models import SkipInit
from its_plugins.experts.noise_schedule import STABLE_DIFFUSION
from its_plugins.experts.original_layout import PREFIXES, Component, original_name
from its_plugins.experts.stable_diffusion_configs import FAMILIES, INPUT_CHANNELS
from its_plugins.random_weights.stable_diffusion import END, START, byte_letters

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

CONFIGS = Path(__file__).parent / "sd_v1"
"""Configurations of Stable Diffusion v1.5."""

_MERGES = CONFIGS / "tokenizer" / "merges.txt.gz"

_TITLES: dict[Component, str] = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
_CONV_IN = f"{PREFIXES['unet']}input_blocks.0.0.weight"
_CROSS_ATTENTION = re.compile(rf"{re.escape(PREFIXES['unet'])}.*\.attn2\.to_k\.weight")
_TOKEN_EMBEDDING = re.compile(
    rf"{re.escape(PREFIXES['text_encoder'])}(?:text_model\.)?embeddings\.token_embedding\.weight"
)
_UNUSED = re.compile(r"(?:.*\.)?(?:position_ids|text_projection(?:\.weight)?|logit_scale)")

# Types of files by prefixes of their tensor names; the first match counts.
_OTHER_CHECKPOINTS = {
    "conditioner.embedders.": "a Stable Diffusion XL checkpoint",
    "cond_stage_model.model.": "a Stable Diffusion v2 checkpoint, with OpenCLIP as text encoder",
    f"{PREFIXES['unet']}joint_blocks.": "a Stable Diffusion 3 checkpoint",
    f"{PREFIXES['unet']}double_blocks.": "a Flux checkpoint",
    "control_model.": "a ControlNet",
    "controlnet_cond_embedding.": "a ControlNet",
}
_LORA = re.compile(r".*(?:\.lora_(?:down|up|A|B)\.|[._]lora\.(?:down|up)\.|lora_linear_layer|\.hada_w|\.lokr_w).*")
_OTHER_FILES = {
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


def check(shapes: Mapping[str, tuple[int, ...]], *, part: Component, where: str) -> None:
    """Check that a file is a Stable Diffusion v1 checkpoint in which a model is complete.

    Args:
        shapes: names and shapes of the file's tensors.
        part: the model to be read.
        where: name of the file, for messages.

    Raises:
        UserError: the file is of another type, lacks the model or some of its tensors, or has a model of another
            architecture.
    """
    advice = "expected a Stable Diffusion v1 checkpoint in the original layout (model.diffusion_model.*, ...)"
    present = [each for each, prefix in PREFIXES.items() if any(name.startswith(prefix) for name in shapes)]
    if kind := _other_type(shapes, is_checkpoint=bool(present)):
        raise UserError(f"{where} is {kind}; {advice}")
    if not present:
        names = ", ".join([*shapes][:3]) or "no tensors"
        raise UserError(f"{where} is not a checkpoint that can be read: it has {names}; {advice}")
    if part not in present:
        titles = " and ".join(_TITLES[each] for each in present)
        raise UserError(
            f"{where} has no {_TITLES[part]} ({PREFIXES[part]}*), only the {titles}; "
            "use a full checkpoint, or read this model from other weights"
        )
    config = read_config(part)
    if part == "unet":
        _check_unet(shapes, config, where=where)
    for name, shape in shapes.items():
        if part == "text_encoder" and _TOKEN_EMBEDDING.fullmatch(name) and shape[-1] != config["hidden_size"]:
            raise UserError(
                f"{where} has a text encoder of width {shape[-1]}, expected {config['hidden_size']}; {advice}"
            )
    _convert({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, part, where=where)


def scheduler_config(names: Iterable[str]) -> dict[str, Any]:
    """Return a checkpoint's scheduler settings: Stable Diffusion v1.5's, changed by marker tensors.

    Args:
        names: names of the file's tensors; `v_pred` marks v-prediction, `ztsnr` betas rescaled to zero terminal SNR.
    """
    names = set(names)
    return {
        **STABLE_DIFFUSION,
        "prediction_type": "v_prediction" if "v_pred" in names else "epsilon",
        "rescale_betas_zero_snr": "ztsnr" in names,
    }


def read(tensors: Mapping[str, Tensor], part: Component, *, where: str = "the checkpoint") -> nn.Module:
    """Convert one model of a checkpoint for inference.

    The UNet is read from `model.diffusion_model.*`; an EMA copy in the same file (`model_ema.*`) is ignored. Weights
    in torch's default dtype share memory with `tensors`.

    Args:
        tensors: the file's tensors by name, in any floating-point dtypes: see `its.weights.files.tensors_of`.
        part: the model.
        where: name of the file, for messages.

    Returns:
        `UNet2DConditionModel`, `AutoencoderKL` or `CLIPTextModel`, in torch's default dtype, on the CPU, in
        evaluation mode and without gradients.

    Raises:
        UserError: tensors are missing, have other shapes, or belong to another architecture.
    """
    with torch.device("cpu"):
        model, converted = _convert(tensors, part, where=where)
        dtype = torch.get_default_dtype()
        weights = {name: converted[name].to(device="cpu", dtype=dtype) for name in model.state_dict()}
        model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def read_config(part: Component) -> dict[str, Any]:
    """Return Stable Diffusion v1.5's `config.json` of a model."""
    return read_json(CONFIGS / part / "config.json")


def tokenizer() -> CLIPTokenizer:
    """Create CLIP's tokenizer with the settings of Stable Diffusion v1.5: 49,408 tokens, at most 77 per text."""
    from transformers import CLIPTokenizer

    with gzip.open(_MERGES, "rt", encoding="utf-8") as file:
        pairs = [(left, right) for left, right in map(str.split, file.read().splitlines()[1:])]  # skip the version
    letters = byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, pairs), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=77)


def _other_type(names: Iterable[str], *, is_checkpoint: bool) -> str | None:
    """Return the type of a file that is not a Stable Diffusion v1 checkpoint, or None if it is unknown."""
    names = list(names)
    if any(map(_LORA.fullmatch, names)):
        return "a LoRA"
    types = _OTHER_CHECKPOINTS if is_checkpoint else _OTHER_CHECKPOINTS | _OTHER_FILES
    return next((kind for start, kind in types.items() if any(name.startswith(start) for name in names)), None)


def _check_unet(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], *, where: str) -> None:
    channels, width = config["in_channels"], config["cross_attention_dim"]
    inputs = shapes[_CONV_IN][1] if len(shapes.get(_CONV_IN, ())) == 4 else channels
    if inputs != channels:
        kind = INPUT_CHANNELS.get(inputs, "another model")
        raise UserError(
            f"{where} is {kind}: its UNet has {inputs} input channels, expected {channels}; "
            "use a text-to-image checkpoint of Stable Diffusion v1"
        )
    for name, shape in shapes.items():
        if _CROSS_ATTENTION.fullmatch(name) and shape[1] != width:
            family = FAMILIES.get(shape[1], "another model family")
            raise UserError(
                f"{where} is a checkpoint of {family}: its cross-attention has width {shape[1]}, expected {width}; "
                "use a checkpoint of Stable Diffusion v1"
            )


def _build(part: Component, config: Mapping[str, Any]) -> Any:
    """Create a model on the meta device."""
    with torch.device("meta"), SkipInit():
        if part == "text_encoder":
            from transformers import CLIPTextConfig, CLIPTextModel

            model = CLIPTextModel(CLIPTextConfig(**config))
        else:
            from diffusers import AutoencoderKL, UNet2DConditionModel

            return (UNet2DConditionModel if part == "unet" else AutoencoderKL).from_config(config)
    embeddings = getattr(model, "text_model", model).embeddings
    embeddings.position_ids = torch.arange(config["max_position_embeddings"])[None]  # a buffer that files lack
    return model


def _convert(tensors: Mapping[str, Tensor], part: Component, *, where: str) -> tuple[Any, dict[str, Tensor]]:
    """Create a model on the meta device, and convert its tensors to the names in the model.

    Raises:
        UserError: tensors are missing, have other shapes, or belong to another architecture.
    """
    from diffusers.loaders import single_file_utils

    config = read_config(part)
    model = _build(part, config)
    expected = model.state_dict()
    names = {name: original_name(name, part, config) for name in expected}
    originals = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIXES[part])}
    converted: dict[str, Tensor] = {}
    try:
        if part == "unet":
            converted = single_file_utils.convert_ldm_unet_checkpoint(originals, model.config)
        elif part == "vae":
            converted = single_file_utils.convert_ldm_vae_checkpoint(originals, model.config)
        else:
            # The inner prefix is missing in some early checkpoints, and in the model of transformers 5.
            inner = "text_model." if hasattr(model, "text_model") else ""
            for name, tensor in single_file_utils.convert_ldm_clip_checkpoint(originals).items():
                converted[f"{inner}{name.removeprefix('text_model.')}"] = tensor
        missing = [names[name] for name in expected if converted.get(name) is None]
    except (KeyError, AttributeError):  # the conversion requires tensors that are missing
        missing = [name for name in names.values() if name not in originals]
    title = _TITLES[part]
    if missing or not converted:
        raise UserError(
            f"{where}: the {title} is incomplete. It lacks {len(missing)} tensors of Stable Diffusion v1, for example "
            f"{', '.join(missing[:3])}; get the file again"
        )
    for name, tensor in expected.items():
        if converted[name].shape != tensor.shape:
            raise UserError(
                f"{where}: {names[name]} has shape {tuple(converted[name].shape)}, expected {tuple(tensor.shape)} in "
                f"the {title} of Stable Diffusion v1; use a checkpoint of this model family"
            )
    if unknown := [name for name in converted if name not in expected and not _UNUSED.fullmatch(name)]:
        raise UserError(
            f"{where}: the {title} has {len(unknown)} tensors that Stable Diffusion v1 does not have, for example "
            f"{', '.join(unknown[:3])}; use a checkpoint of this model family"
        )
    return model, converted
