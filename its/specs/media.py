"""Pictures and sounds of the user's own, where a method takes them instead of a prompt.

A row names one as `{image: castle.png}` or `{audio: bell.wav}` in the place of a prompt. It is looked at when rows are
read, so that what can't be used is known before anything is made; it counts by its content, not by its name.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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

if TYPE_CHECKING:
    from PIL import Image

KINDS = ("image", "audio")
LARGEST = 2**29
"""Bytes of a picture or sound."""


@dataclass(kw_only=True)  # not frozen, as rows
class OwnFile:
    """A picture or a sound in the place of a prompt.

    Attributes:
        kind: what it is.
        path: where it is.
        sha256: of its content when the rows were read.
        words: what it shows or how it sounds, for names, scores and colours.
    """

    kind: Literal["image", "audio"]
    path: str
    sha256: str
    words: str


def own_file(entry: Mapping[str, Any], *, beside: Path, source: str) -> OwnFile:
    """`{image: FILE}` or `{audio: FILE}`, with `prompt` if wanted -> the file, which can be read.

    Args:
        entry: what stands in the place of a prompt.
        beside: folder that the path is relative to, if it is there; else it is relative to the current one.
        source: where this is written, for messages.

    Raises:
        UserError: it names no file, or one that can't be used.
    """
    kinds = [kind for kind in KINDS if kind in entry]
    for key in entry:
        if key not in (*KINDS, "prompt"):
            raise UserError(
                f"{source}: {key} is unknown in the place of a prompt; expected image or audio, and prompt."
                f"{nearest(str(key), (*KINDS, 'prompt'))}"
            )
    if len(kinds) != 1 or not isinstance(entry[kinds[0]], str) or not isinstance(entry.get("prompt", ""), str):
        expected = "expected {image: FILE} or {audio: FILE}, with prompt: TEXT if wanted"
        raise UserError(f"{source}: {expected}, got {dict(entry)!r:.80}")
    path = user_path(entry[kinds[0]])
    path = beside / path if os.path.exists(beside / path) else path
    words = entry.get("prompt") or " ".join(re.findall(r"\w+", path.stem.replace("_", " ")))
    try:
        content = read_limited(path, LARGEST)
        if kinds[0] == "image":
            open_picture(content)
        else:
            open_sound(content).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{source}: the {kinds[0]} {path!s:.200} can't be used: {reason}") from None
    kind: Literal["image", "audio"] = "image" if kinds[0] == "image" else "audio"
    return OwnFile(kind=kind, path=str(path), sha256=hashlib.sha256(content).hexdigest(), words=words)


def read_picture(file: OwnFile, canvas: tuple[int, int]) -> Tensor:
    """-> (3, H, W) in [0, 1], float32 on the CPU: as large as fits into the canvas, in its middle, on white.

    Transparent parts are white.

    Raises:
        ValueError: it is not what it was when the rows were read.
    """
    from PIL import Image, ImageOps

    fitted = ImageOps.pad(_decoded(_content(file)), canvas[::-1], Image.Resampling.LANCZOS, color="white")
    pixels = torch.frombuffer(bytearray(fitted.tobytes()), dtype=torch.uint8)
    return rearrange(pixels, "(h w c) -> c h w", h=canvas[0], w=canvas[1]).float() / 255


def read_sound(file: OwnFile, format: SpectrogramFormat, columns: int) -> Tensor:
    """-> (3, H, columns) in [0, 1], float32 on the CPU: the picture of its sound, at its own level.

    It is gray unless the format is stereo. What is longer is cut, what is shorter is followed by silence.

    Raises:
        ValueError: it is not what it was when the rows were read.
    """
    length = columns * format.hop_length
    with open_sound(_content(file)) as sound:
        rate = sound.samplerate
        needed = ceil(length * rate / format.sample_rate)
        waveform = torch.from_numpy(sound.read(needed, dtype="float32", always_2d=True))
    channels = to_mono(waveform.mT) if format.channels == 1 else waveform.mT[:2].expand(2, -1)
    heard = resample(channels, rate, format.sample_rate)[:, :length]
    heard = functional.pad(heard, (0, length - heard.shape[1]))
    picture = format.to_picture(format.log_mel(heard if format.channels == 1 else heard[None]))
    return picture[0].clamp(0, 1).expand(3, -1, -1)


def _content(file: OwnFile) -> bytes:
    content = read_limited(Path(file.path), LARGEST)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ValueError(f"{file.path} was changed while the run went on: start again")
    return content


def _decoded(content: bytes) -> Image.Image:
    """A picture as RGB, on white. Raises ValueError: it can't be used."""
    from PIL import Image

    pixels = to_tensor(open_picture(content), background=1)[0]
    return Image.fromarray(rearrange((pixels * 255).round().byte(), "c h w -> h w c").numpy())
