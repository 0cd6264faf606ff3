"""Write the videos of stored samples in parallel."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from its.errors import UserError
from its.media.contained import is_own_file
from its.runs.reader import StoredSample
from its.runs.stored_video import VIDEO, color_pictures, color_video, write_color_video_of, write_video_of

logger = logging.getLogger(__name__)

Job = Callable[[], None]


def video_jobs(sample: StoredSample, *, again: bool, metadata: bool) -> list[Job]:
    """Return functions that write a sample's missing videos, or with `again` all of its videos."""
    jobs: list[Job] = []
    if again or sample.file(VIDEO) is None:
        jobs.append(partial(write_video_of, sample, metadata=metadata))
    return [*jobs, *color_video_jobs(sample, color_pictures(sample.folder), again=again, metadata=metadata)]


def color_video_jobs(sample: StoredSample, pictures: Iterable[Path], *, again: bool, metadata: bool) -> list[Job]:
    """Return functions that write the missing videos of a sample's colour pictures, or with `again` all of them."""
    return [
        partial(write_color_video_of, sample, path, metadata=metadata)
        for path in pictures
        if is_own_file(path) and (again or not is_own_file(color_video(path)))
    ]


def run_jobs(jobs: Sequence[tuple[Path, Sequence[Job]]]) -> set[Path]:
    """Run jobs, grouped by the sample's folder. Log failures, and return the folders of samples with a failed job."""

    def succeeds(item: tuple[Path, Sequence[Job]]) -> bool:
        folder, sample_jobs = item
        try:
            for job in sample_jobs:
                job()
        except (OSError, UserError, RuntimeError, KeyError) as error:
            logger.error(f"failed: {folder.name}: {type(error).__name__}: {error}")
            return False
        return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # encoding releases the GIL
        return {folder for (folder, _), done in zip(jobs, pool.map(succeeds, jobs), strict=True) if not done}
