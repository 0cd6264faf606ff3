"""Read the pictures and sounds of samples in run directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from its.interfaces import ScorerInput
from its.media.decode import naming, open_picture, open_sound
from its.runs.reader import SOUND, SPECTROGRAM, StoredSample

REMEDY = "make the sample again"


def load_scorer_input(sample: StoredSample, role: str) -> ScorerInput:
    """Read a sample's picture and sound, with its prompt for a role, "visual" or "audio".

    Raises:
        UserError: a file is missing or damaged.
    """
    picture = read_picture(sample.require(SPECTROGRAM))
    waveform, rate = read_sound(sample.require(SOUND))
    return ScorerInput(picture=picture, waveform=waveform, sample_rate=rate, prompt=sample.prompt(role))


def read_picture(path: Path) -> Tensor:
    """Read a PNG as gray, (h, w) in [0, 1], float32. The channels of colour pictures are averaged.

    Raises:
        UserError: the picture can't be read.
    """
    pixels = torch.from_numpy(read_pixels(path)).float()
    return (pixels if pixels.ndim == 2 else pixels.mean(2)) / 255


def read_pixels(path: Path) -> np.ndarray[Any, Any]:
    """Read a PNG as (h, w) or (h, w, 3), from 0 to 255.

    Raises:
        UserError: the picture can't be read.
    """
    with naming(path, REMEDY):
        picture = open_picture(path, formats=["PNG"])
    return np.array(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))


def read_sound(path: Path) -> tuple[Tensor, int]:
    """Read the mean (n,) of a sound's channels, float32, and the sample rate in Hz.

    Raises:
        UserError: the sound can't be read.
    """
    waveform, rate = read_waveform(path, "float32")
    return torch.from_numpy(waveform.reshape(len(waveform), -1)).mean(1), rate


def read_waveform(path: Path, dtype: str) -> tuple[np.ndarray[Any, Any], int]:
    """Read a sound as (n,) or (n, channels) of this dtype, and the sample rate in Hz.

    Raises:
        UserError: the sound can't be read.
    """
    with naming(path, REMEDY), open_sound(path) as file:
        return file.read(dtype=dtype), int(file.samplerate)
