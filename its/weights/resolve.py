"""Resolve a value of `weights` to a source: a pack, a local folder or file, the hub's cache, or the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from its import registry
from its.errors import UserError
from its.media.limited import user_path
from its.weights import hub
from its.weights.source import CHECKPOINTS, Source, WeightsNotFound, folder_source


def resolve(
    weights: str, revision: str | None, select: Callable[[Source], Sequence[str]]
) -> tuple[Source, tuple[str, ...]]:
    """Find a source with all required files. Only small files are downloaded.

    A complete snapshot in the hub's cache has priority over the hub. If the hub is unreachable, a snapshot without
    optional files is also accepted.

    Args:
        weights: `pack:NAME`, a local folder or file, `owner/name` on the hub, or `owner/name/file`.
        revision: branch, tag or commit on the hub; None for the pinned one, or else the default branch.
        select: returns the names of required files in a source, or raises WeightsNotFound.

    Returns:
        The source, and the names of the required files.

    Raises:
        WeightsNotFound: a file is missing, or can't be downloaded.
        UserError: the weights are of the wrong kind, or damaged.
    """
    if (local := _local_source(weights)) is not None:
        return local, tuple(select(local))
    owner, name, *file = weights.split("/", 2)
    repository, checkpoint = f"{owner}/{name}", file[0] if file else None
    revision = revision or hub.pinned_revision(repository)
    cached = hub.cached_snapshot(repository, revision, name=weights, checkpoint=checkpoint)
    if cached is not None:
        cached.strict = True
        try:
            return cached, tuple(select(cached))
        except WeightsNotFound:
            cached.strict = False
    try:
        listed = hub.list_repository(repository, revision, name=weights, checkpoint=checkpoint)
    except WeightsNotFound as unreachable:
        if cached is None:
            raise
        try:
            return cached, tuple(select(cached))
        except WeightsNotFound as partial:
            reason = f"{partial.reason} in the cache ({cached.folder}), and {unreachable.reason}"
            raise WeightsNotFound(reason, unreachable.remedy) from None
    return listed, tuple(select(listed))


def _local_source(weights: str) -> Source | None:
    """Return the source of a pack or a local path; None for the name of a repository or of a file in one."""
    if weights.startswith("pack:"):
        name = weights.removeprefix("pack:")
        if name not in registry.packs():
            raise UserError(f"weights: unknown pack {name}; expected one of: {', '.join(registry.packs()) or 'none'}")
        return folder_source(weights, registry.packs()[name].folder, embedded=True)
    expected = "Expected a diffusers folder, a checkpoint file, or owner/name on the hub"
    if not weights.strip() or not weights.isprintable():
        raise UserError(f"weights: {weights!r:.200} is not a name. {expected}")
    path = user_path(weights)
    is_checkpoint = path.suffix.lower() in CHECKPOINTS
    if os.path.isdir(path):
        try:
            return folder_source(weights, path)
        except OSError as error:
            raise UserError(f"weights: {weights}: {error.filename} can't be read: {error.strerror}") from None
    if os.path.isfile(path):
        if not is_checkpoint:
            raise UserError(f"weights: {weights} is a file, but not one of {', '.join(CHECKPOINTS)}. {expected}")
        return folder_source(weights, path.parent, checkpoint=path.name)
    slashes = weights.count("/")
    on_hub = slashes >= 2 if is_checkpoint else slashes == 1  # owner/name/file (also in a subfolder), or owner/name
    if path.is_absolute() or weights.startswith((".", "~")) or "$" in weights or not on_hub:
        raise UserError(f"weights: {weights:.200} is neither a folder nor a file on this machine. {expected}")
    return None
