"""The folder that keeps a finished sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from torch import Tensor

from its.audio.cycle import go_round
from its.media.atomic import make_folder, remove_partials, synchronise_folder
from its.media.colormap import apply_magma
from its.media.contained import contained, is_own_file
from its.media.encode import write_png, write_tensors, write_wav
from its.media.metadata import text_of
from its.methods.sample import CHECKPOINT, Result, Sample
from its.runs.records import RECORD, read_record, write_record
from its.runs.sample_video import write_color_video, write_sample_video

EXTRAS = ("image", "latents", "color", "colormap", "cycle", "video")
"""What `save` can ask for, besides the spectrogram and the sound."""


def is_done(folder: Path, extras: Sequence[str] = (), record: Mapping[str, Any] | None = None) -> bool:
    """Whether a sample is whole, with everything that is asked for. Its record is read unless it is at hand."""
    record = record or read_record(folder)
    if record is None or record.get("status") != "ok":
        return False
    wanted = [_FILES[extra] for extra in extras]
    if {"color", "video"} <= set(extras):
        wanted.append(_COLOR_VIDEO)
    return all(is_own_file(folder / name) for name in wanted)


def write_sample(
    folder: Path,
    sample: Sample,
    record: Mapping[str, Any],
    extras: Sequence[str] = (),
    *,
    metadata: bool = False,
) -> None:
    """Write a sample's files, and last of all, atomically, its record.

    Args:
        folder: the sample's own.
        sample: what to write.
        record: the record, complete but for `status` and `error`.
        extras: some of `EXTRAS`.
        metadata: whether pictures, sound and video say how they were made.

    Raises:
        NotWritten: a file can't be written.
        UserError: the folder, or the one above it, is a symbolic link.
    """
    contained(folder.parents[1], folder)
    make_folder(folder)
    (folder / RECORD).unlink(missing_ok=True)  # while files change, the sample is not whole
    remove_partials(folder)
    outcome: dict[str, Any] = {"status": "failed", "error": sample.error, "traceback": sample.traceback}
    if sample.stopped is not None:
        outcome = {"status": "stopped", "stopped": dict(sample.stopped)}
    if sample.result is not None:
        outcome = {"status": "ok"}
        text = text_of(record) if metadata else None
        _write_files(folder, sample.result, extras, record, text)
        if "cycle" in extras and sample.result.format is not None:
            cycle = go_round(sample.result.spectrogram, sample.result.waveform, sample.result.format)
            write_png(folder / _FILES["cycle"], eight_bit(cycle.picture), text)
            outcome["cycle"] = {"vocoder": record["settings"]["vocoder"]["class"], **cycle.figures()}
    write_record(folder, {**record, **outcome})
    synchronise_folder(folder)
    if sample.result is not None:
        (folder / CHECKPOINT).unlink(missing_ok=True)


_FILES = {
    "image": "image.png",
    "latents": "latents.safetensors",
    "color": "color.png",
    "colormap": "colormap.png",
    "cycle": "cycle.png",
    "video": "video.mp4",
}
_COLOR_VIDEO = "color.mp4"
"""Written where `video` and `color` are both asked for."""


def _write_files(
    folder: Path, result: Result, extras: Sequence[str], record: Mapping[str, Any], text: str | None
) -> None:
    shown = {"spectrogram": result.spectrogram, "image": result.picture, "color": result.color}
    pictures = {name: eight_bit(x) for name, x in shown.items() if x is not None and name in ("spectrogram", *extras)}
    if "colormap" in extras:
        gray = result.spectrogram.mean(0) if result.spectrogram.ndim == 3 else result.spectrogram  # 3: stereo
        pictures["colormap"] = apply_magma(eight_bit(gray))
    for name, pixels in pictures.items():
        write_png(folder / f"{name}.png", pixels, text)
    pcm = sixteen_bit(result.waveform)
    write_wav(folder / "audio.wav", pcm, result.sample_rate, text)
    if "latents" in extras and result.latents is not None:
        write_tensors(folder / _FILES["latents"], {"latents": result.latents})
    if "video" in extras:
        color = pictures.get("color")
        write_sample_video(
            folder / _FILES["video"],
            record,
            spectrogram=pictures["spectrogram"],
            color=color,
            waveform=pcm,
            sample_rate=result.sample_rate,
            comment=text,
        )
        if color is not None:
            write_color_video(
                folder / _COLOR_VIDEO, record, color=color, waveform=pcm, sample_rate=result.sample_rate, comment=text
            )


# In NumPy: torch would start threads of its own in the writer's thread, against those that make the next batch.


def eight_bit(picture: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(h, w) or (3, h, w) in [0, 1] -> (h, w) or (h, w, 3) of 0 to 255, rounded and not truncated."""
    return rearrange((picture.numpy().clip(0, 1) * 255).round(), "... h w -> h w ...").astype(np.uint8)


def sixteen_bit(waveform: Tensor) -> np.ndarray[Any, np.dtype[np.int16]]:
    """(n,) or (2, n) in [-1, 1] -> (n,) or (n, 2), rounded and not truncated."""
    return rearrange((waveform.numpy().clip(-1, 1) * 32767).round(), "... n -> n ...").astype(np.int16)
