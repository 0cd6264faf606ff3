"""What a method makes of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from its.audio.spectrogram import SpectrogramFormat
from its.specs.spec import SampleSpec

CHECKPOINT = "checkpoint.safetensors"
"""File in the sample's folder where a method that takes long keeps its state, until the sample is whole."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a row became; all tensors float32 on the CPU.

    Attributes:
        latents: (c, h, w) clean latents, untrimmed; None where the method has none.
        spectrogram: (h, w) gray in [0, 1], row 0 the highest band: the image that sounds. In stereo (3, h, w).
        picture: (3, h, w) in [0, 1], the same latents through the picture's own codec.
        waveform: (n,) in [-1, 1]; in stereo (2, n).
        sample_rate: in Hz.
        color: (3, h, w) in [0, 1], whose channel mean is the spectrogram; None without a colorizer.
        format: of the spectrogram that was played, for the way back from the sound; None if it isn't known.
    """

    latents: Tensor | None
    spectrogram: Tensor
    picture: Tensor
    waveform: Tensor
    sample_rate: int
    color: Tensor | None = None
    format: SpectrogramFormat | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What came of one row: a result, or the reason why there is none.

    Attributes:
        row: what was asked for.
        result: None if it failed.
        error: why it failed, in one line.
        traceback: of the error, for debugging.
        timings: seconds by stage, for the batch that this sample was in.
        scores: what the method measured of it, JSON-serialisable.
        precision: where it was made at another than the run's.
        stopped: step and scores at which it was stopped early in favour of others of its prompts; None if it wasn't.
        evaluations: how often networks were run for it, `made`, and how often for a whole one, `whole`, where counted.
    """

    row: SampleSpec
    result: Result | None = None
    error: str | None = None
    traceback: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    precision: str | None = None
    stopped: Mapping[str, Any] | None = None
    evaluations: Mapping[str, int] | None = None
