"""Download the weights of all components together, after a check of the free disk space."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path

from huggingface_hub import constants

from its.environment import local_rank
from its.errors import UserError
from its.interfaces import Component, Download
from its.weights.hub import count_bytes
from its.weights.source import WeightsNotFound

logger = logging.getLogger(__name__)

Report = Callable[[int, int], None]
"""Called with the received and the total bytes of a download."""

_report: ContextVar[Report | None] = ContextVar("report", default=None)

MARGIN = 64 * 2**20
"""Bytes to leave free on the disk."""


def merge_downloads(downloads: Iterable[Download]) -> list[Download]:
    """Merge downloads from the same repository and revision."""
    merged: dict[tuple[Path, str], Download] = {}
    for download in downloads:
        key = download.source.folder, str(download.source.revision)
        first = merged.get(key, download)
        merged[key] = Download(source=first.source, sizes={**first.sizes, **download.sizes})
    return list(merged.values())


def download(downloads: Sequence[Download]) -> None:
    """Check the disk space, log the sizes, and download.

    Raises:
        UserError: the disk has too little free space; nothing was downloaded.
        WeightsNotFound: a download failed.
    """
    merged = merge_downloads(downloads)
    total = check_disk_space(merged)
    if merged and local_rank() == 0:
        for item in merged:
            logger.info(f"downloading {describe(item)}")
        logger.info(f"{size(total)} in total, to {constants.HF_HUB_CACHE}")
    report = _report.get()
    with nullcontext() if report is None else count_bytes(_accumulate(report, total)):
        for item in merged:
            item.source.fetch(list(item.sizes))


@contextmanager
def report_downloads(report: Report) -> Iterator[None]:
    """Context in which `download` calls `report`, and shows no progress bars. An exception in it ends the download."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


def _accumulate(report: Report, total: int) -> Callable[[int], None]:
    received = 0

    def count(size: int) -> None:
        nonlocal received
        received += size
        report(received, total)

    return count


def check_disk_space(downloads: Iterable[Download]) -> int:
    """Check that downloads fit on the disk, on the first process of each machine, and return their total bytes.

    Raises:
        UserError: the disk has too little free space.
    """
    merged = merge_downloads(downloads)
    total = sum(sum(download.sizes.values()) for download in merged)
    if merged and local_rank() == 0:
        folder = merged[0].source.folder
        free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
        if total + MARGIN > free:
            raise UserError(
                f"the weights to download take {size(total)}, but {constants.HF_HUB_CACHE} has {size(free)} free: "
                "free some space, set HF_HOME to a folder on another disk, or use local folders of weights"
            )
    return total


def prepare(components: Sequence[Component]) -> None:
    """Find the weights of all components, then download missing files.

    Raises:
        WeightsNotFound: weights are missing.
        UserError: weights are of the wrong kind, the disk has too little free space, or a download failed.
    """
    downloads = [item for component in components for item in component.find()]
    try:
        download(downloads)
        for component in components:
            component.prepare()
    except WeightsNotFound as error:  # a failed download must not trigger the fallback
        raise UserError(f"{error}. Run the same command again to resume the download") from None


def describe(download: Download) -> str:
    """Format source, number of files and size of a download."""
    count, total = len(download.sizes), sum(download.sizes.values())
    commit = str(download.source.revision)[:7]
    return f"{download.source.name} at {commit}: {count} file{'s' * (count > 1)}, {size(total)}"


def size(count: int) -> str:
    """Format bytes in decimal units."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return f"{count} bytes"
