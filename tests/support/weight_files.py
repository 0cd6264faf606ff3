"""Small weights files: valid ones, damaged ones, and pickles that contain code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1719125304\n"
PICKLES = ("zip", "legacy", "plain")
"""File formats: of `torch.save` today, of `torch.save` before 1.6, and of `pickle.dump`."""


class Code:
    """An object that creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.trace), "w")


def save_pickle(content: object, path: Path, form: str = "zip") -> None:
    """Pickle an object in one of the formats of `PICKLES`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "plain":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")


def save_tensors(path: Path, tensors: Mapping[str, Tensor] = TENSORS, *, form: str = "zip") -> None:
    """Write tensors as safetensors or as a pickle, by the suffix of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(dict(tensors), path, metadata={"format": "pt"})
    else:
        save_pickle(dict(tensors), path, form)


def save_shards(folder: Path, stem: str, ending: str, *, variant: str | None = None) -> list[str]:
    """Write each of `TENSORS` to a shard, and an index. Returns the file names, the index first."""
    dotted = f".{variant}" if variant else ""
    shards = {name: f"{stem}{dotted}-0000{n}-of-00002.{ending}" for n, name in enumerate(TENSORS, start=1)}
    for name, shard in shards.items():
        save_tensors(folder / shard, {name: TENSORS[name]})
    index = f"{stem}.{ending}.index{dotted}.json"
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": shards}))
    return [index, *sorted(shards.values())]


def shorten(path: Path, *, by: int = 8) -> None:
    """Cut off the end of a file, as in an interrupted download."""
    path.write_bytes(path.read_bytes()[:-by])
