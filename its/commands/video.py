"""The command `its video`."""

from __future__ import annotations

from pathlib import Path

from its.output import say


def video(runs: list[Path], *, again: bool = False, metadata: bool = True) -> int:
    """Write videos of the samples of runs: a line moves over the picture in time with the sound.

    The video of a sample is video.mp4; those of its colour pictures are color.mp4, color_2.mp4 and so on. Existing
    videos are kept. The exit status is 1 if some videos can't be written.

    Args:
        runs: run directories of its predict.
        again: replace existing videos.
        metadata: write the sample's config into each video.

    Raises:
        UserError: a folder is not a run directory, or a sample lacks a file; nothing was made.
    """
    from its.runs.reader import read_runs
    from its.runs.stored_video import VIDEO
    from its.runs.videos import run_jobs, video_jobs

    complete = [sample for run in read_runs(runs) for sample in run.samples if sample.complete]
    jobs = [(sample, video_jobs(sample, again=again, metadata=metadata)) for sample in complete]
    jobs = [(sample, calls) for sample, calls in jobs if calls]
    for sample, _ in jobs:
        for name in ("spectrogram.png", "audio.wav"):
            sample.require(name)
    failed = run_jobs([(sample.folder, calls) for sample, calls in jobs])
    earlier = f", {len(complete) - len(jobs)} of them from before" if len(jobs) < len(complete) else ""
    say(f"{len(complete) - len(failed)} of {len(complete)} samples have {VIDEO}{earlier}")
    return 1 if failed else 0
