"""Media prompts: a user's image or sound file in place of a text prompt.

A row contains it as `{image: castle.png}` or `{audio: bell.wav}`. The file is validated when rows are read. The
identity of a sample depends on the file's content, not on its name.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from its.audio.spectrogram import SpectrogramFormat
from its.audio.waveform import resample, to_mono
from its.errors import UserError, nearest
from its.media.decode import open_picture, open_sound
from its.media.limited import read_limited, user_path
from its.media.pictures import to_tensor

KINDS = ("image", "audio")
LARGEST = 2**29
"""Maximum bytes of an image or sound file."""


@dataclass(kw_only=True)  # not frozen, like SampleSpec
class MediaPrompt:
    """An image or a sound in place of a text prompt.

    Attributes:
        kind: image or audio.
        path: path of the file.
        sha256: digest of its content when the rows were read.
        words: description of the content, used for sample names, scores and the colorizer's prompt.
    """

    kind: Literal["image", "audio"]
    path: str
    sha256: str
    words: str


def parse_media_prompt(entry: Mapping[str, Any], *, beside: Path, source: str) -> MediaPrompt:
    """Parse `{image: FILE}` or `{audio: FILE}`, with an optional `prompt`, and validate the file.

    Args:
        entry: value in place of a text prompt.
        beside: folder for relative paths; without the file in it, they are relative to the current folder.
        source: location of the entry, for messages.

    Raises:
        UserError: the entry has another form, or the file can't be read.
    """
    kinds = [kind for kind in KINDS if kind in entry]
    for key in entry:
        if key not in (*KINDS, "prompt"):
            hint = nearest(str(key), (*KINDS, "prompt"))
            raise UserError(f"{source}: unknown key {key}; expected image or audio, and optionally prompt.{hint}")
    if len(kinds) != 1 or not isinstance(entry[kinds[0]], str) or not isinstance(entry.get("prompt", ""), str):
        expected = "expected {image: FILE} or {audio: FILE}, optionally with prompt: TEXT"
        raise UserError(f"{source}: {expected}, got {dict(entry)!r:.80}")
    path = user_path(entry[kinds[0]])
    path = beside / path if os.path.exists(beside / path) else path
    words = entry.get("prompt") or " ".join(re.findall(r"\w+", path.stem.replace("_", " ")))
    kind: Literal["image", "audio"] = "image" if kinds[0] == "image" else "audio"
    try:
        content = read_limited(path, LARGEST)
        if kind == "image":
            open_picture(content)
        else:
            open_sound(content).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{source}: the {kind} {path!s:.200} can't be used: {reason}") from None
    return MediaPrompt(kind=kind, path=str(path), sha256=hashlib.sha256(content).hexdigest(), words=words)


def read_picture(
    file: MediaPrompt,
    canvas: tuple[int, int],
    *,
    trim: int = 0,
    background: int = 1,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Read an image, scaled to fit the visible part of the canvas and centred on a background.

    An image of the canvas's own size covers it, columns that are cut later included.

    Args:
        file: image.
        canvas: rows and columns (H, W).
        trim: columns at the end of the canvas that are cut later.
        background: gray value of the background, also where the image is transparent.
        transform: applied to the scaled image (3, h, w), before it is placed on the background; None for nothing.

    Returns:
        (3, H, W) in [0, 1], float32 on the CPU.

    Raises:
        ValueError: the file has changed since the rows were read.
    """
    rgb = to_tensor(open_picture(_content(file)), background=background)[0]
    rows, columns = canvas[0], canvas[1] if rgb.shape[1:] == canvas else canvas[1] - trim
    if rgb.shape[1:] != (rows, columns):
        from PIL import Image, ImageOps

        image = Image.fromarray(rearrange((rgb * 255).round().byte(), "c h w -> h w c").numpy())
        rgb = to_tensor(ImageOps.contain(image, (columns, rows), Image.Resampling.LANCZOS), background=background)[0]
    picture = rgb if transform is None else transform(rgb)
    top, left = round((rows - picture.shape[1]) / 2), round((columns - picture.shape[2]) / 2)
    margins = left, canvas[1] - left - picture.shape[2], top, rows - top - picture.shape[1]
    return functional.pad(picture, margins, value=background)


def read_mask(file: MediaPrompt, canvas: tuple[int, int], *, trim: int = 0) -> Tensor:
    """Read a mask like `read_picture`. Returns (1, H, W) with 1 where it is light and 0 elsewhere, also outside of it.

    Raises:
        ValueError: the file has changed since the rows were read.
    """
    return (read_picture(file, canvas, trim=trim, background=0).mean(0, keepdim=True) >= 0.5).float()


def picture_size(file: MediaPrompt) -> tuple[int, int]:
    """Return rows and columns of an image.

    Raises:
        ValueError: the file has changed since the rows were read.
    """
    width, height = open_picture(_content(file)).size
    return height, width


def read_sound(file: MediaPrompt, format: SpectrogramFormat, columns: int) -> Tensor:
    """Convert a sound, cut or padded with silence, to a spectrogram image at the sound's own level.

    Returns:
        (3, H, columns) in [0, 1], float32 on the CPU; gray unless the format is stereo.

    Raises:
        ValueError: the file has changed since the rows were read.
    """
    length = columns * format.hop_length
    with open_sound(_content(file)) as sound:
        rate = sound.samplerate
        count = ceil(length * rate / format.sample_rate)
        samples = torch.from_numpy(sound.read(count, dtype="float32", always_2d=True)).mT
    channels = to_mono(samples) if format.channels == 1 else samples[:2].expand(2, -1)
    waveform = resample(channels, rate, format.sample_rate)[:, :length]
    waveform = functional.pad(waveform, (0, length - waveform.shape[1]))
    picture = format.to_picture(format.log_mel(waveform if format.channels == 1 else waveform[None]))
    return picture[0].clamp(0, 1).expand(3, -1, -1)


def _content(file: MediaPrompt) -> bytes:
    content = read_limited(Path(file.path), LARGEST)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError(f"{file.path} has changed since the run began; start the run again")
    return content
