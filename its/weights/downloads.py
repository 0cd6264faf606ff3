"""Downloads of all components together: said with their sizes, checked against the free disk, shown with progress."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from its.environment import local_rank
from its.errors import UserError
from its.interfaces import Component, Download, Files
from its.weights.source import WeightsNotFound

logger = logging.getLogger(__name__)

MARGIN = 64 * 2**20
"""Bytes that stay free beside a download."""


def joined(downloads: Iterable[Download]) -> list[Download]:
    """One download for each source: several components read one repository."""
    sizes: dict[tuple[Path, str], dict[str, int]] = {}
    sources: dict[tuple[Path, str], Files] = {}
    for download in downloads:
        key = download.source.folder, str(download.source.revision)
        sources.setdefault(key, download.source)
        sizes.setdefault(key, {}).update(download.sizes)
    return [Download(source=source, sizes=sizes[key]) for key, source in sources.items()]


def download(downloads: Sequence[Download]) -> None:
    """Download everything: first say what, and make sure that it fits.

    Raises:
        UserError: the disk has too little room; nothing was downloaded.
        its.weights.WeightsNotFound: a download failed.
    """
    wanted = joined(downloads)
    if not wanted:
        return
    if local_rank() == 0:
        total = check_room(wanted)
        for one in wanted:
            logger.info(f"downloading {described(one)}")
        logger.info(f"{size(total)} in all, to {_cache()}")
    for one in wanted:
        one.source.fetch(list(one.sizes))


def check_room(downloads: Iterable[Download]) -> int:
    """Check that downloads fit on the disk of the cache.

    The first process of each machine does it alone: when another one looks, some of the files may be there.

    Returns:
        Their bytes.

    Raises:
        UserError: they don't fit.
    """
    wanted = joined(downloads)
    total = sum(sum(one.sizes.values()) for one in wanted)
    if wanted and local_rank() == 0:
        folder = wanted[0].source.folder
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if total + MARGIN > free:
            raise UserError(
                f"the weights to download take {size(total)}, but {_cache()} has {size(free)} free: make room, set "
                "HF_HOME to a folder on another disk, or name local folders"
            )
    return total


def prepare(parts: Sequence[Component]) -> None:
    """Find the weights of all parts, then download together what is missing.

    Raises:
        its.weights.WeightsNotFound: weights are missing, as `Component.find`.
        its.errors.UserError: weights are of the wrong kind, the disk has too little room, or a download failed.
    """
    wanted = [one for part in parts for one in part.find()]
    try:
        download(wanted)
        for part in parts:
            part.prepare()
    except WeightsNotFound as missing:  # found, and then not downloaded: no fallback may hide that
        raise UserError(f"{missing}. The same command goes on where the download stopped") from None


def described(download: Download) -> str:
    """A download in a line: from where, how many files, how large."""
    count, total = len(download.sizes), sum(download.sizes.values())
    commit = str(download.source.revision)[:7]
    return f"{download.source.name} at {commit}: {count} file{'s' * (count > 1)}, {size(total)}"


def size(count: int) -> str:
    """Bytes as people read them, in decimal units."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return f"{count} bytes"


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
