"""Find the source behind a name of weights: a pack, a local folder or file, the hub's cache, the hub."""

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
    """Find a source that has every file that is needed. Nothing but small files is downloaded.

    A snapshot in the hub's cache is taken before the hub is asked. Where the hub can't be asked, a snapshot that lacks
    files which are only useful is taken too.

    Args:
        weights: `pack:NAME`, a local folder or file, `owner/name` on the hub, or `owner/name/file`.
        revision: branch, tag or commit on the hub; None for the pinned one, or else the default branch.
        select: names of the files that are needed from a source; raises WeightsNotFound where one is missing.

    Returns:
        The source, and the names.

    Raises:
        WeightsNotFound: something is missing, or can't be downloaded.
        UserError: the weights are of the wrong kind, or damaged.
    """
    if (local := _local(weights)) is not None:
        return local, tuple(select(local))
    repository, checkpoint = _on_hub(weights)
    revision = revision or hub.pinned(repository)
    cached = hub.cached(repository, revision, name=weights, checkpoint=checkpoint)
    if cached is not None:
        cached.strict = True
        try:
            return cached, tuple(select(cached))
        except WeightsNotFound:
            cached.strict = False
    try:
        listed = hub.listed(repository, revision, name=weights, checkpoint=checkpoint)
    except WeightsNotFound as unreachable:
        if cached is None:
            raise
        try:
            return cached, tuple(select(cached))
        except WeightsNotFound as partial:
            reason = f"{partial.reason} in the cache ({cached.folder}), and {unreachable.reason}"
            raise WeightsNotFound(reason, unreachable.remedy) from None
    return listed, tuple(select(listed))


def _local(weights: str) -> Source | None:
    """Weights that are no repository of the hub; None for those that are one by their name."""
    if weights.startswith("pack:"):
        name = weights.removeprefix("pack:")
        if name not in registry.packs():
            known = ", ".join(registry.packs()) or "none"
            raise UserError(f"weights: no pack is called {name}. There are: {known}")
        return folder_source(weights, registry.packs()[name].folder, embedded=True)
    expected = "Expected a diffusers folder, a checkpoint file, or owner/name on the hub"
    if not weights.strip() or not weights.isprintable():
        raise UserError(f"weights: {weights!r:.200} is no name. {expected}")
    path = user_path(weights)
    if os.path.isdir(path):
        try:
            return folder_source(weights, path)
        except OSError as error:
            raise UserError(f"weights: {weights}: {error.filename} can't be read: {error.strerror}") from None
    if os.path.isfile(path):
        if path.suffix.lower() not in CHECKPOINTS:
            raise UserError(f"weights: {weights} is a file that is not {', '.join(CHECKPOINTS)}. {expected}")
        return folder_source(weights, path.parent, checkpoint=path.name)
    slashes, is_file = weights.count("/"), path.suffix.lower() in CHECKPOINTS
    on_hub = slashes >= 2 if is_file else slashes == 1  # owner/name/file, also in a subfolder; owner/name
    if path.is_absolute() or weights.startswith((".", "~")) or "$" in weights or not on_hub:
        raise UserError(f"weights: {weights:.200} is neither a folder nor a file on this machine. {expected}")
    return None


def _on_hub(weights: str) -> tuple[str, str | None]:
    """`owner/name` and the file in it that is named; None if none is."""
    parts = weights.split("/", 2)
    return "/".join(parts[:2]), parts[2] if len(parts) > 2 else None
