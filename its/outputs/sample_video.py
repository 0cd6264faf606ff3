"""`video.mp4` of a sample: its pictures, its sound, its prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from its.outputs.video import Array, write_video


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
    """Write it, with the colour picture above the spectrogram where there is one.

    Args:
        path: where to.
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
        captions=[f"{name}: {prompt}" for name, prompt in record["prompts"].items()],
        note=_note(record),
        comment=comment,
    )


def _note(record: Mapping[str, Any]) -> str:
    """Seed and weights: whoever sees a sample sees what made it."""
    weights = {str(w["name"]): w.get("embedded", False) for w in record["weights"].values() if "name" in w}
    names = [Path(name).name if Path(name).is_absolute() else name for name in weights]
    shown = [f"{name} (embedded)" if embedded else name for name, embedded in zip(names, weights.values(), strict=True)]
    return " - ".join([f"seed {record['seed']}", *dict.fromkeys(shown)])
