"""The command `its video`."""

from __future__ import annotations

from pathlib import Path

from its.output import say


def video(runs: list[Path], *, again: bool = False, metadata: bool = True) -> int:
    """Write videos of the samples of runs: a line moves over the picture in time with the sound.

    Each sample gets video.mp4, and each of its colour pictures a video of its own: color.mp4, color_2.mp4 and so on.
    Existing videos are kept. The exit status is 1 if some videos can't be written.

    Args:
        runs: folders that its predict wrote.
        again: replace existing videos.
        metadata: write into each video how the sample was made.

    Raises:
        UserError: a folder is no run, or a sample lacks a file; nothing was made.
    """
    from its.runs.reader import read_runs
    from its.runs.stored_video import VIDEO
    from its.runs.videos import run_jobs, video_jobs

    whole = [sample for run in read_runs(runs) for sample in run.samples if sample.complete]
    jobs = [(sample, video_jobs(sample, again=again, metadata=metadata)) for sample in whole]
    jobs = [(sample, calls) for sample, calls in jobs if calls]
    for sample, _ in jobs:
        for name in ("spectrogram.png", "audio.wav"):
            sample.require(name)
    failed = run_jobs([(sample.folder, calls) for sample, calls in jobs])
    earlier = f", {len(whole) - len(jobs)} of them from before" if len(jobs) < len(whole) else ""
    say(f"{len(whole) - len(failed)} of {len(whole)} samples have their {VIDEO}{earlier}")
    return 1 if failed else 0
