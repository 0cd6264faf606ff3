"""Write the videos of stored samples, several at once."""

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
    """Calls that write the videos which a sample lacks, or all of its videos."""
    jobs: list[Job] = []
    if again or sample.file(VIDEO) is None:
        jobs.append(partial(write_video_of, sample, metadata=metadata))
    return [*jobs, *color_video_jobs(sample, color_pictures(sample.folder), again=again, metadata=metadata)]


def color_video_jobs(sample: StoredSample, pictures: Iterable[Path], *, again: bool, metadata: bool) -> list[Job]:
    """Calls that write the videos which colour pictures of a sample lack, or all of their videos."""
    return [
        partial(write_color_video_of, sample, path, metadata=metadata)
        for path in pictures
        if is_own_file(path) and (again or not is_own_file(color_video(path)))
    ]


def run_jobs(jobs: Sequence[tuple[Path, Sequence[Job]]]) -> set[Path]:
    """Run the jobs of samples, each given by its folder. Report samples of which a job fails; return their folders."""

    def succeeds(item: tuple[Path, Sequence[Job]]) -> bool:
        folder, calls = item
        try:
            for call in calls:
                call()
        except (OSError, UserError, RuntimeError, KeyError) as error:
            logger.error(f"failed: {folder.name}: {type(error).__name__}: {error}")
            return False
        return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # encoding releases the GIL
        return {folder for (folder, _), done in zip(jobs, pool.map(succeeds, jobs), strict=True) if not done}
