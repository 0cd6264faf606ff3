"""Write a video of a sample, with its prompts, seed and weights as captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from its.media.video import Array, write_video


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
        path: of the video.
        record: of the sample.
        pictures: stacked vertically; (h, w) or (h, w, 3), from 0 to 255.
        waveform: (n,) or (n, 2), 16-bit.
        sample_rate: in Hz.
        comment: metadata; None for none.
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
