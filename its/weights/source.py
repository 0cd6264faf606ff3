"""Sources of weights: the files of a pack, a local folder, a single file, or a repository of the hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from its.privacy import without_secrets
from its.weights.digests import file_digest
from its.weights.files import Shapes, read_json, shapes_of

CHECKPOINTS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")
"""Extensions of files with tensors. All but safetensors are pickles, read with `weights_only=True`."""
SETTINGS = "adapter_config.json"
"""PEFT's LoRA config, in the folder of the LoRA file."""
DEPTH = 2
"""Levels of subfolders to list in a local folder; models are one level deep."""


class WeightsNotFound(Exception):
    """Raised if weights are not on this machine and can't be downloaded. Secrets are removed from the texts.

    Attributes:
        reason: missing weights, and the reason why they can't be downloaded.
        remedy: remedy, for example to connect, log in or add a file.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = without_secrets(reason)
        self.remedy = without_secrets(remedy)
        super().__init__(f"{self.reason}. {self.remedy}")

    def prefixed(self, key: str) -> WeightsNotFound:
        """Return a copy with a config key before the reason."""
        return WeightsNotFound(f"{key}: {self.reason}", self.remedy)


@dataclass(kw_only=True)
class Source:
    """Files on this machine: of a pack, a folder, a single file, or a cached snapshot of the hub.

    Attributes:
        name: value of `weights` in the config.
        folder: folder of the files.
        sizes: bytes by path relative to `folder`, with forward slashes.
        revision: commit on the hub; None for folders and packs.
        embedded: whether the weights are part of a plugin.
        checkpoint: the file, if `name` is a single file instead of a folder.
        strict: whether optional files, for example a scheduler's config, are required. Set for cached snapshots, which
            may be incomplete, as long as the hub can still be queried.
    """

    name: str
    folder: Path
    sizes: Mapping[str, int]
    revision: str | None = None
    embedded: bool = False
    checkpoint: str | None = None
    strict: bool = False
    _json: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.sizes

    def require(self, *names: str) -> tuple[str, ...]:
        """Check that files exist, and return their names.

        Raises:
            WeightsNotFound: a file is missing.
        """
        if missing := [name for name in names if name not in self]:
            raise self.lacks(missing[0])
        return names

    def has_optional(self, name: str) -> bool:
        """Whether an optional file exists.

        Raises:
            WeightsNotFound: the file is missing, and `strict` is set.
        """
        if self.strict:
            self.require(name)
        return name in self

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Return the sorted names that match a glob pattern, in which `*` does not match a slash."""
        depth = pattern.count("/")
        return tuple(sorted(name for name in self.sizes if name.count("/") == depth and fnmatch(name, pattern)))

    def lacks(self, what: str) -> WeightsNotFound:
        """Return the error for a missing file."""
        models = ("diffusion_pytorch_model", "pytorch_model", "model.", "vocoder.", "adapter_model")
        files = (name for name in self.matching("*") if name.endswith(CHECKPOINTS))
        checkpoints = [name for name in files if not name.startswith(models)]
        hint = f"; or use one of its checkpoint files, for example {self.name}/{checkpoints[0]}" if checkpoints else ""
        return WeightsNotFound(f"{self.name} lacks {what}", f"Add the file, or use other weights{hint}")

    def path(self, name: str) -> Path:
        """Return the path of a small file, downloaded if necessary."""
        return self.folder / name

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON file.

        Raises:
            UserError: the file is damaged.
        """
        if name not in self._json:
            self._json[name] = read_json(self.path(name))
        return self._json[name]

    def shapes(self, name: str) -> Shapes | None:
        """Return the shapes of a file's tensors by name; None if that requires a download of the complete file.

        Raises:
            UserError: the file is damaged, or contains other objects than tensors.
        """
        return shapes_of(self.folder / name)

    def missing(self, names: Sequence[str]) -> dict[str, int]:
        """Return the bytes of files still to be downloaded, by name."""
        return {}

    def fetch(self, names: Sequence[str]) -> None:
        """Download files that are not on this machine."""

    def provenance(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the record of these files for `sample.json`: commit and names of weights files, or a digest.

        The names are necessary because one commit often holds the same model in several files. The digest of a single
        file is the sha256 of its content; that of several files also covers their names.
        """
        if self.revision is not None:
            files = sorted(name for name in names if name.lower().endswith(CHECKPOINTS))
            return {"name": self.name, "revision": self.revision, "files": files}
        digest = file_digest(self.folder / names[0]) if len(names) == 1 else _digest(self.folder, tuple(names))
        record: dict[str, Any] = {"name": self.name, "sha256": digest}
        return record | {"embedded": True} if self.embedded else record


def weights_identity(record: Any) -> Any:
    """Remove the names of weights with a digest from a provenance record, since sample ids depend on the content."""
    if isinstance(record, list):
        return [weights_identity(entry) for entry in record]
    if not isinstance(record, dict):
        return record
    return {k: weights_identity(value) for k, value in record.items() if k != "name" or "sha256" not in record}


def folder_source(
    name: str, folder: Path, *, revision: str | None = None, embedded: bool = False, checkpoint: str | None = None
) -> Source:
    """Create a source with all files of a folder, or with one checkpoint file and its `SETTINGS`."""
    if checkpoint is None:
        names = list(_list_files(folder, DEPTH))
    else:
        names = [checkpoint, f"{checkpoint.rpartition('/')[0]}/{SETTINGS}".removeprefix("/")]
    sizes = {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}
    return Source(name=name, folder=folder, sizes=sizes, revision=revision, embedded=embedded, checkpoint=checkpoint)


def _list_files(folder: Path, depth: int, prefix: str = "") -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.is_dir():
                yield f"{prefix}{entry.name}"
            elif depth > 0 and not entry.name.startswith("."):
                yield from _list_files(Path(entry.path), depth - 1, f"{prefix}{entry.name}/")


@cache
def _digest(folder: Path, files: tuple[str, ...]) -> str:
    total = hashlib.sha256()
    for name in files:
        total.update(f"{name}\0{file_digest(folder / name)}\n".encode())
    return total.hexdigest()
