"""Write the files of a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from torch import Tensor

from its.audio.cycle import compare_with_sound
from its.media.atomic import make_folder, remove_partials, synchronise_folder
from its.media.colormap import apply_magma
from its.media.contained import contained, is_own_file
from its.media.encode import write_png, write_tensors, write_wav
from its.media.metadata import text_of
from its.methods.sample import CHECKPOINT, Result, Sample
from its.runs.records import RECORD, read_record, write_record
from its.runs.stored_video import write_sample_video

EXTRAS = {
    "image": "image.png",
    "latents": "latents.safetensors",
    "color": "color.png",
    "colormap": "colormap.png",
    "cycle": "cycle.png",
    "video": "video.mp4",
}
"""Files written in addition to the spectrogram and the sound, by their name in the key `save`."""
_COLOR_VIDEO = "color.mp4"
"""Written if the extras include both `color` and `video`."""


def is_done(folder: Path, extras: Sequence[str] = (), record: Mapping[str, Any] | None = None) -> bool:
    """Return whether a sample is complete with these extras. The record is read unless given."""
    record = record or read_record(folder)
    if record is None or record.get("status") != "ok":
        return False
    names = [EXTRAS[extra] for extra in extras]
    if {"color", "video"} <= set(extras):
        names.append(_COLOR_VIDEO)
    return all(is_own_file(folder / name) for name in names)


def write_sample(
    folder: Path, sample: Sample, record: Mapping[str, Any], extras: Sequence[str] = (), *, metadata: bool = False
) -> None:
    """Write a sample's files, and its record last.

    Args:
        folder: folder of the sample.
        sample: complete, failed or stopped sample.
        record: record without the outcome, from `its.runs.writer.make_record`.
        extras: keys of `EXTRAS`.
        metadata: whether pictures, sound and video include the metadata for `its rerun`.

    Raises:
        NotWritten: a file can't be written.
        UserError: the folder or its parent is a symbolic link.
    """
    contained(folder.parents[:2][-1], folder)
    make_folder(folder)
    (folder / RECORD).unlink(missing_ok=True)  # the sample is incomplete while its files change
    remove_partials(folder)
    outcome: dict[str, Any] = {"status": "failed", "error": sample.error, "traceback": sample.traceback}
    if sample.stopped is not None:
        outcome = {"status": "stopped", "stopped": dict(sample.stopped)}
    if sample.result is not None:
        outcome = {"status": "ok"}
        text = text_of(record) if metadata else None
        _write_files(folder, sample.result, extras, record, text)
        if "cycle" in extras and sample.result.format is not None:
            cycle = compare_with_sound(sample.result.spectrogram, sample.result.waveform, sample.result.format)
            write_png(folder / EXTRAS["cycle"], eight_bit(cycle.picture), text)
            outcome["cycle"] = {"vocoder": record["settings"]["vocoder"]["class"], **cycle.metrics()}
    write_record(folder, {**record, **outcome})
    synchronise_folder(folder)
    if sample.result is not None:
        (folder / CHECKPOINT).unlink(missing_ok=True)


def _write_files(
    folder: Path, result: Result, extras: Sequence[str], record: Mapping[str, Any], text: str | None
) -> None:
    available = {"spectrogram": result.spectrogram, "image": result.picture, "color": result.color}
    names = ("spectrogram", *extras)
    pictures = {name: eight_bit(x) for name, x in available.items() if x is not None and name in names}
    if "colormap" in extras:
        gray = result.spectrogram.mean(0) if result.spectrogram.ndim == 3 else result.spectrogram  # 3: stereo
        pictures["colormap"] = apply_magma(eight_bit(gray))
    for name, pixels in pictures.items():
        write_png(folder / f"{name}.png", pixels, text)
    pcm = sixteen_bit(result.waveform)
    write_wav(folder / "audio.wav", pcm, result.sample_rate, text)
    if "latents" in extras and result.latents is not None:
        write_tensors(folder / EXTRAS["latents"], {"latents": result.latents})
    if "video" in extras:
        write = partial(write_sample_video, record=record, waveform=pcm, sample_rate=result.sample_rate, comment=text)
        color = [pictures["color"]] if "color" in pictures else []
        write(folder / EXTRAS["video"], pictures=[*color, pictures["spectrogram"]])
        if color:
            write(folder / _COLOR_VIDEO, pictures=color, color_prompt=True)


# These use NumPy: torch would start threads in the writer's thread, which compete with those of the next batch.


def eight_bit(picture: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Convert (h, w) or (3, h, w) in [0, 1] to (h, w) or (h, w, 3) from 0 to 255, rounded."""
    return rearrange((picture.numpy().clip(0, 1) * 255).round(), "... h w -> h w ...").astype(np.uint8)


def sixteen_bit(waveform: Tensor) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Convert (n,) or (2, n) in [-1, 1] to 16-bit (n,) or (n, 2), rounded."""
    return rearrange((waveform.numpy().clip(-1, 1) * 32767).round(), "... n -> n ...").astype(np.int16)
