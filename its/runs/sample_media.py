"""Pictures and sounds of samples, as scorers get them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from its.errors import UserError
from its.interfaces import Judged
from its.runs.reader import SOUND, SPECTROGRAM, StoredSample

LARGEST = 2**26
"""Pixels of a picture, or samples of a sound, that are read; more is none of ours, or a bomb."""


def judged(sample: StoredSample, role: str) -> Judged:
    """What a scorer of a role gets of a sample.

    Raises:
        UserError: a file is missing or damaged.
    """
    picture = read_picture(sample.folder / SPECTROGRAM)
    waveform, rate = read_sound(sample.folder / SOUND)
    return Judged(picture=picture, waveform=waveform, sample_rate=rate, prompt=sample.prompt(role))


def read_picture(path: Path) -> Tensor:
    """A PNG -> (h, w) gray in [0, 1], float32; of a colour picture, such as in stereo, the mean over channels.

    Raises:
        UserError: it can't be read.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > LARGEST:
                raise UserError(f"{path} has {image.width} x {image.height} pixels; expected {LARGEST} at most")
            gray = image.mode in ("L", "RGB")
            pixels = torch.from_numpy(np.array(image if gray else image.convert("RGB"))).float()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} can't be read: {error}; make the sample again") from None
    return (pixels if pixels.ndim == 2 else pixels.mean(2)) / 255


def read_sound(path: Path) -> tuple[Tensor, int]:
    """A sound -> (n,), float32, the mean of its channels; and its rate in Hz.

    Raises:
        UserError: it can't be read.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            if not 0 < file.frames <= LARGEST:
                raise UserError(f"{path} has {file.frames} samples of sound; expected 1 to {LARGEST}")
            sound = torch.from_numpy(file.read(dtype="float32", always_2d=True))
            return sound.mean(1), int(file.samplerate)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} can't be read: {error}; make the sample again") from None
