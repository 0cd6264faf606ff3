"""Read weights files without running code from them: JSON, safetensors, and pickles of tensors."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from its.errors import UserError
from its.media.limited import read_text

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a file's tensors by name."""
PICKLES = (".bin", ".pt", ".ckpt", ".pth")
"""Extensions of files written by `torch.save`."""


def check_file(path: Path) -> None:
    """Check a file for damage before it is loaded. Of safetensors files, only the header is read.

    Raises:
        UserError: the file is damaged, is a Git LFS pointer, or contains other objects than tensors.
    """
    _refuse_pointer(path)
    if path.name == "config.json":
        read_json(path)
    elif path.suffix.lower() == ".safetensors":
        shapes_of(path)
    elif path.suffix.lower() in PICKLES:
        load_pickle(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file with a mapping.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        _refuse_pointer(path)
        raise UserError(f"{path} is not JSON: {error}; get the weights again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} contains a {type(content).__name__}; expected a mapping. Get the weights again")
    return content


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a file's tensors by name; of safetensors files, only the header is read.

    Raises:
        UserError: as `check_file`.
    """
    if path.suffix.lower() != ".safetensors":
        return {name: tuple(tensor.shape) for name, tensor in tensors_of(path).items()}
    from safetensors import safe_open

    with _safetensors_errors(path), safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Read a file's tensors by name, to the CPU; of a training checkpoint, those under `state_dict`.

    Raises:
        UserError: as `check_file`.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        with _safetensors_errors(path):
            return load_file(path)
    content = load_pickle(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} contains a {type(content).__name__}; expected tensors by name")
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def load_pickle(path: Path) -> Any:
    """Read a file written by `torch.save`, to the CPU. Only tensors and plain containers are allowed.

    Raises:
        UserError: the file contains other objects, is damaged, or is a Git LFS pointer.
    """
    _refuse_pointer(path)
    try:
        mmap = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from None
    except Exception:  # noqa: BLE001 - the unpickler raises arbitrary errors for damaged files
        # Torch's message is left out, since it recommends `weights_only=False`.
        raise UserError(
            f"{path} is damaged, or contains other objects than tensors, which are not read since they can run code. "
            "Get the weights again, or as safetensors"
        ) from None


def _refuse_pointer(path: Path) -> None:
    with open(path, "rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise UserError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull` in that folder")


@contextmanager
def _safetensors_errors(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    _refuse_pointer(path)
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is a damaged safetensors file: {error}; get the weights again") from None
