"""Videos of samples on disk, made from the files of the sample."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from its.media.contained import is_own_file
from its.media.decode import naming, open_picture, open_sound
from its.media.metadata import text_of
from its.runs.reader import StoredSample
from its.runs.sample_media import REMEDY

if TYPE_CHECKING:
    from its.media.video import Array

VIDEO = "video.mp4"
_COLOR = re.compile(r"color(?:_([1-9]\d*))?\.png")


def color_pictures(folder: Path) -> list[Path]:
    """List the colour pictures of a sample, `color.png`, `color_2.png` and so on, in the order of their numbers."""
    found = [(int(match[1] or 1), path) for path in folder.iterdir() if (match := _COLOR.fullmatch(path.name))]
    return [path for _, path in sorted(found) if is_own_file(path)]


def color_video(picture: Path) -> Path:
    """Path of a colour picture's video: `color_2.mp4` for `color_2.png`."""
    return picture.with_suffix(".mp4")


def write_video_of(sample: StoredSample, *, metadata: bool) -> None:
    """Write `video.mp4` of a sample.

    Args:
        sample: must be whole.
        metadata: whether the video carries what made the sample, for `its rerun`.

    Raises:
        UserError: a file is missing.
        OSError: a file can't be read, or the video can't be written.
    """
    from its.runs.sample_video import write_sample_video

    waveform, rate = _sound(sample)
    color = sample.file("color.png")
    write_sample_video(
        sample.folder / VIDEO,
        sample.record,
        spectrogram=_pixels(sample.need("spectrogram.png")),
        color=None if color is None else _pixels(color, "RGB"),
        waveform=waveform,
        sample_rate=rate,
        comment=text_of(sample.record) if metadata else None,
    )


def write_color_video_of(sample: StoredSample, picture: Path, *, metadata: bool) -> None:
    """Write the video of one colour picture of a sample, beside the picture.

    Args:
        sample: must be whole.
        picture: one of `color_pictures`.
        metadata: whether the video carries what made the sample, for `its rerun`.

    Raises:
        UserError: the sound is missing.
        OSError: a file can't be read, or the video can't be written.
    """
    from its.runs.sample_video import write_color_video

    waveform, rate = _sound(sample)
    write_color_video(
        color_video(picture),
        sample.record,
        color=_pixels(picture, "RGB"),
        waveform=waveform,
        sample_rate=rate,
        comment=text_of(sample.record) if metadata else None,
    )


def _pixels(path: Path, mode: str | None = None) -> Array:
    import numpy as np

    with naming(path, REMEDY):
        picture = open_picture(path, formats=["PNG"])
    return np.asarray(picture if mode is None else picture.convert(mode))


def _sound(sample: StoredSample) -> tuple[Array, int]:
    path = sample.need("audio.wav")
    with naming(path, REMEDY), open_sound(path) as file:
        return file.read(dtype="int16"), int(file.samplerate)
