"""Models of two towers, one for texts and one for pictures or sounds: found, read, and asked for cosines."""

from __future__ import annotations

from typing import Any

import torch

from its.weights import Located, WeightsNotFound, locate
from its_plugins.pipeline_folder import check_file, read_model


def locate_towers(weights: str, revision: str | None) -> Located:
    """Find a model, its preprocessor's configuration and its tokenizer, all in one folder.

    Raises:
        WeightsNotFound: something of it is missing.
        UserError: a file is damaged.
    """
    located = locate(
        weights,
        files=["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer_config.json", "*.json"],
        revision=revision,
    )
    if not {"tokenizer.json", "vocab.json"} & set(located.files):
        raise WeightsNotFound(f"{weights} lacks tokenizer.json")
    for name in located.files:
        check_file(located.folder / name)
    return located


def read_towers(model_class: Any, located: Located) -> Any:
    """Read the model for inference; in float32 whatever torch's default is, since scores differ in the third decimal.

    Raises:
        UserError: the file lacks tensors that the model needs.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return read_model(model_class, located, "", variant=None)
    finally:
        torch.set_default_dtype(before)


def read_tokenizer(located: Located) -> Any:
    """The tokenizer beside the model."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(located.folder), local_files_only=True)
