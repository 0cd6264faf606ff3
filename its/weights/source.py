"""The files behind a name of weights: a pack, a local folder, a single file, or a repository of the hub."""

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
"""Endings of files that hold tensors. All but safetensors are pickles, read with `weights_only=True`."""

SETTINGS = "adapter_config.json"
"""PEFT's settings of a LoRA, in the folder of its file."""

DEPTH = 2
"""Levels of subfolders that a local folder is listed to: models lie one below it."""


class WeightsNotFound(Exception):
    """Weights are missing: not on this machine, and not downloadable. Secrets are left out of the texts.

    Attributes:
        reason: what is missing, and why it can't be downloaded.
        remedy: what to do: connect, log in, add a file.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = without_secrets(reason)
        self.remedy = without_secrets(remedy)
        super().__init__(f"{self.reason}. {self.remedy}")

    def prefixed(self, key: str) -> WeightsNotFound:
        """The same for a key of the config."""
        return WeightsNotFound(f"{key}: {self.reason}", self.remedy)


@dataclass(kw_only=True)
class Source:
    """Files of one name of weights that are on this machine: a pack, a folder, a file, or a cached snapshot.

    Attributes:
        name: the weights as the config names them.
        folder: where the files are.
        sizes: bytes of each file, by its path relative to `folder`, with forward slashes.
        revision: commit of the hub's repository; None for folders and packs.
        embedded: whether they came with a plugin.
        checkpoint: the file that `name` names, if it names one file instead of a folder.
        strict: whether a file that is only useful, such as a scheduler's config, counts as required. Set for cached
            snapshots, which may be partial, while the hub can still be asked.
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
        """The same names.

        Raises:
            WeightsNotFound: a file is missing.
        """
        if missing := [name for name in names if name not in self]:
            raise self.lacks(missing[0])
        return names

    def useful(self, name: str) -> bool:
        """Whether a file is there that can be replaced by a default.

        Raises:
            WeightsNotFound: it isn't, and the listing may be partial.
        """
        if self.strict:
            self.require(name)
        return name in self

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Names that match a glob pattern, sorted; `*` does not match a slash."""
        depth = pattern.count("/")
        return tuple(sorted(name for name in self.sizes if name.count("/") == depth and fnmatch(name, pattern)))

    def lacks(self, what: str) -> WeightsNotFound:
        """The error for a missing file."""
        others = ("diffusion_pytorch_model", "pytorch_model", "model.", "vocoder.", "adapter_model")  # no checkpoints
        files = (name for name in self.matching("*") if name.endswith(CHECKPOINTS))
        checkpoints = [name for name in files if not name.startswith(others)]
        hint = f"; or name one of its checkpoint files, such as {self.name}/{checkpoints[0]}" if checkpoints else ""
        return WeightsNotFound(f"{self.name} lacks {what}", f"Add the file, or name other weights{hint}")

    def path(self, name: str) -> Path:
        """Where a small file is on this machine; of a repository of the hub, it is downloaded now."""
        return self.folder / name

    def json(self, name: str) -> dict[str, Any]:
        """Content of a JSON file.

        Raises:
            UserError: it is damaged.
        """
        if name not in self._json:
            self._json[name] = read_json(self.path(name))
        return self._json[name]

    def shapes(self, name: str) -> Shapes | None:
        """Names and shapes of a file's tensors, before the file is downloaded; None where only the whole file tells.

        Raises:
            UserError: it is damaged, or holds more than tensors.
        """
        return shapes_of(self.folder / name)

    def missing(self, names: Sequence[str]) -> dict[str, int]:
        """Bytes of the files that have to be downloaded, by name."""
        return {}

    def fetch(self, names: Sequence[str]) -> None:
        """Download files that are not on this machine yet."""

    def provenance(self, names: Sequence[str]) -> dict[str, Any]:
        """What `sample.json` says of these files: the hub's commit and the weights files, or a digest of their content.

        One commit often holds the same model in several files, of which a cache may hold some. Of a single file the
        digest is the plain sha256 of its content, whatever the file is called; else that of names and contents.
        """
        if self.revision is not None:
            files = sorted(name for name in names if name.lower().endswith(CHECKPOINTS))
            return {"name": self.name, "revision": self.revision, "files": files}
        digest = file_digest(self.folder / names[0]) if len(names) == 1 else _digest(self.folder, tuple(names))
        record: dict[str, Any] = {"name": self.name, "sha256": digest}
        return record | {"embedded": True} if self.embedded else record


def content_of(record: Any) -> Any:
    """A provenance without the names of weights whose content is known: a sample's identity is by content."""
    if isinstance(record, list):
        return [content_of(entry) for entry in record]
    if not isinstance(record, dict):
        return record
    return {k: content_of(value) for k, value in record.items() if k != "name" or "sha256" not in record}


def folder_source(
    name: str, folder: Path, *, revision: str | None = None, embedded: bool = False, checkpoint: str | None = None
) -> Source:
    """List the files of a folder, or the one file of it that is named, with its settings if it has some."""
    if checkpoint is None:
        names = list(_listed(folder, DEPTH))
    else:
        names = [checkpoint, f"{checkpoint.rpartition('/')[0]}/{SETTINGS}".removeprefix("/")]
    sizes = {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}
    return Source(name=name, folder=folder, sizes=sizes, revision=revision, embedded=embedded, checkpoint=checkpoint)


def _listed(folder: Path, depth: int, prefix: str = "") -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.is_dir():
                yield f"{prefix}{entry.name}"
            elif depth > 0 and not entry.name.startswith("."):
                yield from _listed(Path(entry.path), depth - 1, f"{prefix}{entry.name}/")


@cache
def _digest(folder: Path, files: tuple[str, ...]) -> str:
    """sha256 over the names and contents of files."""
    total = hashlib.sha256()
    for name in files:
        total.update(f"{name}\0{file_digest(folder / name)}\n".encode())
    return total.hexdigest()
