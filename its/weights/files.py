"""Read files of weights without running code: JSON, safetensors, and pickles of tensors."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from its.errors import UserError
from its.media.limited import read_text

Shapes = Mapping[str, tuple[int, ...]]
"""Names and shapes of a file's tensors."""
PICKLES = (".bin", ".pt", ".ckpt", ".pth")
"""Endings of files that `torch.save` wrote."""


def check_file(path: Path) -> None:
    """Check the beginning of a file, which shows most damage long before the whole is read.

    Of a pickle in the format before torch 1.6, which mixes code and tensors, the whole is read.

    Raises:
        UserError: it is damaged, is a Git LFS pointer, or holds more than tensors.
    """
    refuse_pointer(path)
    if path.name == "config.json":
        read_json(path)
    elif path.suffix.lower() == ".safetensors":
        shapes_of(path)
    elif path.suffix.lower() in PICKLES:
        load_pickle(path)


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file.

    Raises:
        UserError: it is damaged.
    """
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        refuse_pointer(path)
        raise UserError(f"{path} is not JSON: {error}; get the weights again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, expected keys and values; get the weights again")
    return content


def refuse_pointer(path: Path) -> None:
    """Refuse the text that Git LFS leaves where a file wasn't downloaded.

    Raises:
        UserError: the file is one.
    """
    with open(path, "rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise UserError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull` in that folder")


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's tensors, without their content where the format allows it.

    Raises:
        UserError: as `check_file`.
    """
    if path.suffix.lower() != ".safetensors":
        return {name: tuple(tensor.shape) for name, tensor in tensors_of(path).items()}
    from safetensors import SafetensorError, safe_open

    refuse_pointer(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is a damaged safetensors file: {error}; get the weights again") from None


def tensors_of(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name, on the CPU; of a training checkpoint those under `state_dict`.

    Raises:
        UserError: as `check_file`.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        refuse_pointer(path)
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is a damaged safetensors file: {error}; get the weights again") from None
    content = load_pickle(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, expected tensors by name")
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def load_pickle(path: Path) -> Any:
    """Content of a file written by `torch.save`, on the CPU. Only tensors and plain containers are read.

    Raises:
        UserError: it holds anything else, is damaged, or is a Git LFS pointer.
    """
    refuse_pointer(path)
    try:
        mmap = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from None
    except Exception:  # noqa: BLE001 - damaged files raise whatever the unpickler meets
        # Without torch's reason, which goes on to advise `weights_only=False`.
        raise UserError(
            f"{path} holds more than tensors, or is damaged. Nothing of it was run: a pickle can hold code, so only "
            "tensors are read. Get the weights again, or as safetensors"
        ) from None
