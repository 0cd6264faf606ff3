"""The videos of a sample, with its sound and its prompts: `video.mp4`, and one for each colour picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from its.media.video import Array, write_video


def write_sample_video(
    path: Path,
    record: Mapping[str, Any],
    *,
    spectrogram: Array,
    color: Array | None,
    waveform: Array,
    sample_rate: int,
    comment: str | None,
) -> None:
    """Write `video.mp4`: the spectrogram, below the colour picture if there is one.

    Args:
        path: of the video.
        record: of the sample.
        spectrogram: (h, w) or (h, w, 3), 0 to 255.
        color: (h, w, 3), 0 to 255.
        waveform: (n,) or (n, 2), 16-bit.
        sample_rate: in Hz.
        comment: for the file's metadata.

    Raises:
        OSError: it can't be written.
    """
    write_video(
        path,
        [spectrogram] if color is None else [color, spectrogram],
        waveform,
        sample_rate,
        captions=_captions(record),
        note=_note(record),
        comment=comment,
    )


def write_color_video(
    path: Path,
    record: Mapping[str, Any],
    *,
    color: Array,
    waveform: Array,
    sample_rate: int,
    comment: str | None,
) -> None:
    """Write the video of one colour picture, without the spectrogram.

    Args:
        path: of the video.
        record: of the sample.
        color: (h, w, 3), 0 to 255.
        waveform: (n,) or (n, 2), 16-bit.
        sample_rate: in Hz.
        comment: for the file's metadata.

    Raises:
        OSError: it can't be written.
    """
    colorizer = record.get("settings", {}).get("colorizer")
    own = [f"color: {colorizer['prompt']}"] if isinstance(colorizer, Mapping) and "prompt" in colorizer else []
    write_video(
        path,
        [color],
        waveform,
        sample_rate,
        captions=[*_captions(record), *own],
        note=_note(record),
        comment=comment,
    )


def _captions(record: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {prompt}" for name, prompt in record["prompts"].items()]


def _note(record: Mapping[str, Any]) -> str:
    """Seed and weights of the sample, in one line."""
    weights = {
        str(w["name"]): w.get("embedded", False) for w in record.get("weights", {}).values() if w and "name" in w
    }
    names = [Path(name).name if Path(name).is_absolute() else name for name in weights]
    shown = [f"{name} (embedded)" if embedded else name for name, embedded in zip(names, weights.values(), strict=True)]
    return " - ".join([f"seed {record['seed']}", *dict.fromkeys(shown)])
