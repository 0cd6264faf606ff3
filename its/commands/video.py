"""`its video RUN...`: videos of samples that are there already."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from its.errors import UserError
from its.outputs.metadata import text_of
from its.outputs.stored import Stored, samples_of

VIDEO = "video.mp4"


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 when every sample has its video, 1 when some could not be made.

    Raises:
        UserError: a folder is no run, or a sample lacks a file; nothing was made.
    """
    parser = argparse.ArgumentParser(
        prog="its video",
        description="Write video.mp4 for every sample of RUN: a line moves over the picture in time with the sound. "
        "The same command again makes only what is missing.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder that its predict wrote")
    parser.add_argument("--again", action="store_true", help="also where there is a video already")
    parser.add_argument("--no-metadata", action="store_true", help="videos don't say how they were made")
    options = parser.parse_args(arguments)
    whole = [sample for run in options.runs for sample in samples_of(run) if sample.whole]
    missing = [sample for sample in whole if options.again or sample.file(VIDEO) is None]
    for sample in missing:
        for name in ("spectrogram.png", "audio.wav"):
            sample.need(name)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # encoding leaves Python's lock alone
        failed = list(pool.map(lambda sample: _made(sample, metadata=not options.no_metadata), missing)).count(False)
    earlier = f", {len(whole) - len(missing)} of them from before" if len(missing) < len(whole) else ""
    print(f"its: {len(whole) - failed} of {len(whole)} samples have their {VIDEO}{earlier}")
    return 1 if failed else 0


def _made(sample: Stored, *, metadata: bool) -> bool:
    try:
        write_video_of(sample, metadata=metadata)
    except (OSError, UserError, RuntimeError, KeyError) as error:
        print(f"its: failed: {sample.folder.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


def write_video_of(sample: Stored, *, metadata: bool) -> None:
    """Write the video of a sample from its files.

    Raises:
        UserError: one of them is missing.
        OSError: one can't be read, or the video can't be written.
    """
    import numpy as np
    import soundfile
    from PIL import Image

    from its.outputs.sample_video import write_sample_video

    waveform, rate = soundfile.read(sample.need("audio.wav"), dtype="int16")
    color = sample.file("color.png")
    write_sample_video(
        sample.folder / VIDEO,
        sample.record,
        spectrogram=np.asarray(Image.open(sample.need("spectrogram.png"))),
        color=None if color is None else np.asarray(Image.open(color).convert("RGB")),
        waveform=waveform,
        sample_rate=rate,
        comment=text_of(sample.record) if metadata else None,
    )
