"""`its video RUN...`: make the videos of samples that exist."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from its.errors import UserError
from its.media.contained import is_own_file
from its.output import say
from its.runs.reader import StoredSample, read_runs
from its.runs.stored_video import VIDEO, color_pictures, color_video, write_color_video_of, write_video_of

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 if every sample has its videos, 1 if some could not be made.

    Raises:
        UserError: a folder is no run, or a sample lacks a file; nothing was made.
    """
    parser = argparse.ArgumentParser(
        prog="its video",
        description="Write video.mp4 for every sample of RUN: a line moves over the picture in time with the sound. "
        "Each colour picture also gets a video of its own: color.mp4, color_2.mp4... The same command again makes only "
        "what is missing.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder that its predict wrote")
    parser.add_argument("--again", action="store_true", help="make videos anew that exist already")
    parser.add_argument("--no-metadata", action="store_true", help="leave out of the videos how they were made")
    options = parser.parse_args(arguments)
    whole = [sample for run in read_runs(options.runs) for sample in run.samples if sample.whole]
    jobs = {sample.folder: _jobs(sample, again=options.again, metadata=not options.no_metadata) for sample in whole}
    missing = [sample for sample in whole if jobs[sample.folder]]
    for sample in missing:
        for name in ("spectrogram.png", "audio.wav"):
            sample.need(name)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # encoding releases the GIL
        failed = list(pool.map(lambda sample: _made(sample, jobs[sample.folder]), missing)).count(False)
    earlier = f", {len(whole) - len(missing)} of them from before" if len(missing) < len(whole) else ""
    say(f"its: {len(whole) - failed} of {len(whole)} samples have their {VIDEO}{earlier}")
    return 1 if failed else 0


def _jobs(sample: StoredSample, *, again: bool, metadata: bool) -> list[Callable[[], None]]:
    """Calls that write the videos which a sample lacks, or all of them."""
    jobs: list[Callable[[], None]] = []
    if again or sample.file(VIDEO) is None:
        jobs.append(partial(write_video_of, sample, metadata=metadata))
    pictures = [path for path in color_pictures(sample.folder) if again or not is_own_file(color_video(path))]
    return [*jobs, *(partial(write_color_video_of, sample, path, metadata=metadata) for path in pictures)]


def _made(sample: StoredSample, jobs: Sequence[Callable[[], None]]) -> bool:
    """Run the jobs of one sample. Report an error and return False if one of them fails."""
    try:
        for job in jobs:
            job()
    except (OSError, UserError, RuntimeError, KeyError) as error:
        logger.error(f"failed: {sample.folder.name}: {type(error).__name__}: {error}")
        return False
    return True
