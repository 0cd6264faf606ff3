"""Pictures and sounds of samples, as scorers get them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from its.interfaces import ScorerInput
from its.media.decode import naming, open_picture, open_sound
from its.runs.reader import SOUND, SPECTROGRAM, StoredSample

REMEDY = "make the sample again"


def judged(sample: StoredSample, role: str) -> ScorerInput:
    """What a scorer of a role gets of a sample.

    Raises:
        UserError: a file is missing or damaged.
    """
    picture = read_picture(sample.need(SPECTROGRAM))
    waveform, rate = read_sound(sample.need(SOUND))
    return ScorerInput(picture=picture, waveform=waveform, sample_rate=rate, prompt=sample.prompt(role))


def read_picture(path: Path) -> Tensor:
    """Read a PNG -> (h, w) gray in [0, 1], float32; of a colour picture, such as in stereo, the mean over channels.

    Raises:
        UserError: it can't be read.
    """
    import numpy as np

    with naming(path, REMEDY):
        picture = open_picture(path, formats=["PNG"])
    pixels = torch.from_numpy(np.array(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))).float()
    return (pixels if pixels.ndim == 2 else pixels.mean(2)) / 255


def read_sound(path: Path) -> tuple[Tensor, int]:
    """Read a sound -> (n,), float32, the mean of its channels; and its rate in Hz.

    Raises:
        UserError: it can't be read.
    """
    with naming(path, REMEDY), open_sound(path) as file:
        return torch.from_numpy(file.read(dtype="float32", always_2d=True)).mean(1), int(file.samplerate)
