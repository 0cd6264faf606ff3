"""Models of a diffusers pipeline folder: found without being read, then read where and as Lightning asks."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from its.errors import UserError
from its.weights import Located, WeightsNotFound, locate

DIFFUSERS_STEM = "diffusion_pytorch_model"
TRANSFORMERS_STEM = "model"
_SPIECE = "sentencepiece"


def locate_model(
    source: str, component: str, *, stem: str, revision: str | None = None, variant: str | None = None
) -> Located:
    """Find the configuration and the safetensors, one file or shards, of one model in a pipeline folder.

    Args:
        source: `pack:NAME`, a local folder, or `owner/name` on the hub.
        component: the model's subfolder.
        stem: how its weights files begin: `DIFFUSERS_STEM` or `TRANSFORMERS_STEM`.
        revision: branch, tag or commit on the hub.
        variant: such as `fp16`, for weights files called `STEM.fp16.safetensors`.

    Raises:
        WeightsNotFound: something of it is missing.
        UserError: a file is damaged.
    """
    stem = f"{component}/{stem}.{variant}" if variant else f"{component}/{stem}"
    files = [f"{component}/config.json", f"{component}/*.json"]  # the others: index of shards, known words
    try:
        located = locate(source, files=[*files, f"{stem}.safetensors"], revision=revision)
    except WeightsNotFound as not_whole:
        try:
            located = locate(source, files=[*files, f"{stem}-*-of-?????.safetensors"], revision=revision)
        except WeightsNotFound:
            raise not_whole from None
    for name in located.files:
        check_file(located.folder / name)
    return located


def read_config(path: Path) -> dict[str, Any]:
    """What a JSON file says.

    Raises:
        UserError: it is damaged.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; get the weights again") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds a {type(config).__name__}, expected keys and values; get the weights again")
    return config


def check_file(path: Path) -> None:
    """Look at the beginning of a file, which tells most damage long before the whole is read."""
    if path.name == "config.json":
        read_config(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise UserError(f"{path} is no whole safetensors file: {error}; get the weights again") from None


def read_model(
    model_class: Any,  # neither library says what from_pretrained gives
    located: Located,
    component: str,
    *,
    variant: str | None,
    channels_last: bool = False,
    **options: bool,
) -> Any:
    """Read a model of diffusers or transformers for inference, in torch's default dtype and device.

    Raises:
        UserError: the files lack tensors that the model needs.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()  # a bar for each text encoder; downloads keep theirs
    device = torch.get_default_device()
    # On the host first: within a device context transformers asks for accelerate, which nothing here needs.
    with torch.device("cpu"):
        model, report = model_class.from_pretrained(
            str(located.folder),
            subfolder=component,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.get_default_dtype(),
            output_loading_info=True,
            **options,
        )
    # Both libraries only log this, and leave whatever is in memory as the model's weights.
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"{located.folder / component} is no whole {model_class.__name__}: "
            f"it lacks {len(missing)} tensors, such as {missing[0]}; get the weights again"
        )
    layout = torch.channels_last if channels_last else torch.preserve_format
    return model.eval().requires_grad_(False).to(device, memory_format=layout)


def read_tokenizer(tokenizer_class: Any, located: Located) -> Any:
    """Read the tokenizer of a pipeline folder.

    Raises:
        UserError: it can't be read, or a library that it needs is missing.
    """
    folder = located.folder / "tokenizer"
    if not (folder / "tokenizer.json").exists() and (folder / "spiece.model").exists() and not find_spec(_SPIECE):
        raise UserError(f"{folder / 'spiece.model'} needs the library {_SPIECE}: pip install {_SPIECE}")
    try:
        return tokenizer_class.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} can't be read: {reason[:300]}") from error
