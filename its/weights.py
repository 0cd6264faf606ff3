"""Where weights are: a pack that a plugin brought, a local folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from its import registry
from its.digests import file_digest

NETWORK_PATIENCE = 4.0
"""Seconds after which a hub that has not answered counts as out of reach."""


class WeightsNotFound(Exception):
    """Weights that are neither on this machine nor to be had. The message says what was tried and what to do."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """Weights on this machine.

    Attributes:
        name: as the config names them.
        folder: where they are.
        files: those that will be read, relative to `folder`.
        revision: commit of the hub's repository; None for folders and packs.
        embedded: whether they came with a plugin.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    revision: str | None
    embedded: bool

    def provenance(self) -> dict[str, Any]:
        """What `sample.json` says of them: a hub's commit, or a digest of the files that are read."""
        if self.revision is not None:
            return {"name": self.name, "revision": self.revision}
        record: dict[str, Any] = {"name": self.name, "sha256": _digest(self.folder, self.files)}
        return record | {"embedded": True} if self.embedded else record


def locate(source: str, *, files: Sequence[str], revision: str | None = None) -> Located:
    """Find weights, downloading them where necessary. Nothing is read yet.

    Args:
        source: `pack:NAME`, a local folder, or `owner/name` on the hub.
        files: the files needed, relative to the folder, as glob patterns each of which must match something.
        revision: branch, tag or commit on the hub.

    Raises:
        WeightsNotFound: something of it is missing.
    """
    if source.startswith("pack:"):
        name = source.removeprefix("pack:")
        if name not in registry.packs():
            raise WeightsNotFound(f"no pack is called {name}; there are: {', '.join(registry.packs()) or 'none'}")
        return _in_folder(source, registry.packs()[name].folder, files, embedded=True)
    folder = Path(source).expanduser()
    if not source.strip():
        raise WeightsNotFound("no weights are named; expected a diffusers folder or owner/name on the hub")
    if folder.is_dir():
        return _in_folder(source, folder, files)
    if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        raise WeightsNotFound(f"{source} is not a folder; expected a diffusers folder or owner/name on the hub")
    return _on_hub(source, files, revision)


def _in_folder(source: str, folder: Path, files: Sequence[str], *, embedded: bool = False) -> Located:
    found = [sorted(p.relative_to(folder).as_posix() for p in folder.glob(pattern)) for pattern in files]
    if missing := [pattern for pattern, matches in zip(files, found, strict=True) if not matches]:
        hint = " (pickles such as .bin are never read)" if any("safetensors" in name for name in missing) else ""
        raise WeightsNotFound(f"{source} lacks {', '.join(missing)}{hint}")
    matches = tuple(dict.fromkeys(name for names in found for name in names))
    return Located(name=source, folder=folder, files=matches, revision=None, embedded=embedded)


def _on_hub(repo: str, files: Sequence[str], revision: str | None) -> Located:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def snapshot(*, local: bool) -> Located:
        path = snapshot_download(repo, revision=revision, allow_patterns=list(files), local_files_only=local)
        located = _in_folder(repo, Path(path), files)
        return Located(name=repo, folder=located.folder, files=located.files, revision=Path(path).name, embedded=False)

    try:
        return snapshot(local=True)  # what is cached needs no network
    except HFValidationError:
        raise WeightsNotFound(f"{repo} is neither a folder nor a name on the hub (owner/name)") from None
    except (LocalEntryNotFoundError, WeightsNotFound):
        if (trouble := hub_trouble()) is not None:
            raise WeightsNotFound(f"{repo} is not on this machine, and {trouble}") from None
    try:
        return snapshot(local=False)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, httpx.HTTPError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsNotFound(f"{repo} is not on this machine and could not be downloaded: {reason}") from None


@cache
def hub_trouble() -> str | None:
    """Why nothing can be downloaded, decided once and within `NETWORK_PATIENCE`; None if the hub answers."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    outcome = [f"{constants.ENDPOINT} did not answer within {NETWORK_PATIENCE:g} s"]

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=NETWORK_PATIENCE)
            outcome.clear()
        except Exception as error:  # noqa: BLE001 - whatever the HTTP library raises: no network is no crash
            outcome[:] = [f"{constants.ENDPOINT} can't be reached ({type(error).__name__})"]

    # In a thread, since looking a name up has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_PATIENCE)
    return outcome[0] if outcome else None


@cache
def _digest(folder: Path, files: tuple[str, ...]) -> str:
    """sha256 over the names and contents of files."""
    total = hashlib.sha256()
    for name in files:
        total.update(f"{name}\0{file_digest(folder / name)}\n".encode())
    return total.hexdigest()
