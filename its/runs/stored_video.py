"""Write videos of samples, with prompts, seed and weights as captions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from its.media.contained import is_own_file
from its.media.metadata import text_of
from its.media.video import Array, write_video
from its.runs.reader import SOUND, SPECTROGRAM, StoredSample
from its.runs.sample_media import read_pixels, read_waveform

VIDEO = "video.mp4"
_COLOR = re.compile(r"color(?:_([1-9]\d*))?\.png")


def color_pictures(folder: Path) -> list[Path]:
    """List the colour pictures of a sample, `color.png`, `color_2.png` and so on, in the order of their numbers."""
    numbered = [(int(match[1] or 1), path) for path in folder.iterdir() if (match := _COLOR.fullmatch(path.name))]
    return [path for _, path in sorted(numbered) if is_own_file(path)]


def color_video(picture: Path) -> Path:
    """Return the path of a colour picture's video: `color_2.mp4` for `color_2.png`."""
    return picture.with_suffix(".mp4")


def write_video_of(sample: StoredSample, *, metadata: bool) -> None:
    """Write a sample's `video.mp4`: the spectrogram, below `color.png` if the sample has one.

    Args:
        sample: complete sample.
        metadata: whether to include the metadata for `its rerun`.

    Raises:
        UserError: a file is missing or can't be read.
        NotWritten: the video can't be written.
    """
    pictures = [sample.require(SPECTROGRAM)]
    if (color := sample.file("color.png")) is not None:
        pictures.insert(0, color)
    _write(sample.folder / VIDEO, sample, [read_pixels(path) for path in pictures], metadata=metadata)


def write_color_video_of(sample: StoredSample, picture: Path, *, metadata: bool) -> None:
    """Write the video of one of a sample's `color_pictures`, beside the picture.

    Args and Raises: as `write_video_of`.
    """
    _write(color_video(picture), sample, [read_pixels(picture)], metadata=metadata, color_prompt=True)


def _write(
    path: Path, sample: StoredSample, pictures: Sequence[Array], *, metadata: bool, color_prompt: bool = False
) -> None:
    waveform, rate = read_waveform(sample.require(SOUND), "int16")
    comment = text_of(sample.record) if metadata else None
    write_sample_video(path, sample.record, pictures, waveform, rate, comment=comment, color_prompt=color_prompt)


def write_sample_video(
    path: Path,
    record: Mapping[str, Any],
    pictures: Sequence[Array],
    waveform: Array,
    sample_rate: int,
    *,
    comment: str | None,
    color_prompt: bool = False,
) -> None:
    """Write a video of a sample.

    Args:
        path: path of the video.
        record: record of the sample.
        pictures: pictures to stack vertically; (h, w) or (h, w, 3), from 0 to 255.
        waveform: 16-bit sound (n,) or (n, 2).
        sample_rate: sample rate in Hz.
        comment: metadata, or None.
        color_prompt: whether to add the colorizer's prompt to the captions.

    Raises:
        NotWritten: the video can't be written.
    """
    captions = [f"{name}: {prompt}" for name, prompt in record["prompts"].items()]
    colorizer = record.get("settings", {}).get("colorizer")
    if color_prompt and isinstance(colorizer, Mapping) and "prompt" in colorizer:
        captions.append(f"color: {colorizer['prompt']}")
    write_video(path, pictures, waveform, sample_rate, captions=captions, note=_note(record), comment=comment)


def _note(record: Mapping[str, Any]) -> str:
    """Join the seed and the names of the weights in one line, without the folders of local weights."""
    weights = {str(w["name"]): w.get("embedded") for w in record.get("weights", {}).values() if w and "name" in w}
    names = (
        (Path(name).name if Path(name).is_absolute() else name) + (" (embedded)" if embedded else "")
        for name, embedded in weights.items()
    )
    return " - ".join([f"seed {record['seed']}", *dict.fromkeys(names)])
